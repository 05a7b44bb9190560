"""What lies in the store and cannot be read by this version, with the reasons."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core import access
from core.storage import left_out, store
from ui.text import literal

MOST = 100
"""Rows of the list."""


def section() -> None:
    """Draw what cannot be read, in an expander; nothing where all can."""
    found = left_out.unreadable(store.default_root())
    if not found:
        return
    with st.expander("Cannot be read", icon=":material/unknown_document:"):
        st.caption(
            "Models and results that another version of this program made, or that are damaged. They were left as "
            "they are. `python -m core verify` checks every file."
        )
        shown = found[:MOST]
        frame = pd.DataFrame(
            {
                "Name": [literal(one.name) + (f" of {literal(one.model)}" if one.model else "") for one in shown],
                "Reason": [literal(access.without_places(one.why)) for one in shown],
                "Made by version": [literal(one.made_by or "–") for one in shown],
            }
        )
        alt = "Models and results that cannot be read, with the reasons"
        st.table(frame, hide_index=True, border="horizontal", alt=alt)
        if len(found) > MOST:
            st.caption(f"And {len(found) - MOST:,} more; `python -m core models` lists all.")
