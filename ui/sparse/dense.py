"""The tab on all pixels a little: the dense formula, with and without the box."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core.storage import store
from ui.show import at_once, elements, provenance
from ui.sparse import one_image, views
from ui.sparse.case import Case
from ui.sparse.choice import PAGE, Chosen
from ui.text import both, grey_levels

BOXED, FREE = "in the box [0, 1]", "no box"
"""The two forms of the dense formula."""


def attack(factor: float, boxed: bool = True) -> dict[str, Any]:
    """The dense formula as a method's settings."""
    return {"name": "jacobian_dense", "boxed": boxed, "factor": factor}


def show(chosen: Chosen) -> None:
    """Draw the verdict, the pictures, predicted and actual score against ε, and the formula."""
    case = chosen.case
    results: dict[str, store.Artifact] = {}
    for name, boxed in ((BOXED, True), (FREE, False)):
        result = at_once.result(PAGE, case.ask(attack(chosen.factor, boxed)), name=f"dense_{boxed}")
        if result is None:
            return
        results[name] = result
    arrays, found = results[BOXED].arrays("images"), results[BOXED].table("images").iloc[0]
    free = results[FREE].arrays("images")
    size = both(float(arrays["trace_eps"][0]))
    views.verdict(
        case,
        found,
        f"A change of every pixel by at most {size} is enough",
        f"Changes of every pixel by at most {size}",
    )
    left, right = st.columns([1, 1])
    with left:
        for name, made in ((BOXED, arrays), (FREE, free)):
            views.triptych(
                case, made["x_adv"][0], np.log(made["probabilities"][0] + 1e-30), what=f"result, {name}", tile=112
            )
        lowest, highest = free["x_adv"][0].min(), free["x_adv"][0].max()
        st.caption(f"Without the box pixels range from {lowest:.3f} to {highest:.3f}; shown clipped to [0, 1].")
    with right:
        levels = {name: float(made["trace_eps_star"][0]) for name, made in ((FREE, free), (BOXED, arrays))}
        elements.chart(
            views.dense_curve(case, int(free["trace_toward"][0]), levels, float(arrays["trace_eps"][0])),
            key=f"{PAGE}_dense_curve",
            alt=f"The {case.quantity} against ε, predicted by the Jacobian and actual, with and without the box",
        )
        st.caption("Where a solid line leaves its dashed one, N is curved: the formula is exact only for a linear N.")
    frame = rows(case, results)
    numbers = frame.select_dtypes(np.floating).columns.astype(str)
    st.dataframe(
        frame,
        hide_index=True,
        column_config={name: st.column_config.NumberColumn(format="%.4g") for name in numbers},
        alt="The formula's ε* with and without the box, and the predicted and actual score",
    )
    formula(case)
    provenance.show(one_image.source_line(results[BOXED], case))


def formula(case: Case) -> None:
    """Draw the dense formula and its explanation."""
    st.markdown(
        "**The formula.** Change *every* pixel by the same ε, each in the direction that helps. To first order the "
        "score changes by ε·‖J‖₁ (Hölder's equality), so the smallest ε that reaches the threshold is known at once:"
        if case.scalar
        else "**The formula.** Change *every* pixel by the same ε, each in the direction that helps. The margin to the "
        "nearest class, or to the target, stands in the place of the score N."
    )
    gap = r"|\tau - N(x)|" if case.scalar else r"\mathrm{margin}(x)"
    left, right = st.columns(2)
    with left:
        st.latex(
            rf"\delta = \pm\,\varepsilon^{{*}}\,\mathrm{{sign}}(J),\quad "
            rf"\varepsilon^{{*}} = {gap} \,/\, \lVert J \rVert_1"
        )
    with right:
        st.latex(rf"\text{{in the box: }}\textstyle\sum_j |J_j|\min(\varepsilon^{{*}},u_j) = {gap}")
    st.caption(
        "In the box, the valid pixel range [0, 1], pixel j can only change by its room uⱼ: a black pixel cannot become "
        "darker. So ε* is larger there, but the result is a valid image."
    )


def rows(case: Case, results: dict[str, store.Artifact]) -> pd.DataFrame:
    """The table of the formula: a row for each of its forms."""
    return pd.DataFrame([row(case, name, result) for name, result in results.items()])


def row(case: Case, name: str, result: store.Artifact) -> dict[str, Any]:
    """The dense formula's ε* and the score that it predicts, beside the score that it reaches."""
    arrays, found = result.arrays("images"), result.table("images").iloc[0]
    level, start = float(arrays["trace_eps_star"][0]), float(case.margin(case.logits[None])[0])
    return {
        "formula": name,
        "ε*": level,
        "ε* in grey levels": grey_levels(level),
        "ε applied": float(arrays["trace_eps"][0]),
        f"{case.quantity.split(':')[0]} before": case.shown(start),
        "predicted": case.shown(float(arrays["trace_predicted"][0])),
        "actual": case.shown(float(arrays["trace_actual"][0])),
        "classified as": case.names[int(found["pred"])],
        "outcome": "fooled" if found["success"] else "not fooled",
    }
