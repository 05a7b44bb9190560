"""What can be taken away from the epsilon sweep's page."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from ui.measure import record_views, reliability, sweep_views
from ui.measure.measured import Measured, farthest, figures
from ui.show import downloads, provenance
from ui.text import both


def section(measured: Measured, eps: float) -> None:
    """Draw the buttons: the table at this ε, every ε of the curves, every image, and the records."""
    page, curves = measured.page, measured.curves
    lines = "\n".join(
        [*(curve.provenance() for curve in curves), *(record_views.line(record) for record in measured.found.values())]
    )
    st.markdown(f"**The table at ε = {both(eps) if measured.norm == 'linf' else f'{eps:g}'}**")
    st.caption("Every figure is a share from 0 to 1; what is not known at this ε is left empty.")
    downloads.table(
        page,
        at(measured, eps),
        name="epsilon_sweep_at",
        provenance=f"{lines}\nat ε {eps:g} in {measured.norm}",
        formats=("csv", "md", "tex", "xlsx"),
        keep=("all", "proven"),
    )
    if curves:
        st.markdown("**Every ε of the curves**")
        st.caption("The five metrics, intervals and success rate of each curve; and a row for every image at every ε.")
        table = pd.DataFrame([{**sweep_views.named(curve), **row} for curve in curves for row in curve.rows])
        with st.container(horizontal=True):
            downloads.table(page, table, name="epsilon_sweep", provenance=lines)
            sweep_views.every_image(page, curves, lines)
    if measured.found:
        st.markdown("**What is known of each image**")
        st.caption("The smallest change found and the largest that is proven, merged from all results in this norm.")
        reports = {model: reliability.reports_of(model, measured.norm, measured.spec.data) for model in measured.found}
        notes = reliability.trust_lines(reports)
        record_views.files(page, measured.found, measured.norm, farthest(measured), notes)
    if lines:
        provenance.show(lines.replace("\n", "  \n"), here=False)
    else:
        st.info("Nothing has been run with these settings yet: there is nothing to take away.", icon=":material/info:")


def at(measured: Measured, eps: float) -> pd.DataFrame:
    """The table at ε as it is exported: shares, NaN for what is not known."""
    frame = figures(measured, eps).drop(columns=["passes", "seconds", "parameters", "attacked_by"])
    frame["trust"] = [text.removeprefix("– ") for text in frame["trust"]]
    return frame.assign(eps=eps, norm=measured.norm)
