"""Epsilon sweep: accuracy and confidence against the budget ε, proven and attacked, and the images at every ε."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from core.storage import store
from ui.app import guard
from ui.measure import (
    record_choice,
    record_views,
    robust_views,
    sweep_choice,
    sweep_notes,
    sweep_parts,
    sweep_views,
)
from ui.measure.sweep_views import Curve
from ui.show import downloads, model_names, provenance

PAGE = "epsilon_sweep"


def any_eps(models: Sequence[store.Artifact], curves: Sequence[Curve], chance: float | None) -> None:
    """Draw proven and attacked accuracy at any ε, from every stored result of these models."""
    st.subheader("Proven and attacked, at any ε", anchor=False)
    norm, found = robust_views.in_a_norm(PAGE, models)
    if not found:
        return
    names = model_names.short_names(models)
    missing = [names[model.id] for model in models if model.id not in found]
    if missing:
        st.caption(f"Nothing in this norm yet: {', '.join(missing)}.")
    found = record_choice.choose_images(PAGE, found)
    reports = {model: robust_views.reports_of(model, norm) for model in found}

    def trusted(eps: float) -> None:
        robust_views.show_trust(PAGE, models, found, eps)

    def warned(eps: float) -> None:
        robust_views.warn(models, found, eps)

    record_views.lookup(PAGE, models, found, norm, curves, chance, {}, trusted, warned)
    record_views.rests_on(PAGE, found, names, norm, robust_views.trust_lines(reports))


def single_attacks(curves: Sequence[Curve], chance: float | None) -> None:
    """Draw each chosen attack on its own: curves, metrics, confidence, images."""
    st.subheader("Single attacks", anchor=False)
    curve, places = sweep_parts.choose_images(PAGE, curves)
    sweep_parts.lookup(PAGE, curves, chance, curve, places, {})
    st.subheader("What the curves say", anchor=False)
    sweep_parts.says(curves, chance)
    st.subheader("Confidence", anchor=False)
    sweep_parts.confidence(PAGE, curves)
    if places:
        st.subheader("The same images at every ε", anchor=False)
        sweep_parts.every_eps(PAGE, curve, places)


guard.ensure_router()

st.title("Epsilon sweep")
st.write(
    "How fast does accuracy fall as the attack may change each pixel by more, and how sure is the model meanwhile?"
)

choice = sweep_choice.choose(PAGE)
if choice is None:
    st.stop()
spec, models = choice
curves, missing = sweep_views.read(spec, models)
sweep_choice.run_missing(PAGE, spec, models, missing)
any_eps(models, curves, sweep_notes.chance_of(models))
if not curves:
    st.stop()
single_attacks(curves, sweep_notes.chance_of([curve.model for curve in curves]))

st.subheader("Take away", anchor=False)
lines = "\n".join(curve.provenance() for curve in curves)
table = pd.DataFrame([{**sweep_views.named(curve), **row} for curve in curves for row in curve.rows])
with st.container(horizontal=True):
    downloads.table(PAGE, table, name="epsilon_sweep", provenance=lines)
    sweep_views.every_image(PAGE, curves, lines)
provenance.show("  \n".join(curve.provenance() for curve in curves))
