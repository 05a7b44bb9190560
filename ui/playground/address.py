"""Values that stand in the address and belong to no widget of Streamlit: they are set in our own components.

A value lies in the session under `<page>_<name>`, so that a link can set it as it sets a widget (`routes.go`), and in
the address under the same name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from ui.app import refused

T = TypeVar("T")

PAGE = "playground"
MOVED = f"{PAGE}_moved"
"""Whether the stage asked for this run, and whether a slider was moved: see `ui.playground.stage`."""


def value(
    name: str,
    read: Callable[[str], T | None],
    text: Callable[[T], str],
    default: T,
    said: tuple[str, str] | None = None,
) -> T:
    """The value now: of the address if that has changed, else of the session, else the default.

    In a run that the stage asked for, the address is old news: the browser has not been told yet what was moved last.

    Args:
        name: the second half of the key.
        read: the value that a text in the address means; None where it means nothing, which is then ignored.
        text: how a value is written in the address.
        default: the value at first; it leaves no trace in the address.
        said: what people call the setting, and what it can be, for the note about an address that means nothing.
    """
    key = f"{PAGE}_{name}"
    given = st.query_params.get(key)
    behind = st.session_state.get(MOVED, False)
    if given is not None and not behind and given != st.session_state.get(f"{key}_followed"):
        found = read(given)
        if found is not None:
            st.session_state[key] = found
        elif said is not None:
            label, expected = said
            refused.add(PAGE, key, label, [given], expected)
    now = st.session_state.get(key, default)
    found = read(text(now)) if isinstance(now, type(default)) else read(str(now))
    now = default if found is None else found
    st.session_state[key] = now
    refused.settle(key, now)
    written = text(now)
    st.session_state[f"{key}_followed"] = written
    if now == default:
        if given is not None:
            del st.query_params[key]
    elif given != written:
        st.query_params[key] = written
    return now


def put(name: str, new: object) -> None:
    """Set a value: call it before `value` draws on it, as in a callback."""
    key = f"{PAGE}_{name}"
    st.session_state[key] = new
    # what the address says is old now
    st.session_state[f"{key}_followed"] = st.query_params.get(key)
