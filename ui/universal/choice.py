"""The choice of the model, the method and its settings, as the task of a universal perturbation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from core import specs
from core.storage import store
from ui.app import jobs, sources
from ui.form import bound, controls, data_choice, model_picker
from ui.form.select import select, select_many
from ui.show import at_once
from ui.text import ANY_CLASS, both, class_text, counted, say

PAGE = "universal"
TITLES = {"gradient": "Gradient steps", "uap": "UAP", "lp": "Linear programme"}
EPS = {"linf": 0.2, "l2": 4.0, "l1": 40.0}
"""Budgets to start with, by norm."""
EPS_OF = {"mnist": 0.3, "fashion_mnist": 0.1, "cifar10": 0.03}
"""In linf, those of data sets: so large that an undefended model is fooled on many new images."""
QUICK_IMAGES, QUICK_BATCH = 200, 32
"""Size of the first result that is made at once where none is stored."""
MASKS = {"all": "all pixels", "eyeglasses": "eyeglasses", "patch": "a patch"}


@dataclass(frozen=True)
class Chosen:
    """What is chosen above the tabs: the model, the images that it is shown, and the task."""

    model: store.Artifact
    data: specs.DataSpec | None
    spec: specs.UniversalSpec

    @property
    def names(self) -> list[str]:
        """Class names."""
        return list(self.model.card["class_names"])


def choose() -> Chosen | None:
    """Draw the controls; None where there is no model, or settings are refused, which the page has then said."""
    first, second, third = st.columns([3, 1.4, 1.6], vertical_alignment="bottom")
    with first:
        model = model_picker.pick(PAGE, default=model_picker.usual_victim())
    if model is None:
        return None
    names, scalar = list(model.card["class_names"]), sources.model_spec(model).scalar
    data, more_settings = data_choice.among_settings(PAGE, model)
    with second:
        name = select(PAGE, "method", "Method", list(TITLES), text=TITLES.__getitem__, kind="list")
    cls = specs.UNIVERSAL_METHODS[name]
    method: dict[str, Any] = {"name": name}
    place = third.container()
    with more_settings:
        st.caption(f"{cls.help} *{cls.paper}.*")
        values = more(cls, names, scalar, method)
    eps = None
    with place:
        if cls.needs_eps:
            eps = size(method.get("norm", "linf"), sources.model_spec(model).data.dataset)
        else:
            method["boxed"] = controls.field(PAGE, cls, "boxed", key=f"{name}_boxed")
    spec = controls.build(specs.UniversalSpec, model=model.id, data=data, method=method, eps=eps, **values)
    return None if spec is None else Chosen(model, data, spec)


def size(norm: str, dataset: str) -> float:
    """Draw the budget ε: a slider in linf, a number in the other norms."""
    if norm == "linf":
        return controls.eps(PAGE, default=EPS_OF.get(dataset, EPS[norm]), high=1.0, step=0.01)
    return float(
        bound.number_input(
            "ε",
            whole=False,
            min_value=0.0,
            max_value=specs.MAX_EPS[norm],
            value=EPS[norm],
            step=0.5 if norm == "l2" else 5.0,
            key=f"{PAGE}_eps_{norm}",
            help=f"Largest {say(norm)} norm of the perturbation, before images are clipped to [0, 1].",
        )
    )


def pick_classes(names: list[str], scalar: bool) -> tuple[int, ...] | None:
    """Draw the choice of the classes of the set S; None means all classes."""
    chosen = select_many(
        PAGE,
        "source",
        "Images of the classes",
        list(range(len(names))),
        text=lambda k: class_text(k, names),
        default=[0] if scalar else [],
        placeholder="all classes",
        help="The set S: images of these classes that are correctly classified. None chosen: of all classes.",
    )
    return tuple(sorted(chosen)) or None


def more(cls: type[specs.UniversalMethod], names: list[str], scalar: bool, method: dict[str, Any]) -> dict[str, Any]:
    """Draw the settings that are not beside the answer; those of the method are put into `method`."""
    name = method["name"]
    first, second, third, fourth = st.columns(4, vertical_alignment="bottom")
    values: dict[str, Any] = {}
    with first:
        values["source"] = pick_classes(names, scalar)
    with second:
        values["target"] = controls.a_class(
            PAGE, names, name="target", label="Target class", extra=ANY_CLASS, slider=False
        )
    with third:
        values["n"] = bound.number_input(
            "Made from (n)",
            whole=True,
            min_value=1,
            max_value=min(cls.max_images, 20_000),
            value=cls.images,
            step=1,
            help=specs.UniversalSpec.model_fields["n"].description,
            key=f"{PAGE}_{name}_n",
        )
    with fourth:
        values["held_out"] = controls.field(PAGE, specs.UniversalSpec, "held_out")
    drawn = [field for field in cls.model_fields if field not in ("name", "boxed")]
    if len(cls.norms) == 1 and "norm" in drawn:
        drawn.remove("norm")
    columns = st.columns(len(drawn), vertical_alignment="bottom")
    for column, field in zip(columns, drawn, strict=True):
        with column:
            method[field] = controls.field(PAGE, cls, field, key=f"{name}_{field}")
    first, second, third = st.columns(3, vertical_alignment="bottom")
    with first:
        mask = select(
            PAGE,
            "mask",
            "May change",
            list(MASKS),
            text=MASKS.__getitem__,
            kind="list",
            help="Outside a mask the perturbation is 0. A pattern that also survives being moved is made on the page "
            "Glasses and masks.",
        )
        values["mask"] = None if mask == "all" else mask
    with second:
        values["budget"] = controls.field(PAGE, specs.UniversalSpec, "budget")
    with third:
        values["seed"] = controls.field(PAGE, specs.UniversalSpec, "seed")
    return values


def result(chosen: Chosen) -> store.Artifact | None:
    """The stored result; where there is none, its job or the button that makes it, and another that is known."""
    found = sources.artifact(chosen.spec)
    if found is not None:
        return found
    if not jobs.idle(PAGE, chosen.spec):
        return None
    spec = chosen.spec
    text = f"Make the perturbation from {spec.n:,} images"
    if st.button(text, type="primary", icon=":material/play_arrow:", key=f"{PAGE}_run"):
        jobs.start(spec)
    other = nearest(chosen) or quick(chosen)
    if other is None:
        st.info(
            "Not made yet for these settings. Gradient steps on 1,000 images take seconds; UAP takes minutes.",
            icon=":material/info:",
        )
        return None
    known = other.spec()
    assert isinstance(known, specs.UniversalSpec)
    st.info(f"Not made yet for these settings. Shown below: {described(known)}.", icon=":material/info:")
    return other


def quick(chosen: Chosen) -> store.Artifact | None:
    """A first result in this process: the same from few images, in small batches; None where it takes too long."""
    spec = chosen.spec
    if not isinstance(spec.method, specs.UniversalGradient):
        return None
    method = spec.method.model_copy(update={"minibatch": min(QUICK_BATCH, spec.method.minibatch)})
    few = {"n": min(QUICK_IMAGES, spec.n), "held_out": min(QUICK_IMAGES, spec.held_out), "method": method}
    return at_once.result(PAGE, spec.model_copy(update=few), name="quick")


def described(spec: specs.UniversalSpec) -> str:
    """A task in a few words: method, ε, how many images."""
    eps = "" if spec.eps is None else f", ε = {both(spec.eps)}"
    passes = getattr(spec.method, "epochs", None)
    how = "" if passes is None else f" in {counted(passes, 'epoch')}"
    return f"{TITLES[spec.method.name].lower()}{eps}, made from {counted(spec.n, 'image')}{how}"


def nearest(chosen: Chosen) -> store.Artifact | None:
    """The stored result whose settings differ least: of the same method first, then of the nearest ε."""
    found = []
    for other in sources.results(chosen.model.id, "universal", data=chosen.data):
        spec = other.spec()
        if isinstance(spec, specs.UniversalSpec):
            same = spec.method.name == chosen.spec.method.name
            norm = getattr(spec.method, "norm", "linf") == getattr(chosen.spec.method, "norm", "linf")
            found.append((not same, not norm, abs((spec.eps or 0) - (chosen.spec.eps or 0)), other.id, other))
    return min(found)[-1] if found else None
