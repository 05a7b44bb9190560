"""A page's title and the sentence below it, drawn before anything that takes time is imported or read."""

from __future__ import annotations

import streamlit as st

from ui.app import routes

_LOW = """<style>
[data-testid="stMainBlockContainer"] { padding: 1.25rem 2rem 2rem; }
[data-testid="stMainBlockContainer"] h1 { font-size: 1.6rem; padding-bottom: 0; }
@media (max-width: 640px) { [data-testid="stMainBlockContainer"] { padding: 4rem 1rem 2rem; } }
</style>"""
"""The playground's, whose stage takes all of a screen."""


def show(path: str) -> None:
    """Draw the heading of the page with this url path, "" for the default one."""
    name = routes.name_of(path)
    route = routes.ROUTES[name]
    title = route.heading or route.title
    if name != routes.DEFAULT:
        st.title(title)
        st.write(route.lead)
        return
    st.html(_LOW)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.title(title, anchor=False, width="content")
        st.write(route.lead)
