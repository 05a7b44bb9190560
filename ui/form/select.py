"""The choice of one option, or of several, as it stands on every page.

A choice is kept when the page is left, and its value stands in the address. A link may name an option as specs do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar

import streamlit as st
from streamlit.errors import StreamlitAPIException
from streamlit.runtime.state.session_state_proxy import get_session_state

from ui.app import refused
from ui.form import bound
from ui.form.bound import KEEP
from ui.text import literal

T = TypeVar("T")

FEW, SHORT = 4, 32
"""So many options, with so many letters in all, are drawn as buttons side by side."""


def select(
    page: str,
    name: str,
    label: str,
    options: Sequence[T],
    *,
    text: Callable[[T], str] = str,
    default: T | None = None,
    kind: Literal["fitting", "buttons", "list", "slider"] = "fitting",
    help: str | None = None,
    disabled: bool = False,
    on_change: Callable[[], None] | None = None,
    named: bool = False,
    read: Callable[[str], T | None] | None = None,
) -> T:
    """Draw the choice of one option and return it.

    The options may be others than at the last run, and so may their texts. A chosen option that is gone is replaced by
    the default.

    Args:
        page: url path of the page; the first half of the widget's key.
        name: the second half of the key: the key is `<page>_<name>`.
        label: written over the widget.
        options: at least one.
        text: how an option is written.
        default: the option that is chosen at first; the first one where it is not among the options.
        kind: `buttons` side by side, a `list` that opens, a `slider` over options that have an order; `fitting` draws
            buttons where the options are few and short, else a list.
        help: what the choice does.
        disabled: shown, but not to be changed.
        on_change: called on a change; not inside a form.
        named: a link's choice stays in the address even where it is the default, which later may be another one; only
            of a `list`.
        read: the option that a text in a link means which names none; None where it means none either.
    """
    key, options = f"{page}_{name}", list(options)
    buttons = kind == "buttons" or (kind == "fitting" and _short(map(text, options)))
    if buttons:  # what is written on them is read as Markdown
        text = _literally(text)
    start = default if default is not None and default in options else options[0]
    if key in st.session_state:
        held = st.session_state[key]
        if held not in options:
            st.session_state[key] = start
        elif st.session_state.get(f"{key}_text", text(held)) != text(held):
            st.session_state[key] = held  # else the browser goes on showing the old text
    if named and key not in st.session_state:
        st.session_state[key] = start  # what the address says comes before it
    seed(key, options, text, read=read)
    shown = {text(option) for option in options}
    bound.check(key, label, shown.__contains__, "one of the options of this setting")
    common: dict[str, Any] = {
        "label": label,
        "options": options,
        "format_func": text,
        "help": help,
        "key": key,
        "disabled": disabled,
        "on_change": on_change,
        **KEEP,
    }
    chosen: Any
    if kind == "slider":
        chosen = st.select_slider(value=start, **common)
    elif buttons:
        chosen = st.segmented_control(default=start, required=True, **common)
    else:
        chosen = st.selectbox(index=None if named else options.index(start), **common)
        chosen = start if chosen is None else chosen
    refused.settle(key, chosen)
    st.session_state[f"{key}_text"] = text(chosen)
    return chosen


def select_many(
    page: str,
    name: str,
    label: str,
    options: Sequence[T],
    *,
    text: Callable[[T], str] = str,
    default: Iterable[T] = (),
    kind: Literal["list", "pills"] = "list",
    placeholder: str | None = None,
    help: str | None = None,
) -> list[T]:
    """Draw the choice of several options and return those that are chosen, none or more.

    Chosen options that are gone are forgotten.

    Args:
        page: url path of the page; the first half of the widget's key.
        name: the second half of the key.
        label: written over the widget.
        options: all that can be chosen.
        text: how an option is written.
        default: the options that are chosen at first.
        kind: a `list` that opens, or `pills` that show all options.
        placeholder: written into a list where nothing is chosen.
        help: what the choice does.
    """
    key, options = f"{page}_{name}", list(options)
    if kind == "pills":
        text = _literally(text)
    if key in st.session_state:
        st.session_state[key] = [option for option in st.session_state[key] if option in options]
    seed(key, options, text, many=True)
    bound.check_many(key, label, {text(option) for option in options})
    common: dict[str, Any] = {
        "label": label,
        "options": options,
        "default": list(default),
        "format_func": text,
        "help": help,
        "key": key,
        **KEEP,
    }
    chosen: list[T]
    if kind == "pills":
        chosen = st.pills(selection_mode="multi", wrap=True, **common)
    else:
        chosen = st.multiselect(placeholder=placeholder, **common)
    refused.settle(key, chosen)
    return chosen


def seed(
    key: str,
    options: Sequence[T],
    text: Callable[[T], str] = str,
    *,
    many: bool = False,
    read: Callable[[str], T | None] | None = None,
) -> None:
    """Let a link name an option by its plain name (`?train_network=mlp`). Call it just before the widget.

    Streamlit itself knows options in an address by the `text` that the widget shows, so the address is rewritten where
    it may be. With `many`, for a widget of several choices, the parameter may be repeated (`?a=x&a=y`).
    What names no option is given to `read`, see `select`.
    """
    by_name = {str(option): option for option in options}
    given = st.query_params.get_all(key)
    shown = {text(option) for option in options}
    if read is not None:
        by_name |= {
            name: found
            for name in given
            if name not in by_name and name not in shown and (found := read(name)) is not None
        }
    named = [by_name[name] for name in given if name in by_name]
    # what the widget shows comes first: among the classes 1 and 7, "1" is the first and not number 1
    if not named or shown.issuperset(given):
        st.session_state.pop(f"{key}_followed", None)
        return
    follow(key, given, named if many else named[0], [text(option) for option in (named if many else named[:1])])


def follow(key: str, given: list[str], value: Any, texts: list[str]) -> None:
    """Give a widget the value that its address means, and write it there as Streamlit does.

    Args:
        key: of the widget.
        given: what the address says.
        value: what that means.
        texts: how Streamlit writes it.
    """
    if st.session_state.get(f"{key}_followed") == given:
        return  # the same address as at the last run: something else may have been chosen since
    st.session_state[f"{key}_followed"] = given
    st.session_state[key] = value
    with contextlib.suppress(StreamlitAPIException):  # the widget is bound already: it writes the address itself
        st.query_params[key] = texts if len(texts) > 1 else texts[0]
        with get_session_state().query_params() as address:
            # a widget takes its value from the address as it was, and would drop what it does not know from it
            address.set_initial_query_params_from_current()


def _literally(text: Callable[[T], str]) -> Callable[[T], str]:
    return lambda option: literal(text(option))


def _short(texts: Iterable[str]) -> bool:
    """Whether these fit side by side."""
    found = list(texts)
    return len(found) <= FEW and sum(map(len, found)) <= SHORT
