"""The tab with the files of what the other tabs show."""

from __future__ import annotations

import streamlit as st

from ui.app import sources
from ui.masks import each_image, one_pattern
from ui.masks.choice import PAGE, Chosen
from ui.show import downloads, provenance


def show(chosen: Chosen) -> None:
    """Draw the files of the attack on one image or a few, and of the one pattern for many images."""
    result = each_image.made(chosen)
    if result is not None:
        with st.container(border=True):
            st.markdown("**A pattern for each image**")
            picture = each_image.pictures(result, chosen.names)
            line = each_image.source_line(result, chosen.model)
            provenance.show(line)
            images, frame = result.arrays("images"), each_image.rows(result)
            wanted = {"x": images["x"], "x_adv": images["x_adv"], "mask": result.arrays("mask")["mask"]}
            if "trace_views" in images:
                wanted["views"] = images["trace_views"]
            with st.container(horizontal=True):
                downloads.picture(PAGE, picture, name="masked", provenance=line)
                downloads.table(PAGE, frame, name="masked", provenance=line)
                downloads.arrays(PAGE, wanted, name="masked", provenance=line, images=frame)
    with st.container(border=True):
        st.markdown("**One pattern for many images**")
        spec = one_pattern.task_as_set(chosen)
        pattern = None if spec is None else sources.artifact(spec)
        if pattern is None:
            st.write("Not made yet for these settings: see the tab “One pattern for many”.")
        else:
            one_pattern.files(pattern, chosen.model)
