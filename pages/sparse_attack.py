"""Jacobian and sparse attack: the derivative as a picture, all pixels a little, few pixels wholly, and how few."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.figures import heat
from core.figures.base import colour, score_histogram
from core.storage import store
from ui.app import guard, sources
from ui.form import controls, model_picker, samples
from ui.form.select import KEEP, select
from ui.show import elements, gallery, lessons
from ui.sparse import enumeration, frontier, many_images, one_image, views
from ui.text import ANY_CLASS, class_text

PAGE = "sparse_attack"
PARTS = (
    "All pixels a little",
    "A few pixels",
    "Every change of one or two",
    "Count against ε",
    "How sparse can it be?",
    "Can one tell?",
)
MAX_PIXELS = 200
"""The pixel budget's slider ends here."""


def default_model() -> str | None:
    """The exercise's model: a single-output network, on MNIST if there is one."""
    scalar = [m for m in sources.models() if sources.model_spec(m).scalar]
    mnist = [m for m in scalar if sources.model_spec(m).data.dataset == "mnist"]
    return (mnist or scalar)[0].id if scalar else None


def pick_threshold(tests: pd.DataFrame, names: list[str]) -> float:
    """Draw the slider for the threshold τ of a single-output network."""
    low, high = math.floor(tests["score"].min()), math.ceil(tests["score"].max())
    key = f"{PAGE}_threshold"
    if isinstance(st.session_state.get(key), int | float):
        st.session_state[key] = float(min(max(low, st.session_state[key]), high))
    return st.slider(
        "Threshold τ",
        min_value=float(min(low, 0)),
        max_value=float(max(high, 0)),
        value=0.0,
        step=0.1,
        help=f"An image is read as {names[1]} when its score N(x) is above τ. The network was trained for τ = 0.",
        key=key,
        **KEEP,
    )


def pick_image(model: store.Artifact) -> views.Case | None:
    """Choose one correctly classified test image; draws the choice and what is known of it before PyTorch is there."""
    names, scalar = list(model.card["class_names"]), sources.model_spec(model).scalar
    tests = samples.table(model)
    if tests is None:
        return None
    threshold = pick_threshold(tests, names) if scalar else 0.0
    first, second, third = st.columns([1, 2, 1], vertical_alignment="bottom")
    with first:
        start = names.index("4") if "4" in names else 0
        label = controls.a_class(PAGE, names, name="source", label="True class", default=start, slider=False)
    with second:
        order = select(
            PAGE,
            "order",
            "Order of the images",
            list(samples.ORDERS),
            text=samples.ORDERS.__getitem__,
            kind="list",
            help="The margin says how far an image is from being read as another class.",
        )
    found = samples.candidates(tests, label, threshold=threshold, order=order)
    if not len(found):
        samples.none_of(class_text(label, names), " with these settings")
        return None
    with third:
        place = samples.place(
            f"{PAGE}_image",
            len(found),
            label="Image",
            help=f"+ takes the next of {len(found):,} test images of this class that the model reads correctly.",
        )
    row = found.iloc[place]
    index = int(row["index"])
    parts = [f"Test image **#{index}**, number {place + 1} of {len(found):,} read correctly as {names[label]}"]
    if scalar:
        parts.append(f"score N(x) = **{row['score']:.4g}**")
    st.markdown(" · ".join([*parts, f"margin {row['margin']:.4g}", f"confidence {row['confidence']:.2%}"]))
    if samples.images(model, [index]) is None:
        return None
    looked = views.look(model.id, model.root, index)
    logits = looked["logits"] - [0, threshold] if scalar else looked["logits"]
    return views.Case(model, index, label, None, threshold, scalar, looked["x"], logits, looked["jacobian"])


