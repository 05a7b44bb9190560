"""The one rule for comparing a distance, or a proven radius, with ε. Imports no torch.

ε is a float64 number of the spec and is never rounded to the images' dtype before it is compared. Distances are
computed in float64 from the stored images. An attack builds its ball so that every member is within ε exactly, in
float64 (`core.attacks.engine.geometry`); a proof covers every ε that `reaches` accepts for its radius
(`core.certification.ball`).

Two numbers that differ by a relative 1e-12 are the same ε: in decimal arithmetic 3 · 0.1 is 0.3, in floating point it
is not. The slack is far below the resolution of float32 images (6e-8), so it admits no image that could be told apart.
"""

from __future__ import annotations

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
