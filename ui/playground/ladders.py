"""The ε that the slider stops at, by norm and kind of image."""

from __future__ import annotations

import math
from functools import lru_cache

from ui.text import both

GREY_STEP, GREY_TOP = 0.01, 0.4
"""In ℓ∞ on images with one channel: 40 stops above 0, as the exercises count."""
COLOUR_LEVELS = 24
"""In ℓ∞ on colour images: grey levels of 255, as the literature counts."""
STOPS = 40
"""In ℓ2 and ℓ1."""


@lru_cache(maxsize=64)
def ladder(norm: str, shape: tuple[int, int, int]) -> tuple[float, ...]:
    """The stops of the slider in rising order, without 0."""
    if norm == "linf" and shape[0] == 1:
        return tuple(round(GREY_STEP * k, 4) for k in range(1, round(GREY_TOP / GREY_STEP) + 1))
    if norm == "linf":
        return tuple(k / 255 for k in range(1, COLOUR_LEVELS + 1))
    side = math.sqrt(shape[1] * shape[2])
    step = (0.005 if shape[0] == 1 else 0.0015) * side if norm == "l2" else 0.06 * side
    step = float(f"{step:.1g}")
    return tuple(round(step * k, 6) for k in range(1, STOPS + 1))


def default(norm: str, shape: tuple[int, int, int], dataset: str = "") -> float:
    """Where the slider stands at first: where an undefended network is usually fooled, and a defended one is not.

    The networks of the small set of digits, which were trained on few images, stand less than those of MNIST.
    """
    stops = ladder(norm, shape)
    share = 6 if shape[0] == 3 else 4 if dataset == "digits28" else 2
    return stops[len(stops) // share - 1]


def nearest(stops: tuple[float, ...], eps: float) -> int:
    """The place of the stop that is nearest to an ε."""
    return min(range(len(stops)), key=lambda k: abs(stops[k] - eps))


def text(norm: str, eps: float) -> str:
    """ε as people read it: in ℓ∞ in both units."""
    return both(eps) if norm == "linf" else f"{eps:.4g}"


def proof_stops(norm: str, shape: tuple[int, int, int]) -> tuple[float, ...]:
    """The ε at which a proof is tried, in rising order: round shares of the slider's range, finer at its beginning."""
    top = ladder(norm, shape)[-1]
    shares = (0.0025, 0.005, 0.0075, 0.0125, 0.025, 0.0375, 0.05, 0.075, 0.125, 0.25, 0.375, 0.5, 0.75)
    return tuple(float(f"{top * share:.4g}") for share in shares)
