"""The choice of models × attacks × ε on the two measuring pages, and the list of sweeps that are not run yet."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitAPIException

from core import specs
from core.jobs import queue
from core.storage import store
from ui.app import jobs, sources
from ui.form import controls, model_picker
from ui.form.select import select, select_many
from ui.measure.sweep_views import KINDS, TITLES, attack_text, curve_name, kind_of, norm_of
from ui.show import model_names
from ui.text import ANY_CLASS, both, say


def choose(page: str, *, start: int = 1) -> tuple[specs.CompareSpec, list[store.Artifact]] | None:
    """Draw the choice of models, attacks, ε, n and target; None, with an explanation on the page, if it is invalid."""
    _first_view(page)
    _pin(page)
    with st.container(border=True):
        models = model_picker.pick_many(page, start=start)
        if not models:
            return None
        kinds = select_many(
            page,
            "attacks",
            "Attacks",
            list(KINDS),
            text=TITLES.__getitem__,
            default=["fgsm"],
            placeholder="Choose attacks",
            help="\n\n".join(
                f"**{cls.title}**: {cls.help}" for cls in map(specs.METHODS.get, specs.sweepable()) if cls
            ),
        )
        ladder, count = st.columns([3, 1])
        with ladder:
            _usual_ladders(page, kinds)
            eps = controls.eps_ladder(page)
        with count:
            n = controls.field(page, specs.CompareSpec, "n")
        target = _target(page, models)
        with st.expander("Settings of the attacks", icon=":material/tune:"):
            settings, seed = _settings(page, kinds)
    if not kinds:
        st.info("Choose at least one attack.", icon=":material/info:")
        return None
    if eps is None:
        return None
    attacks = [{**KINDS[kind], **settings[KINDS[kind]["name"]]} for kind in KINDS if kind in kinds]
    spec = controls.build(
        specs.CompareSpec,
        models=[model.id for model in models],
        attacks=attacks,
        eps=eps,
        n=n,
        target=None if target == "any" else target,
        seed=seed,
    )
    return None if spec is None else (spec, models)


LADDERS: dict[str, tuple[float, ...]] = {
    "linf": specs.DEFAULT_EPS,
    "l2": (0, 0.5, 1, 1.5, 2, 2.5, 3),
    "l1": (0, 5, 10, 15, 20, 25, 30),
    "l0": (0, 1, 2, 5, 10, 15, 20),
}
"""Budgets that say something on digits, by norm."""


def _usual_ladders(page: str, kinds: Sequence[str]) -> None:
    """Draw a button for each chosen norm that puts usual budgets in its units into the box, if any is not ℓ∞."""
    found = {norm_of(_method(kind)) for kind in kinds}
    if not found - {"linf"}:
        return

    def put(norm: str) -> None:
        st.session_state[f"{page}_eps"] = " ".join(f"{value:g}" for value in LADDERS[norm])

    with st.container(horizontal=True):
        for norm in (norm for norm in LADDERS if norm in found):
            name = f"{say(norm)} ladder"
            st.button(
                name,
                key=f"{page}_ladder_{norm}",
                type="tertiary",
                icon=":material/stairs:",
                help="ε is measured in the units of the norm: put budgets into the box that are usual for this one.",
                on_click=put,
                args=(norm,),
            )


def _method(kind: str) -> specs.Method:
    """The method of a kind with its defaults; a surrogate is filled in where one is needed."""
    fields = dict(KINDS[kind])
    cls = specs.METHODS[fields["name"]]
    return cls(**fields, **({"surrogate": "any"} if cls.needs_surrogate else {}))


def _target(page: str, models: Sequence[store.Artifact]) -> int | str:
    names = min((model.card["class_names"] for model in models), key=len)
    if st.session_state.get(f"{page}_target", "any") not in ("any", *range(len(names))):
        st.session_state[f"{page}_target"] = "any"  # the models chosen now have fewer classes
    return controls.a_class(page, names, name="target", label="Target class", extra=ANY_CLASS)


def _settings(page: str, kinds: Sequence[str]) -> tuple[dict[str, dict[str, Any]], int]:
    """The settings of each method (defaults of those not chosen), and the seed."""
    settings: dict[str, dict[str, Any]] = {kind["name"]: {} for kind in KINDS.values()}
    wanted = {KINDS[kind]["name"] for kind in kinds}
    for name in settings:
        if name not in wanted or len(specs.METHODS[name].model_fields) == 1:
            continue
        st.markdown(f"**{specs.METHODS[name].title}**", help=specs.METHODS[name].help)
        settings[name] = controls.method_settings(page, name, skip=("norm", "surrogate"))
        if specs.METHODS[name].needs_surrogate:
            surrogate = model_picker.pick(page, name=f"{name}_surrogate", text="Surrogate: the model it is made on")
            settings[name]["surrogate"] = surrogate.id if surrogate else ""
        if name == "fgsm":
            st.caption(
                "Clipped: x' = clip(x + ε·sign ∇ₓJ, 0, 1), an image again. Not clipped: the exercise's literal "
                "x + ε·sign ∇ₓJ, whose pixels leave [0, 1]; it is no image any more, and usually fools the model more "
                "often."
            )
    with st.columns(3)[0]:
        seed = controls.field(page, specs.CompareSpec, "seed")
    return settings, seed


def _first_view(page: str) -> None:
    """On a first visit without settings in the address, choose sweeps that are stored, so that the page shows them."""
    seen = f"_{page}_seen"
    if seen in st.session_state:
        return
    st.session_state[seen] = True
    if any(str(key).startswith(f"{page}_") for key in (*st.session_state, *st.query_params)):
        return
    done = [
        (str(result.card["created"]), model, spec)
        for model in sources.models()
        for result in store.results(model.id, store.default_root())
        if isinstance(spec := result.spec(), specs.SweepSpec) and spec.threshold == 0 and kind_of(spec.attack) in KINDS
    ]
    if not done:
        return
    _, first, newest = max(done, key=lambda item: item[0])
    data = sources.model_spec(first).data
    together = [
        (model, spec)
        for _, model, spec in sorted(done, key=lambda item: item[0], reverse=True)
        if sources.model_spec(model).data == data
        and (spec.eps, spec.n, spec.seed, spec.target) == (newest.eps, newest.n, newest.seed, newest.target)
    ]
    settings: dict[str, dict[str, Any]] = {}
    for _, spec in together:
        fields = spec.attack.model_dump(exclude={"name", "norm"})
        settings.setdefault(spec.attack.slug(), fields)
    fitting = [
        (m, s) for m, s in together if settings[s.attack.slug()] == s.attack.model_dump(exclude={"name", "norm"})
    ]
    values: dict[str, Any] = {
        "models": list(dict.fromkeys(model.id for model, _ in fitting))[:4],
        "attacks": [kind for kind in KINDS if kind in {kind_of(spec.attack) for _, spec in fitting}],
        "eps": " ".join(repr(eps).removesuffix(".0") for eps in newest.eps),
        "n": newest.n,
        "seed": newest.seed,
        "target": "any" if newest.target is None else newest.target,
        **{f"{method}_{name}": value for method, fields in settings.items() for name, value in fields.items()},
    }
    for name, value in values.items():
        st.session_state[f"{page}_{name}"] = value


def _pin(page: str) -> None:
    """Write into the address what was set by the first view or by another page."""
    for name in _names():
        key = f"{page}_{name}"
        if key not in st.session_state:
            continue
        value = st.session_state[key]
        with contextlib.suppress(StreamlitAPIException):  # once the widget is bound, the next line is enough
            words = [str(item) for item in value] if isinstance(value, list) else str(value)
            st.query_params[key] = str(value).lower() if isinstance(value, bool) else words
        st.session_state[key] = value


def _names() -> list[str]:
    """Second halves of the keys of all widgets of the choice, including the slider."""
    methods = {str(kind["name"]): specs.METHODS[str(kind["name"])] for kind in KINDS.values()}
    settings = [
        f"{method}_{name}"
        for method, cls in methods.items()
        for name in cls.model_fields
        if name not in ("name", "norm")
    ]
    return ["models", "attacks", "eps", "n", "seed", "target", "at", *settings]


def run_missing(
    page: str, spec: specs.CompareSpec, models: Sequence[store.Artifact], missing: Sequence[specs.SweepSpec]
) -> None:
    """Draw the list of sweeps that are not run yet with a button that runs them, or the job that does."""
    if not missing:
        return
    names, root = model_names.short_names(models), store.default_root()

    def appear(job: queue.Job) -> None:
        if any(store.located(sweep, root) is not None for sweep in missing):
            st.rerun()  # each curve is drawn as soon as it is there

    job = jobs.panel(page, spec, live=appear)
    if job is not None and job.live:
        return
    everything = len(missing) == len(spec.sweeps())
    listed = [curve_name(names, sweep) for sweep in missing]
    with st.container(border=True):
        st.markdown(
            "**Not run yet with these settings**"
            if everything
            else f"**{len(missing)} of {len(spec.sweeps())} not run yet**"
        )
        st.caption(", ".join(listed[:12]) + (f" and {len(listed) - 12} more" if len(listed) > 12 else "") + ".")
        text = (
            f"Run {attack_text(missing[0].attack)} on {names[missing[0].model]}"
            if len(missing) == 1
            else f"Run these {len(missing)} sweeps"
        )
        if st.button(text, type="primary", icon=":material/play_arrow:", key=f"{page}_run"):
            jobs.start(spec)


def eps_slider(page: str, ladder: Sequence[float], default: float = 0.1) -> float:
    """Draw a slider over the values of the ladder; if the ladder changes, it moves to the nearest value."""
    key, options = f"{page}_at", [float(value) for value in ladder]
    held = st.session_state.get(key, options[0])
    if held not in options:  # also one that is the same ε in floating point's last digit
        st.session_state[key] = min(options, key=lambda option: abs(option - st.session_state[key]))
    start = min(options, key=lambda option: abs(option - default))
    if len(options) == 1:
        st.caption(f"ε = {both(start)}")
        return start
    return select(
        page,
        "at",
        "Look at ε",
        options,
        text=both,
        default=start,
        kind="slider",
        help="The budgets that were run, in units of a pixel's range [0, 1] and in grey levels. "
        "Moving it looks results up; nothing is computed.",
    )


def handed_over(page: str, other: str) -> dict[str, Any]:
    """The settings of this page's choice as the state of the same widgets of another page, for `routes.go`."""
    held = {name: st.session_state.get(f"{page}_{name}") for name in _names()}
    return {f"{other}_{name}": value for name, value in held.items() if value is not None}
