"""Projector mode: no sidebar, large type; `?projector=1` in the address of any page."""

from __future__ import annotations

import streamlit as st

KEY = "projector"
_CSS = """<style>
section[data-testid="stSidebar"], [data-testid="stExpandSidebarButton"] { display: none; }
[data-testid="stMainBlockContainer"] { max-width: none; padding: 1rem 2rem; }
[data-testid="stMainBlockContainer"] p, [data-testid="stMainBlockContainer"] label,
[data-testid="stMainBlockContainer"] button, [data-testid="stMainBlockContainer"] li,
[data-testid="stMainBlockContainer"] input { font-size: 1.2rem; }
[data-testid="stMainBlockContainer"] h1 { font-size: 2.2rem; }
</style>"""


def is_on() -> bool:
    """Whether the address asks for projector mode, or the toggle was set."""
    return bool(st.session_state.get(KEY, st.query_params.get(KEY) in ("1", "true")))


def toggle() -> None:
    """Draw the switch of projector mode, and the look of the page while it is on."""
    given = st.query_params.get(KEY)
    if KEY not in st.session_state and given in ("1", "true"):
        st.session_state[KEY] = True
    on = st.toggle(
        "Projector",
        key=KEY,
        help="Large type, without the sidebar. The arrow keys move ε (left, right) and the target class (up, down).",
    )
    if on:
        st.html(_CSS)
        if given != "1":
            st.query_params[KEY] = "1"
    elif given is not None:
        del st.query_params[KEY]
