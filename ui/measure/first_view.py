"""What the measuring pages show at first: the newest of your own sweeps, else bundled results beside your models."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitAPIException

from core import specs
from core.storage import bundled, store
from ui.app import jobs, sources
from ui.form import controls
from ui.measure.sweep_views import KINDS, kind_of, norm_of

START: dict[str, tuple[str, ...]] = {
    "epsilon_sweep": ("lenet", "standard", "lenet-fgsm-mix", "fgsm-mix", "pgd"),
    "model_comparison": (
        *("linear", "cnn", "lenet", "standard", "lenet-fgsm-mix", "fgsm-mix"),
        *("pgd", "mlp-stable", "ibp"),
    ),
}
"""Bundled models that a page starts with, by the ends of their names: what is there of one data set."""
FIRST_DATA = ("mnist", "digits28", "digits")
"""Which data set that is: the first one that is on this machine and has such models."""
OWN = 2
"""Models of yours beside them, where none of yours has been measured yet."""
FIVE = ("mnist-linear", "mnist-cnn", "mnist-cnn-fgsm")
"""The bundled models of exercise set 5."""
DEFENDED_LINEAR = specs.TrainSpec.model_validate(
    {
        **specs.preset("set5", "mnist"),
        "data": {"dataset": "mnist"},
        "network": "linear",
        "recipe": {"name": "fgsm_mix", "eps": 0.25},
    }
)
"""Its fourth model: the defence of the CNN on the linear one."""


def prepare(page: str, names: Iterable[str]) -> None:
    """On a first visit without settings in the address, choose what has been run, so that the page shows it.

    What was set so, or by another page, is written into the address. `names` are the second halves of the keys of all
    widgets of the choice.
    """
    names = list(names)
    seen = f"_{page}_seen"
    if seen not in st.session_state:
        st.session_state[seen] = True
        settings = {f"{page}_{name}" for name in names if name != "at"}  # where one looks is no setting
        if not settings.intersection([*map(str, st.session_state), *st.query_params]):
            for name, value in (_own() or _bundled(page)).items():
                st.session_state[f"{page}_{name}"] = value
    _pin(page, names)


def _own() -> dict[str, Any]:
    """The settings of the newest of your own sweeps, and the models that were swept with the same; or nothing."""
    done = [
        (str(result.card["created"]), model, spec)
        for model in sources.models()
        for result in store.results(model.id, store.default_root())
        if isinstance(spec := result.spec(), specs.SweepSpec)
        and spec.threshold == 0
        and spec.data is None
        and kind_of(spec.attack) in KINDS
        and "bundled" not in result.card
    ]
    if not done:
        return {}
    _, first, newest = max(done, key=lambda item: item[0])
    data = sources.model_spec(first).data
    together = [
        (model, spec)
        for _, model, spec in sorted(done, key=lambda item: item[0], reverse=True)
        if sources.model_spec(model).data == data
        and norm_of(spec.attack) == norm_of(newest.attack)
        and (spec.eps, spec.n, spec.seed, spec.target) == (newest.eps, newest.n, newest.seed, newest.target)
    ]
    settings: dict[str, dict[str, Any]] = {}
    for _, spec in together:
        settings.setdefault(spec.attack.slug(), spec.attack.model_dump(exclude={"name", "norm"}))
    fitting = [
        (m, s) for m, s in together if settings[s.attack.slug()] == s.attack.model_dump(exclude={"name", "norm"})
    ]
    return {
        "models": list(dict.fromkeys(model.id for model, _ in fitting))[:4],
        "norm": norm_of(newest.attack),
        "attacks": [kind for kind in KINDS if kind in {kind_of(spec.attack) for _, spec in fitting}],
        "eps": " ".join(repr(eps).removesuffix(".0") for eps in newest.eps),
        "n": newest.n,
        "seed": newest.seed,
        "target": "any" if newest.target is None else newest.target,
        **{f"{method}_{name}": value for method, fields in settings.items() for name, value in fields.items()},
    }


def _bundled(page: str) -> dict[str, Any]:
    """The bundled models that the page starts with, beside your newest ones of their data; nothing if there are none.

    So the page has figures at once, also where you have trained models and measured none of them yet.
    """
    listed = sources.models()
    own = [model for model in listed if not bundled.is_copy(model.card)]
    newest = sources.model_spec(own[0]).data if own else None
    for dataset in filter(sources.present, FIRST_DATA):
        data = specs.DataSpec(dataset=dataset)
        if newest not in (None, data):
            continue
        found = {
            one.name.removeprefix(f"{dataset}-"): model.id
            for one, model in sources.references()
            if sources.model_spec(model).data == data
        }
        chosen = [found[name] for name in START.get(page, ()) if name in found]
        if chosen:
            beside = [model.id for model in own if sources.model_spec(model).data == data][:OWN]
            return {"models": [*beside, *chosen], "attacks": [_most_run(chosen)]}
    return {}


def _most_run(models: Sequence[str]) -> str:
    """PGD, or FGSM where with the defaults it was run on more of these models."""
    root = store.default_root()

    def runs(kind: str) -> int:
        asked = (specs.SweepSpec.model_validate({"model": model, "attack": KINDS[kind]}) for model in models)
        return sum(store.located(spec, root) is not None for spec in asked)

    return max(("pgd_linf", "fgsm"), key=runs)


def _pin(page: str, names: Iterable[str]) -> None:
    """Write into the address what was set by the first view or by another page."""
    for name in names:
        key = f"{page}_{name}"
        if key not in st.session_state:
            continue
        value = st.session_state[key]
        with contextlib.suppress(StreamlitAPIException):  # once the widget is bound, the next line is enough
            words = [str(item) for item in value] if isinstance(value, list) else str(value)
            st.query_params[key] = str(value).lower() if isinstance(value, bool) else words
        st.session_state[key] = value


def norm_in_address(page: str, titles: Sequence[str], kinds: Sequence[str]) -> str | None:
    """The norm of the attacks that the address, or another page, names without naming a norm; None where none is."""
    if f"{page}_norm" in st.session_state or f"{page}_norm" in st.query_params:
        return None
    named = [*st.session_state.get(f"{page}_attacks", ()), *st.query_params.get_all(f"{page}_attacks")]
    by_text = {**dict(zip(titles, kinds, strict=True)), **{kind: kind for kind in kinds}}
    return next((norm_of_kind(by_text[name]) for name in named if name in by_text), None)


def norm_of_kind(kind: str) -> str:
    """The norm of one of the `KINDS`."""
    fields = KINDS[kind]
    return fields.get("norm") or specs.METHODS[fields["name"]].norms[0]


def exercise_five(page: str) -> None:
    """Draw a button that chooses the models of exercise set 5; one that is not trained yet is offered as a job."""
    found = {one.name: model for one, model in sources.references()}
    have = [found[name].id for name in FIVE if name in found]
    if len(have) < len(FIVE) or not sources.present("mnist"):
        return
    trained = sources.artifact(DEFENDED_LINEAR)

    def put() -> None:
        st.session_state[f"{page}_models"] = [*have, *([trained.id] if trained else [])]
        st.session_state[f"{page}_norm"] = "linf"
        st.session_state[f"{page}_attacks"] = ["fgsm"]
        st.session_state[f"{page}_eps"] = controls.USUAL_EPS
        st.session_state[f"{page}_target"] = "any"

    st.button(
        "Exercise set 5: its curves",
        key=f"{page}_five",
        icon=":material/school:",
        type="tertiary",
        on_click=put,
        help="Logistic regression and a CNN, each plain and trained with FGSM at ε = 0.25, under FGSM.",
    )
    if trained is None and set(have) <= set(st.session_state.get(f"{page}_models", ())):
        st.caption("The fourth curve of set 5, the same defence on the linear model, is not trained here yet.")
        jobs.offer(page, DEFENDED_LINEAR, "Train the defended linear model", name="five_train", primary=False)
