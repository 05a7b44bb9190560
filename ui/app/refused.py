"""What an address asked for and the page could not take: a note above the page, as long as it is of use."""

from __future__ import annotations

from typing import Any, NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from ui.text import literal

_NOTES, _PLACE = "_refused", "_refused_place"
_UNSEEN = object()
LONGEST = 60
"""So many characters of a refused value are written out."""


class Note(NamedTuple):
    """A value that was refused: the sentence about it, and the value that the setting has instead."""

    page: str
    text: str
    instead: Any = _UNSEEN


def place(page: str) -> None:
    """Make the place where this page's notes stand, and draw those that are still of use. Call it below the heading.

    A note goes when its setting is changed, or the page is left.
    """
    st.session_state[_PLACE] = st.empty()
    kept = {
        key: note
        for key, note in _notes().items()
        if note.page == page and (note.instead is _UNSEEN or st.session_state.get(key, note.instead) == note.instead)
    }
    st.session_state[_NOTES] = kept
    _draw()


def add(page: str, key: str, label: str, given: list[str], expected: str) -> None:
    """Note that the address gives the setting `label` a value that it cannot have.

    Args:
        page: url path of the page on show.
        key: of the widget.
        label: what is written over it.
        given: the value, or the values, in the address.
        expected: what it can be, such as `a whole number from 1 to 20`.
    """
    got = " and ".join(f"“{literal(_short(text))}”" for text in given[:3]) + (" and more" if len(given) > 3 else "")
    text = f"The address sets {label} to {got}. Expected {expected}; the page ignores it."
    st.session_state[_NOTES] = {**_notes(), key: Note(page, text)}
    _draw()


def settle(key: str, value: Any) -> None:
    """Say which value a setting has after its widget was drawn: its note stays until that is changed."""
    note = _notes().get(key)
    if note is not None and note.instead is _UNSEEN:
        st.session_state[_NOTES] = {**_notes(), key: note._replace(instead=value)}


def _notes() -> dict[str, Note]:
    found: dict[str, Note] = st.session_state.get(_NOTES, {})
    return found


def _draw() -> None:
    texts = [note.text for note in _notes().values()]
    if not texts:
        return
    spot: DeltaGenerator = st.session_state.get(_PLACE) or st.empty()
    text = texts[0] if len(texts) == 1 else "\n".join(f"- {one}" for one in texts)
    spot.warning(text, icon=":material/link_off:")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
