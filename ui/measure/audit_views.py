"""The metric auditor on the comparison page: which figures of a published table cannot be right."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.evaluation.tables import auditor
from ui.text import literal

EXAMPLE = """model | correct | error | confidence | confidence when correct | confidence when wrong
standard, clean | .9858 | .0142 | .9858 | .9899 | .7029
standard, FGSM | .0496 | .9504 | .9305 | .8869 | .9328
trained, clean | .9840 | .0160 | .9721 | .9761 | .6734
trained, FGSM | .8328 | .1672 | .8458 | .8761 | .6947"""
"""The published table of exercise set 3."""
MARKS = {"holds": "✓ holds", "fails": "✗ fails", "incomplete": "– incomplete"}


def section(page: str) -> None:
    """Draw a box for the table and a verdict for each of its rows."""
    key = f"{page}_audit"

    def put() -> None:
        st.session_state[key] = EXAMPLE

    text = st.text_area(
        "A table of the five metrics",
        key=key,
        height=150,
        placeholder="Paste rows of: correct, error, confidence, confidence when correct, confidence when wrong",
        help="CSV, Markdown, LaTeX or plain text; shares or percentages; metrics as columns or as rows.",
    )
    st.button(
        "Put in exercise set 3's table",
        key=f"{page}_audit_example",
        type="tertiary",
        icon=":material/content_paste:",
        on_click=put,
    )
    if not text.strip():
        st.caption(
            "Mean confidence is that of correct and of wrong images, weighted by their shares: C = A·Cc + E·Ce. "
            "Printed digits stand for all numbers that round to them, so C has a range; outside it, something is wrong."
        )
        return
    try:
        findings = auditor.audit(text)
    except ValueError as error:
        st.error(f"No table of the five metrics was found. {literal(error)}", icon=":material/error:")
        return
    rows = [
        {
            "row": finding.row.label or f"row {number}",
            "verdict": MARKS[finding.verdict],
            "C printed": finding.row.printed["confidence"].text if "confidence" in finding.row.printed else "–",
            "A·Cc + E·Ce": f"{finding.low:.5f} – {finding.high:.5f}" if finding.low <= finding.high else "–",
            "could be": "; ".join(
                f"{metric.replace('_', ' ')} {other} instead of {printed}"
                for metric, printed, other in finding.misprints
            ),
            "what it says": finding.note,
        }
        for number, finding in enumerate(findings, start=1)
    ]
    bad = sum(finding.verdict == "fails" for finding in findings)
    if bad:
        st.warning(f"{bad} of {len(findings)} rows cannot be right as printed.", icon=":material/warning:")
    else:
        st.success("No row contradicts itself.", icon=":material/check:")
    st.dataframe(pd.DataFrame(rows), hide_index=True, key=f"{page}_audit_table", alt="Verdict of each row")