def draw_jacobian(case: views.Case) -> None:
    """Image, signed Jacobian, and the scores or probabilities."""
    names = case.names
    left, middle, right = st.columns([3, 5, 5])
    with middle:
        if case.scalar:
            values, name = case.jacobian[1], "∂N/∂x"
        else:
            options: list[Any] = ["margin", *range(len(names))]

            def text(k: Any) -> str:
                return "own logit − runner-up's" if k == "margin" else f"logit of {class_text(k, names)}"

            output = select(
                PAGE,
                "output",
                "Derivative of",
                options,
                text=text,
                kind="list",
                help="Which output is differentiated with respect to each pixel.",
            )
            rivals = np.where(np.arange(len(names)) == case.label, -np.inf, case.logits)
            margin = case.slope(int(rivals.argmax()))
            values, name = (margin, "∂margin/∂x") if output == "margin" else (case.jacobian[output], f"∂z{output}/∂x")
        st.markdown(f"**Jacobian {name}**")
        elements.chart(
            heat.signed_heatmap(views.flat(values), name=name, height=300),
            key=f"{PAGE}_jacobian",
            alt=f"Heatmap of {name}: red pixels raise the output when brighter, blue ones lower it",
        )
    with left:
        st.markdown(f"**The image, a {names[case.label]}**")
        gallery.show([[case.x]], alt=f"Test image {case.index}, a {names[case.label]}", tile=196)
        rise = f"N, towards {names[1]}" if case.scalar else "the output"
        st.caption(
            f"Red: a brighter pixel raises {rise}; blue: it lowers it. ‖J‖₁ = {np.abs(values).sum():.4g}, "
            f"largest |J| = {np.abs(values).max():.4g}."
        )
    with right:
        if case.scalar:
            tests = case.model.table("test")
            st.markdown("**Scores of the test set**")
            figure = score_histogram(tests["score"].to_numpy(), tests["y"].to_numpy(), names, case.threshold)
            figure.add_vline(
                x=case.threshold + float(case.logits[1]),
                line={"color": colour(5), "width": 2},
                annotation_text="x",
                annotation_position="top left",
            )
            figure.update_xaxes(title_text=f"N(x): below τ read as {names[0]}, above as {names[1]}")
            accuracy = ((tests["score"] > case.threshold) == (tests["y"] == 1)).mean()
            elements.chart(
                figure.update_layout(height=300),
                key=f"{PAGE}_scores",
                alt="Histogram of the test set's scores with the threshold and this image",
            )
            st.caption(f"Accuracy at this τ: {accuracy:.2%} of {len(tests):,} test images.")
        else:
            st.markdown("**Probabilities**")
            gallery.probabilities(
                gallery.softmax(case.logits),
                names,
                alt="Probabilities of the classes",
                marked=case.label,
                width=300,
            )


def settings(case: views.Case) -> tuple[int | str, dict[str, Any], float]:
    """The form: target, the sparse attack's settings, the formula's factor."""
    names = case.names
    with st.form(f"{PAGE}_form"):
        first, second, third = st.columns(3, vertical_alignment="bottom")
        with first:
            target = controls.a_class(
                PAGE,
                names,
                name="target",
                label="Target class",
                extra=ANY_CLASS,
                without=case.label,
                help="What the image shall be read as.",
            )
        with second:
            most = min(MAX_PIXELS, case.x.size)
            if isinstance(st.session_state.get(f"{PAGE}_max_features"), int):  # chosen for larger images
                st.session_state[f"{PAGE}_max_features"] = min(most, st.session_state[f"{PAGE}_max_features"])
            budget = st.slider(
                "Pixel budget",
                min_value=1,
                max_value=most,
                value=min(60, most),
                help="Give up beyond so many changes; of a colour image each colour of a pixel counts.",
                key=f"{PAGE}_max_features",
                **KEEP,
            )
        with third:
            factor = controls.field(PAGE, specs.JacobianDense, "factor", label="Overshoot of ε*")
        first, second, third = st.columns(3, vertical_alignment="bottom")
        with first:
            shortlist = controls.field(PAGE, specs.JacobianSparse, "candidates")
        with second, st.container(horizontal=True):
            prune = controls.field(PAGE, specs.JacobianSparse, "prune")
            swaps = controls.field(PAGE, specs.JacobianSparse, "swaps")
        with third:
            st.form_submit_button("Attack this image", type="primary", icon=":material/play_arrow:", width="stretch")
    sparse = {
        "name": "jacobian_sparse",
        "max_features": budget,
        "candidates": shortlist,
        "prune": prune,
        "swaps": swaps,
    }
    return target, sparse, factor


def show_parts(case: views.Case, target: int | str, sparse: dict[str, Any], factor: float) -> None:
    """Draw the tabs; only the open one is computed."""
    tabs = st.tabs(PARTS, key=f"{PAGE}_part", on_change="rerun", bind="query-params")
    common = {"model": case.model.id, "target": target, "threshold": case.threshold}
    one = {**common, "indices": (case.index,)}
    with tabs[0]:
        if tabs[0].open:
            one_image.dense(case, one, factor)
    with tabs[1]:
        if tabs[1].open:
            one_image.few(case, one, sparse)
    with tabs[2]:
        if tabs[2].open:
            enumeration.one(case, one)
    with tabs[3]:
        if tabs[3].open:
            frontier.frontier(case, one, {**common, "source": case.label})
    with tabs[4]:
        if tabs[4].open:
            many_images.many(case, {**common, "source": case.label}, sparse, factor)
    with tabs[5]:
        if tabs[5].open:
            many_images.quiz(case, {**common, "source": case.label, "n": many_images.QUIZ_IMAGES}, sparse, factor)


guard.ensure_router()

st.title("Jacobian and sparse attack")
st.write(
    "The derivative of the output with respect to each pixel says where an image is weak: see it, then fool the model "
    "by changing all pixels a little, or a few wholly."
)
with st.container(border=True):
    model = model_picker.pick(PAGE, default=default_model())
    if model is None:
        st.stop()
    case = pick_image(model)
if case is None:
    st.stop()
draw_jacobian(case)
target, sparse, factor = settings(case)
case = replace(case, target=None if target == "any" else int(target))
lessons.sparse()
show_parts(case, target, sparse, factor)
