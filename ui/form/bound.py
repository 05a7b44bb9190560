"""Widgets whose value stands in the address: what an address says is checked before a widget takes it.

An address is typed, cut short, and passed on by others. A value that a widget cannot have is dropped from it: the
widget has its default, and a note above the page says what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import streamlit as st
from streamlit.runtime.state.session_state_proxy import get_session_state

from core.escaping import CONTROL
from ui.app import endings, refused

N = TypeVar("N", int, float)

KEEP: dict[str, Any] = {"bind": "query-params", "persist_state": "session"}
"""Arguments of every widget that belongs to a page's settings: its value survives a switch of pages and a reload."""
LARGEST = (1 << 53) - 1
"""Largest whole number that a browser holds exactly."""
MAX_CHARS = 2000
"""Characters that a text from an address has at most."""


def slider(label: str, *, key: str, value: N, min_value: N, max_value: N, **rest: Any) -> N:
    """`st.slider` of one number, bound to the address."""
    _check_number(key, label, isinstance(value, int), min_value, max_value, empty=False)
    return _settled(key, st.slider(label, min_value, max_value, value, key=key, **rest, **KEEP))


def number_input(
    label: str,
    *,
    key: str,
    value: Any,
    whole: bool,
    min_value: float | None = None,
    max_value: float | None = None,
    **rest: Any,
) -> Any:
    """`st.number_input`, bound to the address: of whole numbers, or of real ones. `value` None: it may be empty."""
    _check_number(key, label, whole, min_value, max_value, empty=value is None)
    common = {"min_value": min_value, "max_value": max_value, "value": value}
    return _settled(key, st.number_input(label, key=key, **common, **rest, **KEEP))


def text_input(label: str, *, key: str, max_chars: int | None = None, **rest: Any) -> str:
    """`st.text_input`, bound to the address."""
    check_text(key, label, max_chars or MAX_CHARS)
    return _settled(key, st.text_input(label, key=key, max_chars=max_chars, **rest, **KEEP))


def toggle(label: str, *, key: str, **rest: Any) -> bool:
    """`st.toggle`, bound to the address."""
    check(key, label, lambda text: text.lower() in ("true", "false"), "true or false")
    return _settled(key, st.toggle(label, key=key, **rest, **KEEP))


def check_text(key: str, label: str, longest: int = MAX_CHARS) -> None:
    """Refuse a text in the address that is too long for a widget, or has control characters."""
    expected = f"one line of at most {longest:,} characters"
    check(key, label, lambda text: len(text) <= longest and not CONTROL.search(text), expected)


def check(key: str, label: str, fits: Callable[[str], bool], expected: str) -> None:
    """Refuse what the address says of a widget of one value where that does not fit. Call it just before the widget.

    Args:
        key: of the widget.
        label: what is written over it.
        fits: whether the widget can take a text.
        expected: what it can take, such as `true or false`.
    """
    given = st.query_params.get_all(key)
    news = _is_new(key, given)
    if given and not (len(given) == 1 and fits(given[0])):
        drop(key)
        if news:
            refused.add(endings.page_on_show(), key, label, given, expected if len(given) == 1 else f"once {expected}")


def check_many(key: str, label: str, known: Collection[str]) -> None:
    """Refuse those texts in the address that a widget of several choices does not know; the others stay."""
    given = st.query_params.get_all(key)
    news = _is_new(key, given)
    unknown = [text for text in given if text not in known]
    if unknown and any(given):
        drop(key, [text for text in given if text in known])
        if news:
            refused.add(endings.page_on_show(), key, label, unknown, "what this setting offers")


def drop(key: str, left: list[str] | None = None) -> None:
    """Take a value out of the address, before or after its widget is bound; `left` stays of several."""
    with get_session_state().query_params() as address:
        address.remove_param(key)
        if left:
            address.set_corrected_value(key, left if len(left) > 1 else left[0], "string_array_value")
        # a widget takes its value from the address as it was at first
        address.set_initial_query_params_from_current()


def _is_new(key: str, given: list[str]) -> bool:
    """Whether the address says something else than at the last look; what was fine then may be no option now."""
    looked = f"{key}_looked"
    if st.session_state.get(looked) == given:
        return False
    st.session_state[looked] = given
    return True


def _check_number(key: str, label: str, whole: bool, low: float | None, high: float | None, *, empty: bool) -> None:
    low = -LARGEST if low is None and whole else low
    high = LARGEST if high is None and whole else high

    def fits(text: str) -> bool:
        if not text:
            return empty
        try:
            value = float(text)
        except ValueError:
            return False
        if not math.isfinite(value) or (whole and value != int(value)):
            return False
        return (low is None or value >= low) and (high is None or value <= high)

    check(key, label, fits, _range(whole, low, high))


def _range(whole: bool, low: float | None, high: float | None) -> str:
    """What a number can be, in words."""
    low = None if low == -LARGEST else low
    high = None if high == LARGEST else high
    noun = "a whole number" if whole else "a number"
    if low is not None and high is not None:
        return f"{noun} from {low:g} to {high:,.10g}"
    if low is not None:
        return f"{noun} of at least {low:g}"
    return noun if high is None else f"{noun} of at most {high:,.10g}"


V = TypeVar("V")


def _settled(key: str, value: V) -> V:
    refused.settle(key, value)
    return value
