"""How ε is read as people write it, and the one rule for comparing a distance, or a proven radius, with it.

Imports no torch.

ε is a float64 number of the spec and is never rounded to the images' dtype before it is compared. Distances are
computed in float64 from the stored images. An attack builds its ball so that every member is within ε exactly, in
float64 (`core.attacks.engine.geometry`); a proof covers every ε that `reaches` accepts for its radius
(`core.certification.ball`).

Two numbers that differ by a relative 1e-12 are the same ε: in decimal arithmetic 3 · 0.1 is 0.3, in floating point it
is not. The slack is far below the resolution of float32 images (6e-8), so it admits no image that could be told apart.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

SAME = 1e-12
"""Relative difference up to which two numbers name the same ε."""


def within(distance: Any, eps: Any) -> Any:
    """Whether a float64 distance lies in the closed ball of radius ε; NaN does not.

    Args:
        distance: a number, an array or a tensor, in float64 (or integer counts, for l0).
        eps: a number, or an array or tensor of the distances' shape, in float64.

    Returns:
        bool of the same shape.
    """
    return distance <= eps * (1 + SAME)


def reaches(radius: Any, eps: Any) -> Any:
    """Whether a proof of this radius covers the closed ball of radius ε; NaN does not. Arguments as in `within`."""
    return radius >= eps * (1 - SAME)


def same(one: Any, other: Any) -> Any:
    """Whether two numbers name the same ε: how an ε is looked up in a table, a card or a list."""
    return within(one, other) & reaches(one, other)


_NUMBER = r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
_RATIO = re.compile(rf"({_NUMBER})(?:\s*/\s*({_NUMBER}))?")
_THOUSANDS = re.compile(r"[+-]?0*[1-9][0-9]*,[0-9]{3}")
EXPECTED = "expected a number such as 0.03 or 8/255"


def parse(value: Any) -> Any:
    """A number as people write it: `0.031`, `.031`, `0,031` or `8/255`, where 8/255 is exactly Python's 8 / 255.

    Args:
        value: a text, or a `Fraction`, of which the float64 number is returned. Anything else is returned as it is,
            for whoever reads it to judge.

    Raises:
        ValueError: a text that is no finite number, or that may be two (`1,000`). The sentence ends before what came.
    """
    if isinstance(value, Fraction):
        try:
            return float(value)
        except OverflowError:
            raise ValueError("expected a finite number") from None
    if not isinstance(value, str):
        return value
    found = _RATIO.fullmatch(value.strip())
    if found is None:
        none = value.strip().lower().lstrip("+-") in ("nan", "inf", "infinity")
        raise ValueError("expected a finite number" if none else EXPECTED)
    top, bottom = found.group(1), found.group(2) or "1"
    for part in (top, bottom):
        if _THOUSANDS.fullmatch(part):
            raise ValueError(f"{EXPECTED} (write {part.replace(',', '')} or {part.replace(',', '.')})")
    divisor = float(bottom.replace(",", "."))
    if divisor == 0:
        raise ValueError(f"{EXPECTED}, with a divisor other than 0")
    number = float(top.replace(",", ".")) / divisor
    if not math.isfinite(number):
        raise ValueError("expected a finite number")
    return number


def words(text: str) -> list[str]:
    """The numbers in a text as people write several, each for `parse`.

    Semicolons, spaces, and commas separate. A comma between two digits is a decimal comma where the text has no decimal
    point and the number no second comma: `0,05;0,1`, `0,05 0,1` and `0.05,0.1` are all two numbers, `0,1,2` three.
    """
    joined = re.sub(r"\s*/\s*", "/", text)
    pointed = "." in joined
    found: list[str] = []
    for word in re.split(r"[;\s]+", joined):
        parts = word.strip(",")
        found += [parts] if not pointed and parts.count(",") == 1 else parts.split(",")
    return [word for word in found if word]


def several(text: str) -> list[float]:
    """The numbers in a text. Raises ValueError for a word that is none, see `parse`."""
    return [parse(word) for word in words(text)]
