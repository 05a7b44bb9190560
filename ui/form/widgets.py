"""Widgets for one kind of value, and what the annotation of a spec's field allows; `controls` draws whole fields."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Sequence
from typing import Any, Union, get_args, get_origin

import streamlit as st
from pydantic.fields import FieldInfo

from core import epsilon
from ui.form import bound, select


def in_columns(names: list[str], columns: int, draw: Callable[[str], Any]) -> dict[str, Any]:
    """Draw a widget for each name, row by row; returns name → value."""
    values: dict[str, Any] = {}
    for start in range(0, len(names), columns):
        row = st.columns(columns, vertical_alignment="bottom")
        for column, name in zip(row, names[start : start + columns], strict=False):
            with column:
                values[name] = draw(name)
    return values


def real(info: FieldInfo, start: float | None, common: dict[str, Any]) -> float | None:
    """A slider if a hundredth of the range is fine enough for the default, else a box for a number."""
    low, high = bounds(info)
    if start is not None and low is not None and high is not None and high - low <= 3:
        step = (high - low) / 100
        if start >= step and abs(start / step - round(start / step)) < 1e-6:
            ends: dict[str, Any] = {"min_value": float(low), "max_value": float(high)}
            return bound.slider(value=float(start), step=step, **ends, **common)
    number_in_address(common["key"], low, high)
    value = bound.number_input(
        whole=False,
        value=None if start is None else float(start),
        min_value=None if low is None else float(low),
        max_value=None if high is None else float(high),
        step=10.0 ** _magnitude(start if start else 0.1),
        format="%.6g",
        placeholder="none" if start is None else None,
        **common,
    )
    return None if value is None else float(value)


def number_in_address(key: str, low: float | None, high: float | None) -> None:
    """Let a link name a number as people write it (`?train_pgd_eps=8/255`). Call it just before the widget.

    A text that is no number, or lies outside the bounds, is left to the widget, which takes its default.
    """
    given = st.query_params.get_all(key)
    with contextlib.suppress(ValueError):
        value = epsilon.parse(given[0] if len(given) == 1 else "")
        inside = (low is None or value >= low) and (high is None or value <= high)
        if inside and not _is_float(given[0]):
            select.follow(key, given, value, [repr(value)])


def nearest(options: Sequence[float]) -> Callable[[str], float | None]:
    """What a slider over these numbers is set to by a number in a link: the nearest of them; None for other text."""

    def read(text: str) -> float | None:
        with contextlib.suppress(ValueError):
            wanted: float = epsilon.parse(text)
            return min(options, key=lambda option: abs(option - wanted))
        return None

    return read


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def numbers(start: Sequence[float] | None, optional: bool, common: dict[str, Any]) -> tuple[Any, ...] | None:
    """A box for several numbers; words that are no numbers are returned as they are, and the spec refuses them."""
    found = epsilon.words(bound.text_input(value=" ".join(f"{value:g}" for value in start or ()), **common))
    if optional and not found:
        return None
    try:
        return tuple(epsilon.parse(word) for word in found)
    except ValueError:
        return tuple(found)


def _magnitude(value: float) -> int:
    """Exponent of the step that changes the leading digit of `value`."""
    return int(f"{abs(value):e}".split("e")[1])


def kind(annotation: Any) -> tuple[Any, bool]:
    """The type without `| None` and `Annotated`, and whether None is allowed."""
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [part for part in get_args(annotation) if part is not type(None)]
        if len(inner) == 1:
            return kind(inner[0])[0], True
    if hasattr(annotation, "__metadata__"):
        return kind(get_args(annotation)[0])
    return annotation, False


def bounds(info: FieldInfo) -> tuple[float | None, float | None]:
    """Lower and upper bound of a field. An open bound counts as closed here; the spec itself refuses its value."""
    found: dict[str, float] = {}
    for constraint in info.metadata:
        for side in ("ge", "gt", "le", "lt"):
            if getattr(constraint, side, None) is not None:
                found[side] = getattr(constraint, side)
    return found.get("ge", found.get("gt")), found.get("le", found.get("lt"))


def whole(value: float | None) -> int | None:
    """A bound as an integer."""
    return None if value is None else int(value)
