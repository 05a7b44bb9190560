"""Epsilon sweep: accuracy and confidence against the budget ε, attacked and proven, and the images at every ε."""

from __future__ import annotations

from ui.app import guard

guard.ensure_router()

import streamlit as st

from ui.form import tabs
from ui.measure import (
    first_view,
    measured,
    record_choice,
    record_runs,
    record_views,
    reliability,
    sweep_choice,
    sweep_export,
    sweep_notes,
    sweep_parts,
    sweep_views,
)
from ui.measure.measured import Measured
from ui.show import model_names, provenance

PAGE = "epsilon_sweep"


@st.fragment
@guard.told()
def answer(shown: Measured) -> None:
    """Draw the ε slider and all that depends on it; a move draws only this part again, from memory."""
    options = measured.stops(shown)
    eps = sweep_choice.eps_slider(PAGE, options, measured.start(shown, options), shown.norm)
    st.markdown(measured.sentence(shown, eps, measured.figures(shown, eps)))
    reliability.warn(shown, eps)
    accuracy, images, confidence, checks, export = tabs.tabs(
        PAGE, ["Accuracy", "Images", "Confidence", "Reliability", "Export"]
    )
    if accuracy.open:
        with accuracy:
            sweep_parts.chart(shown, eps)
            sweep_parts.table(shown, eps)
            sweep_notes.crossings(shown.curves)
    if images.open:
        with images:
            sweep_parts.images(shown, eps)
    if confidence.open:
        with confidence:
            sweep_parts.confidence(shown, eps)
    if checks.open:
        with checks:
            reliability.section(shown, eps)
    if export.open:
        with export:
            sweep_export.section(shown, eps)


left, right = st.columns([1, 2.8], gap="medium")
with left:
    choice = sweep_choice.choose(PAGE)
if choice is None:
    st.stop()
spec, models = choice.spec, choice.models
curves, missing = sweep_views.read(spec, models)
found = record_views.read(models, choice.norm, data=spec.data)
with choice.more:
    found = record_choice.choose_images(PAGE, found)
with right:
    running = sweep_choice.watch(PAGE, spec, missing)
    record_runs.watch(PAGE, [model.id for model in models], choice.norm)
with left:
    if not running:
        sweep_choice.run_missing(PAGE, spec, models, missing)
    first_view.exercise_five(PAGE)
shown = Measured(
    PAGE, spec, models, model_names.short_names(models), choice.norm, curves, missing, found, fine=choice.fine
)
with right:
    sweep_notes.mixed(models, spec.data)
    answer(shown)
    if curves:
        with st.expander("Where these curves come from", icon=":material/info:"):
            provenance.show("  \n".join(curve.provenance() for curve in curves))
