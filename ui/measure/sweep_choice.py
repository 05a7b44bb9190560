"""The choice of models, attacks and ε on the two measuring pages, the ε slider, and the sweeps that are not run yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core import specs
from core.epsilon import same
from core.evaluation.tables import records
from core.jobs import queue
from core.storage import store
from ui.app import jobs, sources
from ui.form import bound, controls, data_choice, model_picker, widgets
from ui.form.select import select, select_many
from ui.measure import first_view
from ui.measure.first_view import norm_of_kind
from ui.measure.sweep_views import KINDS, TITLES, attack_text, curve_name
from ui.show import model_names
from ui.text import ANY_CLASS, both, class_text, literal, say

LADDERS = {
    "linf": controls.USUAL_EPS,
    "l2": "0 0.5 1 1.5 2 2.5 3",
    "l1": "0 5 10 15 20 25 30",
    "l0": "0 1 2 5 10 15 20",
}
"""Budgets that say something on digits, by norm."""
COLOUR = {"linf": "0 1/255 2/255 4/255 8/255 16/255", "l2": "0 0.1 0.25 0.5 1 2", "l1": "0 2 4 8 12 16"}
"""The same on colour images, of which far less is needed."""


def ladder(norm: str, models: Sequence[store.Artifact]) -> str:
    """Budgets that say something on the images of these models."""
    colour = all(model.card["shape"][0] > 1 for model in models)
    return (COLOUR if colour else LADDERS).get(norm, LADDERS[norm])


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        spec: models × attacks × ε.
        models: the models.
        norm: of ε.
        more: the folded part of the form, for what else belongs there.
        fine: whether the slider is to stop between the ε that were run.
    """

    spec: specs.CompareSpec
    models: list[store.Artifact]
    norm: str
    more: DeltaGenerator
    fine: bool


def choose(page: str, *, start: int = 1, row: bool = False) -> Choice | None:
    """Draw the choice of models and attacks, and all else folded; None, with an explanation, if it is invalid.

    Args:
        page: url path of the page.
        start: models that are chosen at first where nothing has been run.
        row: models and attacks side by side; else one under the other.
    """
    first_view.prepare(page, _names())
    inferred = first_view.norm_in_address(page, [TITLES[kind] for kind in KINDS], list(KINDS))
    first, second = st.columns([3, 1], gap="small") if row else (st.container(), st.container())
    more = st.expander("More settings", icon=":material/tune:")
    with first:
        models = model_picker.pick_many(page, start=start, wrapped=not row)
    if not models:
        return None
    here = all(sources.present(sources.model_spec(model).data.dataset) for model in models)
    with more if row and here else first:  # where images are not here, it has something to say
        data = data_choice.choose(page, *models, stored=True)
    with more:
        norm = _norm(page, inferred, models)
    with second:
        kinds = _attacks(page, norm)
    with more:
        eps = controls.eps_ladder(page, default=ladder(norm, models))
        columns = st.columns(2)
        with columns[0]:
            n = controls.field(page, specs.CompareSpec, "n")
        with columns[1]:
            seed = controls.field(page, specs.CompareSpec, "seed")
        target = _target(page, models)
        settings = _settings(page, kinds)
        fine = bound.toggle(
            "Fine steps of ε",
            key=f"{page}_fine",
            help="The slider stops between the budgets that were run, too. What radii and proofs say is known there; "
            "what a sweep says is not, and is shown as –.",
        )
    if not kinds:
        st.info("Choose at least one attack.", icon=":material/info:")
        return None
    if eps is None:
        return None
    spec = controls.build(
        specs.CompareSpec,
        models=[model.id for model in models],
        data=data,
        attacks=[{**KINDS[kind], **settings[KINDS[kind]["name"]]} for kind in KINDS if kind in kinds],
        eps=eps,
        n=n,
        target=None if target == "any" else target,
        seed=seed,
    )
    return None if spec is None else Choice(spec, models, norm, more, fine)


