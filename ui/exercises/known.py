"""What the store holds for the exercises; read again when something in it has changed.

Notes are the store's, which all who use it share; on a public server, each visitor's own for as long as the session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from core import access
from core.exercises import evidence, notes
from core.storage import bundled, store

_NOTES = "_exercises_notes"


def note(made: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Keep what a function, one of `core.exercises.notes`, makes of the notes."""
    if access.is_public():
        st.session_state[_NOTES] = made(_notes(store.default_root()))
    else:
        notes.change(store.default_root(), made)


def _notes(root: Path) -> dict[str, Any]:
    if not access.is_public():
        return notes.read(root)
    found: dict[str, Any] = st.session_state.get(_NOTES, notes.nothing())
    return found


def of_store() -> evidence.Evidence:
    """Models and results, yours and the bundled ones, with your notes."""
    root = store.default_root()
    return replace(_cards(root, bundled.root(), evidence.stamp(root)), notes=_notes(root))


@st.cache_resource(max_entries=4, show_spinner="Looking through the store …")
def _cards(root: Path, also: Path | None, stamp: evidence.Stamp) -> evidence.Evidence:
    return evidence.gather(root)
