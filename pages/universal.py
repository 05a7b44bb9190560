"""Universal perturbation: one change for many images, measured on images that it was not made from."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core import specs
from core.storage import store
from ui.app import guard, jobs, sources
from ui.form import controls, model_picker
from ui.form.select import KEEP, select, select_many
from ui.show import lessons
from ui.text import ANY_CLASS, class_text, say
from ui.universal import views

PAGE = "universal"
TITLES = {"gradient": "Gradient steps", "uap": "UAP", "lp": "Linear programme"}
EPS = {"linf": 0.2, "l2": 4.0, "l1": 40.0}
"""Budgets to start with."""
MASKS = {"all": "all pixels", "eyeglasses": "eyeglasses", "patch": "a patch"}


def choose_method() -> tuple[str, str]:
    """Draw the choice of method and norm. They decide which settings there are, so they are not part of the form."""
    first, second = st.columns([2, 1], vertical_alignment="bottom")
    with first:
        name = select(PAGE, "method", "Method", list(TITLES), text=TITLES.__getitem__, kind="buttons")
    cls = specs.UNIVERSAL_METHODS[name]
    norm = "linf"
    with second:
        if len(cls.norms) > 1:
            norm = controls.field(PAGE, cls, "norm", key=f"{name}_norm")
    st.caption(f"{cls.help} *{cls.paper}.*")
    return name, norm


def size(norm: str) -> float:
    """Draw the budget ε: a slider in linf, a number in the other norms."""
    if norm == "linf":
        return controls.eps(PAGE, default=EPS[norm], high=1.0, step=0.01)
    return float(
        st.number_input(
            "ε",
            min_value=0.0,
            max_value=specs.MAX_EPS[norm],
            value=EPS[norm],
            step=0.5 if norm == "l2" else 5.0,
            key=f"{PAGE}_eps_{norm}",
            help=f"Largest {say(norm)} norm of the perturbation, before images are clipped to [0, 1].",
            **KEEP,
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
        help="The set S: images of these classes, each read correctly before. None chosen: of all classes.",
    )
    return tuple(sorted(chosen)) or None


def settings(model: store.Artifact, name: str, norm: str) -> tuple[specs.UniversalSpec | None, bool]:
    """Draw the form; returns its spec, None if it is invalid, and whether the button was pressed."""
    cls, names = specs.UNIVERSAL_METHODS[name], list(model.card["class_names"])
    scalar = sources.model_spec(model).scalar
    method: dict[str, Any] = {"name": name}
    with st.form(f"{PAGE}_form"):
        first, second, third = st.columns(3, vertical_alignment="bottom")
        with first:
            source = pick_classes(names, scalar)
        with second:
            target = controls.a_class(PAGE, names, name="target", label="Target class", extra=ANY_CLASS, slider=False)
        with third:
            if cls.needs_eps:
                eps = size(norm)
            else:
                eps = None
                method["boxed"] = controls.field(PAGE, cls, "boxed", key=f"{name}_boxed")
        first, second, third = st.columns(3, vertical_alignment="bottom")
        with first:
            n = st.number_input(
                "Made from (n)",
                min_value=1,
                max_value=min(cls.max_images, 20_000),
                value=cls.images,
                step=1,
                help=specs.UniversalSpec.model_fields["n"].description,
                key=f"{PAGE}_{name}_n",
                **KEEP,
            )
        with second:
            held_out = controls.field(PAGE, specs.UniversalSpec, "held_out")
        with third:
            asked = st.form_submit_button(
                "Make the perturbation", type="primary", icon=":material/play_arrow:", width="stretch"
            )
        if len(cls.norms) > 1:
            method["norm"] = norm
        rest = [field for field in cls.model_fields if field not in ("name", "norm", "boxed")]
        with st.expander("Settings of the method"):
            row = st.columns(len(rest), vertical_alignment="bottom")
            for column, field in zip(row, rest, strict=True):
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
                    help="Outside a mask the perturbation is 0. Glasses that also survive being moved have a page of "
                    "their own.",
                )
            with second:
                budget = controls.field(PAGE, specs.UniversalSpec, "budget")
            with third:
                seed = controls.field(PAGE, specs.UniversalSpec, "seed")
    spec = controls.build(
        specs.UniversalSpec,
        model=model.id,
        method=method,
        eps=eps,
        n=n,
        held_out=held_out,
        source=source,
        target=target,
        mask=None if mask == "all" else mask,
        budget=budget,
        seed=seed,
    )
    return spec, asked


guard.ensure_router()

st.title("Universal perturbation")
st.write(
    "One change, the same for every image, that makes a model misread most of them: made from some images, measured on "
    "others."
)
with st.container(border=True):
    model = model_picker.pick(PAGE)
    if model is None:
        st.stop()
    name, norm = choose_method()
spec, asked = settings(model, name, norm)
lessons.universal()
if spec is None:
    st.stop()
result = jobs.result(
    PAGE,
    spec,
    asked=asked,
    empty="Not made yet for these settings. Gradient steps on 1,000 images take seconds; UAP needs minutes.",
)
if result is not None:
    views.show(PAGE, result, model)
