"""The reliability checks of an evaluation on a page: the overall verdict, the checks, the figures behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from core.evaluation.trust.report import MARKS, Check, Surface, Trust
from core.evaluation.trust.rules import RULES
from core.figures.trust import attacks, loss_landscape, loss_surface, strip
from ui.form import bound
from ui.show import elements
from ui.text import sentence_case

WORDS = {
    "fail": "Do not believe this figure yet.",
    "warn": "Believe this figure with care.",
    "pass": "Nothing speaks against this figure.",
}
SHORT = {"fail": "do not believe", "warn": "with care", "pass": "nothing against it"}
_BOXES = {
    "fail": (st.error, ":material/cancel:"),
    "warn": (st.warning, ":material/warning:"),
    "pass": (st.success, ":material/check_circle:"),
}


def read(trust: Trust | Mapping[str, Any] | None) -> Trust | None:
    """The report, given as itself or as the `trust` of a card; None stays None."""
    return trust if trust is None or isinstance(trust, Trust) else Trust.from_json(trust)


def word(trust: Trust | Mapping[str, Any] | None) -> str:
    """The verdict for a cell of a table: a sign and a word."""
    made = read(trust)
    if made is None:
        return "– not checked"
    return f"{MARKS['fail']} do not use" if made.warning else f"{MARKS[made.verdict]} {SHORT[made.verdict]}"


def show_trust(trust: Trust | Mapping[str, Any] | None, *, key: str = "trust", open_pictures: bool = False) -> None:
    """Draw a report: a box with the overall verdict and its reasons, all checks, and the pictures, folded.

    Args:
        trust: the report, or the `trust` of an evaluation's card; None says that there is none.
        key: tells several reports on one page apart.
        open_pictures: whether the pictures are unfolded at first.
    """
    made = read(trust)
    if made is None:
        st.info("No reliability checks came with this figure: evaluate with them.", icon=":material/info:")
        return
    if made.warning:
        st.error(f"**Do not use this accuracy.** {made.warning}", icon=_BOXES["fail"][1])
    box, icon = _BOXES[made.verdict]
    box(f"**{WORDS[made.verdict]}** {summary(made)}", icon=icon)
    if made.left_to_find():
        st.caption(made.left_to_find())
    with st.expander(f"All {len(made.checks)} checks", expanded=made.verdict != "pass"):
        if made.doubts():
            st.markdown("\n".join(f"- {todo(check)}" for check in made.doubts()))
        st.dataframe(
            table(made),
            hide_index=True,
            key=f"{key}_checks",
            alt=made.line(),
            column_config={"Check": st.column_config.TextColumn(pinned=True)},
        )
        st.caption(
            f"{made.n} images, {made.effort} effort, seed {made.seed}; {made.forwards / made.n:,.0f} forward and "
            f"{made.backwards / made.n:,.0f} backward passes an image. Signs of masked gradients after Athalye, "
            "Carlini and Wagner 2018, arXiv 1802.00420."
        )
    folded = st.expander("Pictures behind the checks", expanded=open_pictures, key=f"{key}_pictures", on_change="rerun")
    if folded.open:  # else a slider above would draw them anew at each move
        with folded:
            pictures(made, key)


def pictures(made: Trust, key: str) -> None:
    """Draw the strip of verdicts, the accuracy under each attack, and the loss surfaces."""
    elements.chart(strip(made), key=f"{key}_strip", alt=made.line())
    left = ", ".join(f"{name} {accuracy:.0%}" for name, accuracy in made.accuracy.items())
    elements.chart(attacks(made), key=f"{key}_attacks", alt=f"Accuracy left: {left}")
    if made.surfaces:
        note = "To turn with the mouse; flat is exact to read."
        solid = bound.toggle("Surfaces in 3-D", key=f"{key}_solid", help=note)
        with st.grid(min(2, len(made.surfaces)), min_column_width=330):
            for place, surface in enumerate(made.surfaces):
                picture(surface, solid, f"{key}_surface_{place}")
        st.caption(
            "The margin of an image over two directions: to the right a full step against the gradient, upwards a "
            "random one. An honest model falls smoothly to the right; where gradients are masked it is flat, or a "
            "heap of needles, or falls as much by chance. The line is where the answer changes."
        )


def picture(surface: Surface, solid: bool, key: str) -> None:
    """Draw one loss surface, flat or in 3-D."""
    lowest = min(min(row) for row in surface.margin)
    with st.container():
        st.markdown(f"Image {surface.index}, class {surface.y}")
        elements.chart(
            loss_landscape(surface) if solid else loss_surface(surface),
            key=key,
            alt=f"Margin of image {surface.index} around it; the lowest is {lowest:.3g}",
        )


def summary(trust: Trust) -> str:
    """The reasons in a sentence or two."""
    doubts = trust.doubts()
    passed = sum(check.verdict == "pass" for check in trust.checks)
    if not doubts:
        skipped = sum(check.verdict == "skipped" for check in trust.checks)
        more = f", {skipped} could not be asked" if skipped else ""
        return f"{passed} checks of {trust.n} images pass{more}."
    reasons = "; ".join(f"{RULES[check.name].sign} ({check.said})" for check in doubts)
    return f"{sentence_case(reasons)}. {passed} of {len(trust.checks)} checks pass."


def todo(check: Check) -> str:
    """A failed check in full: its question, the finding, the advice."""
    return f"{MARKS[check.verdict]} **{check.title}?** {check.finding} *{check.advice}*"


def table(trust: Trust) -> pd.DataFrame:
    """A table with a row for each check, failed ones first."""
    order = list(MARKS)
    checks: list[Check] = sorted(trust.checks, key=lambda check: order.index(check.verdict))
    return pd.DataFrame(
        {
            "Verdict": [f"{MARKS[check.verdict]} {check.verdict}" for check in checks],
            "Check": [check.title for check in checks],
            "Measured": [check.said for check in checks],
            "Finding": [check.finding for check in checks],
            "Limits": [check.limits for check in checks],
        }
    )
