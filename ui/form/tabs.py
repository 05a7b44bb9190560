"""Tabs that each answer another question: only the open one is drawn, and it stands in the address."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from streamlit.elements.lib.mutable_tab_container import TabContainer

from ui.form import bound


def tabs(page: str, names: Sequence[str], *, name: str = "tab", default: str | None = None) -> list[TabContainer]:
    """Draw tabs and return a container for each, whose `open` says whether it is the one on show.

    Draw what is in a tab only where it is open; a closed one then costs nothing:

        curves, images = tabs.tabs("epsilon_sweep", ["Curves", "Images"])
        if curves.open:
            with curves:
                draw_curves()

    The open tab stands in the address (`?<page>_tab=Images`; the first tab leaves no trace there), is kept when the
    page is left, and can be set by `routes.go(page, **{f"{page}_tab": "Images"})`. An unknown name opens the first tab.

    Args:
        page: url path of the page; the first half of the key.
        names: what is written on the tabs; at least one, each once.
        name: the second half of the key, `<page>_<name>`, for a second row of tabs on the same page.
        default: the tab that is open at first; the first one where it is None or not among the names.
    """
    key = f"{page}_{name}"
    if key in st.session_state and st.session_state[key] not in names:
        del st.session_state[key]  # that tab is not there any more
    bound.check(key, "the tab", list(names).__contains__, f"one of {', '.join(names)}")
    start = default if default in names else names[0]
    return list(st.tabs(list(names), key=key, default=start, on_change="rerun", bind="query-params"))
