"""What the store holds for the exercises; read again when something in it has changed.

Notes are the store's, which all who use it share; of people who sign in, each person's own; on a public server without
sign-in, each visitor's own for as long as the session.
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
from ui.app import signin

_NOTES = "_exercises_notes"


def note(made: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Keep what a function, one of `core.exercises.notes`, makes of the notes."""
    root, person = store.default_root(), signin.person()
    if _in_session(person):
        st.session_state[_NOTES] = made(_notes(root))
    else:
        notes.change(root, made, person)


def _notes(root: Path) -> dict[str, Any]:
    person = signin.person()
    if not _in_session(person):
        return notes.read(root, person)
    found: dict[str, Any] = st.session_state.get(_NOTES, notes.nothing())
    return found


def kept() -> str:
    """A sentence that says where notes are kept, and who can read them."""
    person = signin.person()
    if _in_session(person):
        return "It is kept until you close or reload this page, for you alone: download the report before."
    return f"It is kept in the store, where {'only you' if person else 'everybody who uses this store'} can read it."


def _in_session(person: str) -> bool:
    return access.is_public() and not person


def of_store() -> evidence.Evidence:
    """Models and results, yours and the bundled ones, with your notes."""
    root = store.default_root()
    return replace(_cards(root, bundled.root(), evidence.stamp(root)), notes=_notes(root))


@st.cache_resource(max_entries=4, show_spinner="Looking through the store …")
def _cards(root: Path, also: Path | None, stamp: evidence.Stamp) -> evidence.Evidence:
    return evidence.gather(root)