def usual_attack(norm: str) -> str:
    """The attack that is chosen at first in a norm."""
    return f"pgd_{norm}" if f"pgd_{norm}" in KINDS else next(kind for kind in KINDS if norm_of_kind(kind) == norm)


def _norm(page: str, inferred: str | None, models: Sequence[store.Artifact]) -> str:
    key = f"{page}_norm"
    if inferred is not None:
        st.session_state[key] = inferred

    def other() -> None:
        norm = st.session_state[key]
        st.session_state[f"{page}_attacks"] = [usual_attack(norm)]
        st.session_state[f"{page}_eps"] = ladder(norm, models)
        st.session_state.pop(f"{page}_at", None)

    return select(
        page,
        "norm",
        "Norm of ε",
        list(records.NORMS),
        text=say,
        default="linf",
        help="ℓ∞: the largest change of a pixel; ℓ2: the length of the change; ℓ1: its sum; ℓ0: how many features "
        "change. Budgets of different norms are not comparable, so attacks, curves and proofs of one norm are shown.",
        on_change=other,
    )


def _attacks(page: str, norm: str) -> list[str]:
    offered = [kind for kind in KINDS if norm_of_kind(kind) == norm]
    return select_many(
        page,
        "attacks",
        "Attacks",
        offered,
        text=TITLES.__getitem__,
        default=[usual_attack(norm)],
        placeholder="Choose attacks",
        help="\n\n".join(
            f"**{cls.title}**: {cls.help}"
            for cls in dict.fromkeys(specs.METHODS.get(KINDS[kind]["name"]) for kind in offered)
            if cls
        ),
    )


def _target(page: str, models: Sequence[store.Artifact]) -> int | str:
    names = min((model.card["class_names"] for model in models), key=len)
    if st.session_state.get(f"{page}_target", "any") not in ("any", *range(len(names))):
        st.session_state[f"{page}_target"] = "any"  # the models chosen now have fewer classes
    return controls.a_class(page, names, name="target", label="Target class", extra=ANY_CLASS)


