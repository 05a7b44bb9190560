"""The tab with the files of the perturbation."""

from __future__ import annotations

import streamlit as st

from ui.show import downloads, provenance
from ui.universal import choice, held_out, views
from ui.universal.choice import PAGE, Chosen


def show(chosen: Chosen) -> None:
    """Draw the perturbation and its images, each with its files."""
    result = choice.result(chosen)
    if result is None:
        return
    line = views.source_line(result, chosen.model)
    provenance.show(line)
    left, right = st.columns([2, 5])
    with left:
        alone = views.perturbation(result)
        downloads.picture(PAGE, alone, name="universal_perturbation", provenance=line, scale=8, label="Perturbation")
    with right:
        grid = views.before_and_after(result, "held_out", chosen.names)
        with st.container(horizontal=True):
            downloads.picture(PAGE, grid, name="universal_images", provenance=line, label="Images")
            contents = {**result.arrays("perturbation"), **result.arrays("held_out")}
            seen = result.table("held_out").head(len(contents["x"]))[["target", "pred", "success"]]
            downloads.arrays(PAGE, contents, name="universal", provenance=line, images=seen)
    held, made = result.table("held_out"), result.table("made_from")
    st.markdown("**Tables**")
    rows = held_out.class_rows(held, chosen.names)
    downloads.table(PAGE, rows, name="universal_by_class", provenance=line, label="By class")
    with st.container(horizontal=True):
        downloads.table(PAGE, held, name="universal_held_out", provenance=line, formats=("csv",), label="Held out")
        downloads.table(PAGE, made, name="universal_made_from", provenance=line, formats=("csv",), label="Made from")
