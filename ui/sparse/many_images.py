"""The tab on many images of the class: how many changes they need, and which ε of the dense formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.storage import store
from ui.app import jobs, sources
from ui.form import controls
from ui.form.select import select
from ui.show import at_once, elements, gallery, provenance
from ui.sparse import dense, enumeration, one_image, trace
from ui.sparse.case import Case
from ui.sparse.choice import PAGE, Chosen
from ui.text import PERCENT, grey_levels, in_percent, literal

FIRST = 20
"""Images that are attacked at once, where no larger measurement is there."""
QUESTIONS = {
    "pixels": "How many pixels?",
    "two": "Are one or two enough?",
    "little": "All pixels a little",
}


def show(chosen: Chosen) -> None:
    """Draw the choice of the question and its answer."""
    case = chosen.case
    question = select(PAGE, "many", "Question", list(QUESTIONS), text=QUESTIONS.__getitem__, kind="buttons", help=HELP)
    if question == "pixels":
        pixels(chosen)
    elif question == "two":
        enumeration.many(case)
    else:
        formula(chosen)


HELP = "One image says little. Each question is answered on many test images of this class, all correctly classified."


def pixels(chosen: Chosen) -> None:
    """Draw how many changes many images need: as measured, or of the first few at once."""
    case = chosen.case
    with st.container(horizontal=True, vertical_alignment="bottom"):
        with st.container(width=200):
            n = controls.field(PAGE, specs.AttackSpec, "n", default=200)
        spec = case.ask_many(chosen.greedy, n)
        if spec is None:
            return
        asked = sources.artifact(spec) is None and st.button(
            f"Measure on {n:,} images", type="primary", icon=":material/bar_chart:", key=f"{PAGE}_measure"
        )
    result = jobs.result(PAGE, spec, asked=asked)
    if result is None:
        result = at_once.result(PAGE, case.ask_many(chosen.greedy, min(n, FIRST)), name="many")
    if result is None:
        return
    metrics = result.card["metrics"]
    st.markdown(sentence(case, metrics))
    left, right = st.columns([3, 2])
    with left:
        distribution(result, case)
    with right:
        st.dataframe(summary(result), hide_index=True, alt="Median, least and most changes by way of counting")
        st.caption(
            "Swapped, pruned and greedy are upper bounds: fewer changes may be enough. The linear estimate is a first "
            "guess from the Jacobian."
        )
        known = enumerated(case)
        if known is not None:
            st.info(f"Proven: {known.card['proven']['proven']}", icon=":material/verified:")
    extremes(result, case)
    provenance.show(one_image.source_line(result, case, one=False))


def sentence(case: Case, metrics: dict[str, Any]) -> str:
    """The answer in a sentence: the median count, and how many images were fooled within the budget."""
    name, median = literal(case.names[case.label]), metrics["median_l0"]
    if median is None:
        return f"**None of the {metrics['n']:,} images of class {name} was fooled within the pixel budget.**"
    return (
        f"**{median:g} {case.unit} are enough for half of the images of class {name} that were fooled** "
        f"({metrics['success_rate']:.1%} of {metrics['n']:,}; 95 % interval {metrics['low']:.1%} to "
        f"{metrics['high']:.1%})."
    )


def distribution(result: store.Artifact, case: Case, this: int | None = None) -> None:
    """Draw the histogram of the number of changes; `this` marks the count of the image at hand."""
    figure, _ = trace.counts(result.arrays("images"), result.table("images"), this)
    n = result.card["metrics"]["n"]
    elements.chart(
        figure,
        key=f"{PAGE}_counts",
        alt=f"Histogram of the number of changes that {n} images of class {case.names[case.label]} need",
    )


def summary(result: store.Artifact) -> pd.DataFrame:
    """Median, least and most changes by way of counting."""
    return trace.counts(result.arrays("images"), result.table("images"))[1]


def extremes(result: store.Artifact, case: Case) -> None:
    """Draw the images that needed the fewest and the most changes, before and after."""
    arrays, table = result.arrays("images"), result.table("images")
    won = table[table["success"]].sort_values("l0", kind="stable")
    if not len(won):
        return
    ends = pd.concat([won.head(5), won.tail(5)]).drop_duplicates("row")
    gallery.show(
        [[arrays["x"][r] for r in ends["row"]], [arrays["x_adv"][r] for r in ends["row"]]],
        rows=["before", "after"],
        captions=[
            [f"#{index}" for index in ends["index"]],
            [f"{count} → {case.names[pred]}" for count, pred in zip(ends["l0"].astype(int), ends["pred"], strict=True)],
        ],
        legend="The five that needed the fewest changes and the five that needed the most: count → classified as.",
        alt="The images that needed the fewest and the most changes, before and after",
    )


def enumerated(case: Case) -> store.Artifact | None:
    """The largest stored enumeration of images of this class, or None."""
    found = []
    for result in sources.results(case.model.id, "attack", data=case.data):
        spec = result.spec()
        if isinstance(spec, specs.AttackSpec) and isinstance(spec.attack, specs.Exhaustive):
            same = case.ask_many(dict(spec.attack.body()), spec.n)
            if same == spec and "proven" in result.card:
                found.append((spec.attack.pixels, spec.n, result.id, result))
    return max(found)[-1] if found else None


def formula(chosen: Chosen) -> None:
    """Draw the dense formula's ε* on many images, and how often a change of that size fools the model."""
    case = chosen.case
    with st.container(width=200):
        n = controls.field(PAGE, specs.AttackSpec, "n", default=200)
    frame = formula_rows(chosen, n)
    if frame is None:
        return
    boxed = frame[frame["formula"] == dense.BOXED].iloc[-1]
    st.markdown(
        f"**A change of every pixel by {boxed['size']} fools {boxed['fooled']:.1%} of {boxed['n']:,} images of class "
        f"{literal(case.names[case.label])}**; half of them have ε* below {boxed['median ε*']:.3g}, in the box."
    )
    shares = ("fooled", "95 % from", "to")
    st.dataframe(
        in_percent(frame, shares),
        hide_index=True,
        column_config={
            "median ε*": st.column_config.NumberColumn(format="%.4f"),
            **{name: st.column_config.NumberColumn(format=PERCENT) for name in shares},
        },
        alt="Median ε* of the dense formula and the share of images that it fools",
    )
    st.caption("At exactly 1 · ε* a linear N would lie on its threshold; a curved one falls short or goes beyond.")
    result = at_once.result(PAGE, case.ask_many(dense.attack(chosen.factor), n), name="many_dense")
    if result is not None:
        arrays, table = result.arrays("images"), result.table("images").head(10)
        gallery.show(
            [list(arrays["x"][:10]), list(arrays["x_adv"][:10])],
            rows=["before", "after"],
            captions=[
                [f"#{index}" for index in table["index"]],
                [case.names[pred] for pred in table["pred"]],
            ],
            legend=f"The first of them, changed by {chosen.factor:g} · ε* in the box: what the model answers.",
            alt="The first images before and after the change of all pixels",
        )
        provenance.show(one_image.source_line(result, case, one=False))


def formula_rows(chosen: Chosen, n: int) -> pd.DataFrame | None:
    """A row for each form of the formula and each size of the step, on the same images."""
    rows = []
    for boxed in (False, True):
        for size in sorted({1.0, chosen.factor}):
            task = chosen.case.ask_many(dense.attack(size, boxed), n)
            result = at_once.result(PAGE, task, name=f"many_{boxed}_{size}")
            if result is None:
                return None
            level, metrics = result.arrays("images")["trace_eps_star"], result.card["metrics"]
            rows.append(
                {
                    "formula": dense.BOXED if boxed else dense.FREE,
                    "size": f"{size:g} · ε*",
                    "median ε*": float(np.median(level)),
                    "in grey levels": grey_levels(float(np.median(level))),
                    "fooled": metrics["success_rate"],
                    "95 % from": metrics["low"],
                    "to": metrics["high"],
                    "n": metrics["n"],
                }
            )
    return pd.DataFrame(rows)
