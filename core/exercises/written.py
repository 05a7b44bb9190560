"""Figures of the exercises as people read them: shares in per cent, no digit that n images cannot tell."""

from __future__ import annotations

from core.exercises.evidence import Reading
from core.exercises.items import Figure

UNKNOWN = "–"


def share(value: float, n: int | None = None) -> str:
    """A share such as `92.8 %`; two digits after the point from 5,000 images on."""
    return f"{100 * value:.{2 if n is not None and n >= 5000 else 1}f} %"


def number(value: float, unit: str, n: int | None = None) -> str:
    """A figure with its unit; `unit` as in `Figure`."""
    if unit == "share":
        return share(value, n)
    return f"{value:.4g} {unit}".strip()


def published(figure: Figure) -> str:
    """The published figure, or a dash."""
    if figure.published is None:
        return UNKNOWN
    if figure.unit == "share":
        return f"{round(100 * figure.published, 4):g} %"
    return number(figure.published, figure.unit)


def read(figure: Figure, reading: Reading | None) -> str:
    """The figure from the store with its 95 % interval, or a dash."""
    if reading is None:
        return UNKNOWN
    value = number(reading.value, figure.unit, reading.n)
    if reading.low is None or reading.high is None or figure.unit != "share":
        return value
    digits = 2 if reading.n is not None and reading.n >= 5000 else 1
    return f"{value} [{100 * reading.low:.{digits}f}, {100 * reading.high:.{digits}f}]"


def whose(reading: Reading | None) -> str:
    """`yours`, `bundled`, or a dash."""
    return UNKNOWN if reading is None else "bundled" if reading.found.bundled else "yours"


def rests_on(reading: Reading) -> str:
    """Whose figure it is, and n: `yours, n = 1,000`."""
    return whose(reading) + (f", n = {reading.n:,}" if reading.n else "")


HEAD = ("figure", "published", "in this store [95 %]", "n", "whose", "published by")
"""Columns of `row`."""


def row(figure: Figure, reading: Reading | None) -> tuple[str, str, str, str, str, str]:
    """A line of the table that has published figures beside those in the store."""
    n = UNKNOWN if reading is None or reading.n is None else f"{reading.n:,}"
    return figure.name, published(figure), read(figure, reading), n, whose(reading), figure.source or UNKNOWN
