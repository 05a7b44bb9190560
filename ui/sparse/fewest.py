"""The tab on how sparse a change can be: estimates, what was found, and what is proven."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from core.evaluation.tables.enumeration import Enumeration
from core.figures.base import ATTACKED, PROVEN, UNKNOWN, styled
from ui.app import sources
from ui.form.select import select
from ui.show import at_once, elements, lessons, provenance
from ui.sparse import enumeration, frontier, many_images, one_image, trace
from ui.sparse.case import Case
from ui.sparse.choice import PAGE, Chosen
from ui.text import literal

QUESTIONS = {
    "ways": "Ways to count",
    "enumerate": "Every change of one or two",
    "cap": "With a cap on each change",
}


def show(chosen: Chosen) -> None:
    """Draw the choice of the question and its answer."""
    question = select(
        PAGE,
        "sparsity",
        "Question",
        list(QUESTIONS),
        text=QUESTIONS.__getitem__,
        kind="buttons",
        help="Estimates and attacks; a proof by trying everything; fewer pixels against smaller changes.",
    )
    if question == "ways":
        ways(chosen)
    elif question == "enumerate":
        enumeration.one(chosen.case)
    else:
        frontier.show(chosen.case)


def ways(chosen: Chosen) -> None:
    """Draw how many changes this image needs, counted in each way, beside the counts of other images."""
    case = chosen.case
    result = at_once.result(PAGE, case.ask(chosen.greedy), name="greedy")
    if result is None:
        return
    found, steps = result.table("images").iloc[0], trace.Trace.of(result.arrays("images"))
    success, least = bool(found["success"]), proven(case)
    st.markdown(f"**{answer(case, steps, int(found['l0']), success, least)}**")
    left, right = st.columns(2)
    with left:
        st.markdown("**This image**")
        elements.chart(
            bars(steps, int(found["l0"]), success, least, case.unit),
            key=f"{PAGE}_ways",
            alt="Number of changed pixels by way of counting: estimate, greedy, pruned, swapped, and what is proven",
        )
        st.caption(
            "Linear estimate: from the Jacobian at x alone. Greedy: changes made one at a time, the best each time. "
            "Pruned: those that are not needed put back. Swapped: two exchanged for one where that is enough. "
            "Proven: for the values that were tried, one pixel at 256 grey levels and two at 0 or 1."
        )
    with right:
        many = sources.artifact(task) if (task := case.ask_many(chosen.greedy, 200)) else None
        many = many or at_once.result(PAGE, case.ask_many(chosen.greedy, many_images.FIRST), name="many")
        if many is not None:
            n = many.card["metrics"]["n"]
            st.markdown(f"**{n} images of class {literal(case.names[case.label])}**")
            many_images.distribution(many, case, int(found["l0"]) if success else None)
    provenance.show(one_image.source_line(result, case))
    lessons.sparse()


def proven(case: Case) -> Enumeration | None:
    """The stored enumeration of this image, of two changes where it is there, else of one."""
    for attack in enumeration.attacks(case):
        task = case.ask(attack)
        result = None if task is None else sources.artifact(task)
        if result is not None:
            return Enumeration.of(result.arrays("images"))
    return None


def answer(case: Case, steps: trace.Trace, count: int, success: bool, least: Enumeration | None) -> str:
    """The answer in a sentence: what was found, what the Jacobian estimates, what is proven."""
    unit = case.unit if count != 1 else case.unit[:-1]
    found = f"At most {count} {unit}" if success else f"Not found within the budget of {len(steps.order)} {case.unit}"
    estimate = f"the Jacobian alone estimates {steps.linear}" if steps.linear >= 0 else "the Jacobian gives no estimate"
    if least is None:
        return f"{found}; {estimate}. What is proven is not computed yet: see “Every change of one or two”."
    if least.fewest is not None:
        return f"{found}; {estimate}. {least.sentence()}"
    return f"{found}; {estimate}. Proven: more than {least.more_than}."


def bars(steps: trace.Trace, count: int, success: bool, least: Enumeration | None, unit: str) -> go.Figure:
    """The counts as bars: grey for an estimate, orange for what an attack found, green for what is proven."""
    known = [("linear estimate", steps.linear if steps.linear >= 0 else None, UNKNOWN, "/")]
    attacked = [("greedy", len(steps.order)), ("pruned", int(steps.kept.sum())), ("swapped", count)]
    known += [(name, value if success else None, ATTACKED, "") for name, value in attacked]
    lower = None if least is None else least.fewest if least.fewest is not None else least.more_than + 1
    known.append(("proven: at least", lower, PROVEN, "x"))
    known.reverse()
    figure = go.Figure(
        go.Bar(
            y=[name for name, *_ in known],
            x=[value if value is not None else np.nan for _, value, *_ in known],
            orientation="h",
            marker={"color": [hue for *_, hue, _ in known], "pattern": {"shape": [shape for *_, shape in known]}},
            text=["" if value is None else f"{value}" for _, value, *_ in known],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x}<extra></extra>",
        )
    )
    for name, value, *_ in known:
        if value is None:
            figure.add_annotation(x=0, y=name, text="–", showarrow=False, xanchor="left")
    figure.update_xaxes(title_text=f"changed {unit}", rangemode="tozero")
    return styled(figure, height=300, margin={"t": 8, "r": 24}, showlegend=False)
