"""Model comparison: models ranked at one ε, two of them on the same images, paired tests, and the exports."""

from __future__ import annotations

from ui.app import guard

guard.ensure_router()

import streamlit as st

from core.evaluation.tables import comparison
from core.storage import store
from ui.app import routes
from ui.form import tabs
from ui.measure import (
    audit_views,
    comparison_views,
    measured,
    order_views,
    ranking_views,
    record_choice,
    record_runs,
    record_views,
    reliability,
    sweep_choice,
    sweep_views,
    transfer_views,
)
from ui.measure.measured import Measured
from ui.show import model_names, provenance

PAGE = "model_comparison"
TABS = [
    "Ranking",
    "Side by side",
    "Is A more robust than B?",
    "Who fools whom",
    "Five metrics",
    "Reliability",
    "Check a published table",
    "Export",
]


@st.fragment
@guard.told()
def answer(shown: Measured) -> None:
    """Draw the ε slider and all that depends on it; a move draws only this part again, from memory."""
    options = measured.stops(shown)
    eps = sweep_choice.eps_slider(PAGE, options, measured.start(shown, options), shown.norm)
    reliability.warn(shown, eps)
    drawn = {
        "Ranking": ranking_views.section,
        "Side by side": comparison_views.side_by_side,
        "Is A more robust than B?": order_views.section,
        "Who fools whom": transfer_views.section,
        "Five metrics": comparison_views.set_three,
        "Reliability": reliability.section,
        "Check a published table": lambda _, __: audit_views.section(PAGE),
        "Export": export,
    }
    for tab, name in zip(tabs.tabs(PAGE, TABS), TABS, strict=True):
        if tab.open:
            with tab:
                drawn[name](shown, eps)


def export(shown: Measured, eps: float) -> None:
    """Draw the downloads, and the way to the same curves."""
    made = comparison.compare(shown.spec, store.default_root())
    more = {"ranking": comparison_views.ranking(shown, eps)} | order_views.tables(
        order_views.shared(shown), shown.spec.eps, shown.norm, shown.spec.data
    )
    st.caption("Every cell that has been run, at every ε: five metrics, n, intervals, calibration gap, success rate.")
    comparison_views.exports(PAGE, made, more, [record_views.line(record) for record in shown.found.values()])
    provenance.show(made.provenance())


choice = sweep_choice.choose(PAGE, start=4, row=True)
if choice is None:
    st.stop()
curves, missing = sweep_views.read(choice.spec, choice.models)
found = record_views.read(choice.models, choice.norm, data=choice.spec.data)
with choice.more:
    found = record_choice.choose_images(PAGE, found)
running = sweep_choice.watch(PAGE, choice.spec, missing)
record_runs.watch(PAGE, [model.id for model in choice.models], choice.norm)
if not running:
    sweep_choice.run_missing(PAGE, choice.spec, choice.models, missing, row=True)
names = model_names.short_names(choice.models)
answer(Measured(PAGE, choice.spec, choice.models, names, choice.norm, curves, missing, found, fine=choice.fine))
if st.button(
    "Open these curves in the epsilon sweep", icon=":material/show_chart:", key=f"{PAGE}_open", type="tertiary"
):
    routes.go("epsilon_sweep", **sweep_choice.handed_over(PAGE, "epsilon_sweep"))
