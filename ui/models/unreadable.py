"""What lies in the store and cannot be read by this version, with the reasons."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.storage import left_out, store
from ui.show import elements


def section(page: str) -> None:
    """Draw what cannot be read, in an expander; nothing where all can."""
    found = left_out.unreadable(store.default_root())
    if not found:
        return
    with st.expander("Cannot be read", icon=":material/unknown_document:"):
        st.caption(
            "Models and results that another version of this program made, or that are damaged. They were left as "
            "they are. `python -m core verify` checks every file."
        )
        frame = pd.DataFrame(
            {
                "Name": [one.name for one in found],
                "Kind": ["result" if one.model else "model" for one in found],
                "Reason": [one.why for one in found],
                "Made by version": [one.made_by or None for one in found],
                "Model": [one.model or None for one in found],
            }
        )
        st.dataframe(
            frame,
            hide_index=True,
            placeholder="–",
            height=elements.table_height(len(frame), 320),
            key=f"{page}_unreadable",
            alt="Models and results that cannot be read, with the reasons",
        )
