"""The tab on one image: the few pixels that turn it into another class, change by change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core.figures import heat
from core.figures.base import CLEAN, score_histogram
from core.storage import store
from ui.form.select import select
from ui.show import at_once, elements, gallery, lessons, provenance
from ui.sparse import trace, views
from ui.sparse.case import Case, derivative, flat
from ui.sparse.choice import GREEDY, PAGE, Chosen
from ui.text import class_text, literal

LEVELS = {name: st.column_config.NumberColumn(format="%.3f") for name in ("old", "new")}
"""How a table of changed pixels writes grey levels."""


def source_line(result: store.Artifact, case: Case, *, one: bool = True) -> str:
    """The provenance of a result on this image, or on many images of its class."""
    tau = f" · τ = {case.threshold:g}" if case.scalar else ""
    what = f"test image {case.index}" if one else f"class {case.names[case.label]}"
    return f"{provenance.of(result, case.model)} · {what}{tau}"


def show(chosen: Chosen) -> None:
    """Draw the verdict, the pictures and the probabilities; below them the trace, the Jacobian and the scores."""
    case = chosen.case
    result = at_once.result(PAGE, chosen.task())
    if result is None:
        views.strip(case, case.x, case.logits, result="no result yet")
        return
    found = result.table("images").iloc[0]
    views.few_verdict(case, found)
    steps = trace.Trace.of(result.arrays("images")) if chosen.attack["name"] == GREEDY else None
    left, right = st.columns([3, 1.1])
    with left:
        picture = st.container()
        k = None if steps is None else scrubber(steps)
        image = result.arrays("images")["x_adv"][0] if k is None or steps is None else steps.image(k)
        after = case.read(image[None])[0]
        with picture:
            views.strip(case, image, after, result=said(k))
        st.caption(cost(found, steps))
    with right:
        before_and_after(case, after)
    left, right = st.columns(2)
    with left:
        if steps is not None:
            st.markdown(f"**The {case.quantity.split(':')[0]} after each change**")
            elements.chart(
                trace.trace_curve(case, steps, k if k is not None else 0),
                key=f"{PAGE}_trace_curve",
                alt=f"The {case.quantity} after each change",
            )
        else:
            jacobian(case, after)
    with right:
        st.markdown("**The changed pixels**")
        table(case, changed(case, image, steps))
    if steps is not None:
        left, right = st.columns(2)
        with left:
            jacobian(case, after)
        with right:
            if case.scalar:
                scores(case, after)
    provenance.show(source_line(result, case))
    lessons.sparse()


def scrubber(steps: trace.Trace) -> int | str:
    """Draw the slider over the stored changes; returns how many are made, `pruned` or `swapped`."""
    made = len(steps.order)
    if not made:
        return 0
    texts = {"pruned": f"pruned: {int(steps.kept.sum())}", "swapped": f"swapped: {int((steps.x_adv != steps.x).sum())}"}
    places: list[Any] = [*range(made + 1), "pruned", *(["swapped"] if steps.swapped else [])]
    return select(
        PAGE,
        "step",
        "Changes made",
        places,
        text=lambda k: texts.get(k, str(k)),
        default=places[-1],
        kind="slider",
        help="Go through the changes in their order; nothing is computed again. Pruned: every change that is not "
        "needed is put back. Swapped: two changes are exchanged for one where that is enough.",
    )


def said(k: int | str | None) -> str:
    """What the picture after k changes is called."""
    if k is None or isinstance(k, str):
        return "result"
    return "after 1 change" if k == 1 else f"after {k} changes"


def cost(found: pd.Series, steps: trace.Trace | None) -> str:
    """A sentence on how the changes were found, and at which cost."""
    passes = f"{found['forwards']:,.0f} forward and {found['backwards']:,.0f} backward passes"
    distance = f"Distance ℓ2 {found['l2']:.3g}, ℓ∞ {found['linf']:.3g}"
    if steps is None:
        return f"{distance}; found with {passes}."
    made, kept = len(steps.order), int(steps.kept.sum())
    saved = [f"{made - kept} put back"] if made > kept else []
    saved += [f"{kept - int(found['l0'])} saved by swaps"] if kept > found["l0"] else []
    return f"{', '.join([f'{made} changes made one at a time', *saved])}. {distance}; found with {passes}."


def before_and_after(case: Case, after: np.ndarray) -> None:
    """Draw the score of a single-output network and the probabilities, before and after the changes."""
    if case.scalar:
        score = case.threshold + after[1]
        st.metric(
            "Score N(x), after",
            f"{score:.3g}",
            delta=f"{score - case.threshold - float(case.logits[1]):+.3g}",
            delta_color="off",
            help=f"Before: {case.threshold + float(case.logits[1]):.4g}. Above τ = {case.threshold:g} the image is "
            f"classified as {literal(case.names[1])}.",
        )
    for title, logits in (("before", case.logits), ("after", after)):
        st.markdown(f"**Probabilities {title}**")
        gallery.probabilities(
            gallery.softmax(logits),
            case.names,
            alt=f"Probabilities of the classes {title} the changes",
            marked=case.label,
        )


def changed(case: Case, image: np.ndarray, steps: trace.Trace | None) -> pd.DataFrame:
    """The table of the changed pixels: in their order where there is a trace."""
    return trace.changes(case.x, image) if steps is None else steps.table(case)


def table(case: Case, frame: pd.DataFrame) -> None:
    """Draw a table of changed pixels."""
    st.dataframe(
        frame,
        hide_index=True,
        height=elements.table_height(max(1, len(frame)), 250),
        column_config={name: st.column_config.NumberColumn(format="%.3f") for name in frame.columns if "after" in name}
        | LEVELS,
        alt="The changed pixels in their order",
    )


def jacobian(case: Case, after: np.ndarray) -> None:
    """Draw the signed Jacobian, each pixel's value on hover."""
    if case.scalar:
        values, name = case.jacobian[1], "∂N/∂x"
        st.markdown(f"**Jacobian {name}**")
    else:
        options: list[Any] = ["margin", *range(len(case.names))]
        aim = views.toward(case, after)
        difference, difference_name = derivative(case, aim)
        output = select(
            PAGE,
            "output",
            "Jacobian of",
            options,
            text=lambda k: (
                f"logit of {case.names[aim]} minus logit of {case.names[case.label]}"
                if k == "margin"
                else f"logit of {class_text(k, case.names)}"
            ),
            kind="list",
            help="Which output is differentiated with respect to each pixel.",
        )
        margin = output == "margin"
        values, name = (difference, difference_name) if margin else (case.jacobian[output], f"∂z{output}/∂x")
    elements.chart(
        heat.signed_heatmap(flat(values), name=name, height=260),
        key=f"{PAGE}_jacobian",
        alt=f"Heatmap of {name}: red pixels raise the output when brighter, blue ones lower it",
    )
    st.caption(f"‖J‖₁ = {np.abs(values).sum():.4g}, largest |J| = {np.abs(values).max():.4g}.")


def scores(case: Case, after: np.ndarray) -> None:
    """Draw the histogram of the test set's scores, with the threshold and the image before and after."""
    tests = case.tests()
    if tests is None:
        return
    st.markdown("**Scores of the test set**")
    figure = score_histogram(tests["score"].to_numpy(), tests["y"].to_numpy(), case.names, case.threshold)
    for name, logits, place in (("x", case.logits, "top left"), ("x + δ", after, "bottom right")):
        figure.add_vline(
            x=case.threshold + float(logits[1]),
            line={"color": CLEAN, "width": 2, "dash": "solid" if name == "x" else "dot"},
            annotation_text=name,
            annotation_position=place,
        )
    figure.update_xaxes(title_text=f"N(x): below τ classified as {case.names[0]}, above as {case.names[1]}")
    accuracy = ((tests["score"] > case.threshold) == (tests["y"] == 1)).mean()
    elements.chart(
        figure.update_layout(height=260),
        key=f"{PAGE}_scores",
        alt="Histogram of the test set's scores with the threshold, and this image before and after the changes",
    )
    st.caption(f"Accuracy at this τ: {accuracy:.2%} of {len(tests):,} test images.")