def _settings(page: str, kinds: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The settings of each method; the defaults of those not chosen."""
    settings: dict[str, dict[str, Any]] = {kind["name"]: {} for kind in KINDS.values()}
    wanted = {KINDS[kind]["name"] for kind in kinds}
    for name in settings:
        if name not in wanted or len(specs.METHODS[name].model_fields) == 1:
            continue
        st.markdown(f"**{specs.METHODS[name].title}**", help=specs.METHODS[name].help)
        settings[name] = controls.method_settings(page, name, skip=("norm", "surrogate"), columns=2)
        if specs.METHODS[name].needs_surrogate:
            surrogate = model_picker.pick(page, name=f"{name}_surrogate", text="Surrogate: the model it is made on")
            settings[name]["surrogate"] = surrogate.id if surrogate else ""
        if name == "fgsm":
            st.caption(
                "Clipped: x' = clip(x + ε·sign ∇ₓJ, 0, 1), an image again. Not clipped: the exercise's literal "
                "x + ε·sign ∇ₓJ, whose pixels leave [0, 1]; it is no image any more, and usually fools the model more "
                "often."
            )
    return settings


def _names() -> list[str]:
    """Second halves of the keys of all widgets of the choice, including the slider."""
    methods = {str(kind["name"]): specs.METHODS[str(kind["name"])] for kind in KINDS.values()}
    settings = [
        f"{method}_{name}"
        for method, cls in methods.items()
        for name in cls.model_fields
        if name not in ("name", "norm")
    ]
    return ["models", "attacks", "norm", "eps", "n", "seed", "target", "at", *settings]


def handed_over(page: str, other: str) -> dict[str, Any]:
    """The settings of this page's choice as the state of the same widgets of another page, for `routes.go`."""
    held = {name: st.session_state.get(f"{page}_{name}") for name in _names()}
    return {f"{other}_{name}": value for name, value in held.items() if value is not None}


# ---------------------------------------------------------------- what is not run yet


def watch(page: str, spec: specs.CompareSpec, missing: Sequence[specs.SweepSpec]) -> bool:
    """Draw the job that runs missing sweeps, if there is one; returns whether it is running."""
    if not missing:
        return False
    root = store.default_root()

    def appear(job: queue.Job) -> None:
        if any(store.located(sweep, root) is not None for sweep in missing):
            st.rerun()  # each curve is drawn as soon as it is there

    job = jobs.panel(page, spec, live=appear)
    return job is not None and job.live


def run_missing(
    page: str,
    spec: specs.CompareSpec,
    models: Sequence[store.Artifact],
    missing: Sequence[specs.SweepSpec],
    *,
    row: bool = False,
) -> None:
    """Draw the list of sweeps that are not run yet, with a button that runs them, beside it in a `row`."""
    if not missing:
        return
    names = model_names.short_names(models)
    everything = len(missing) == len(spec.sweeps())
    listed = [curve_name(names, sweep) for sweep in missing]
    towards = "" if spec.target is None else f" towards class “{literal(models[0].card['class_names'][spec.target])}”"
    title = (
        f"**Not run yet with these settings{towards}**"
        if everything
        else f"**{len(missing)} of {len(spec.sweeps())} not run yet{towards}**"
    )
    button = (
        f"Run {attack_text(missing[0].attack)} on {names[missing[0].model]}"
        if len(missing) == 1
        else f"Run these {len(missing)} sweeps"
    )
    said = ", ".join(listed[:6]) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "") + "."
    if stored := stored_targets(spec, models):
        said += f" With these settings there are results towards: {', '.join(stored)}."
    with st.container(border=not row, horizontal=row, vertical_alignment="center"):
        if row:
            st.markdown(title, help=said, width="content")
        else:
            st.markdown(f"{title}  \n:small[{said}]")
        kind: Literal["primary", "secondary"] = "primary" if everything else "secondary"
        if st.button(button, type=kind, icon=":material/play_arrow:", key=f"{page}_run"):
            jobs.start(spec)


def stored_targets(spec: specs.CompareSpec, models: Sequence[store.Artifact]) -> list[str]:
    """Other targets for which one of these sweeps is stored, as people read them."""
    wanted = {sweep.model_copy(update={"target": None}) for sweep in spec.sweeps()}
    found = {
        one.target
        for model in models
        for result in sources.results(model.id, "sweep", data=spec.data)
        if isinstance(one := result.spec(), specs.SweepSpec) and one.model_copy(update={"target": None}) in wanted
    }
    names = models[0].card["class_names"]
    return [
        ANY_CLASS["any"] if target is None else literal(class_text(target, names))
        for target in sorted(found - {spec.target}, key=lambda target: -1 if target is None else target)
    ]


# ---------------------------------------------------------------- ε


def eps_slider(page: str, options: Sequence[float], default: float, norm: str = "linf") -> float:
    """Draw a slider over these ε, rising; if they change, it moves to the nearest of them."""
    key = f"{page}_at"
    held = st.session_state.get(key)
    if held is not None and held not in options:  # also one that is the same ε in floating point's last digit
        st.session_state[key] = min(options, key=lambda option: abs(option - held))
    start = next((option for option in options if same(option, default)), options[0])
    text = both if norm == "linf" else "{:.4g}".format
    if len(options) == 1:
        st.caption(f"ε = {text(start)}")
        return start
    return select(
        page,
        "at",
        "ε: how much may change",
        list(options),
        text=text,
        default=start,
        kind="slider",
        read=widgets.nearest(options),
        help="The perturbation budget. Moving it looks results up, nothing is computed, and everything below follows. "
        "It stops at the budgets that were run; a figure that no search at this ε supports is shown as –.",
    )
