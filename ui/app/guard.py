"""A page that is run without the router hands over to it.

Streamlit takes a folder named `pages` for its older kind of multi-page app until `st.navigation` was called once in the
server: the first visit to `/train` after a start would run `pages/train.py` alone, without sidebar and router.
"""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from ui.app import routes

_ROUTED = "_routed"


@contextmanager
def routed() -> Iterator[None]:
    """Mark the run of a page as one that the router started; see `told`."""
    st.session_state[_ROUTED] = True
    try:
        with told():
            yield
    finally:
        st.session_state.pop(_ROUTED, None)


@contextmanager
def told() -> Iterator[None]:
    """Say in a sentence that an artifact cannot be read, wherever that is noticed; what was drawn before it stays.

    As a decorator for what runs apart from the page: fragments.
    """
    try:
        yield
    except Exception as error:
        from core.storage.damage import DamagedArtifact
        from ui.text import literal

        if not isinstance(error, DamagedArtifact):
            raise
        st.error(literal(error), icon=":material/error:")


def ensure_router() -> None:
    """Run the router if it did not run: it shows the requested page. Call it first on every page, before imports."""
    if st.session_state.get(_ROUTED):
        return
    # within this run, and not by a rerun: that would lose the click that led here
    runpy.run_path(str(routes.PROJECT / "dashboard.py"), run_name="__main__")
    st.stop()
