"""Linear functions above and below the hyperbolic tangent on an interval, sound whatever their slope.

For a slope k the smallest line above tanh on [low, high] is known in closed form: tanh(x) - k x is largest at an end or
where the slope of tanh is k on the concave side, at atanh(sqrt(1 - k)). So the slope may be chosen by any rule, and its
rounding does no harm; the intercept is raised by more than what rounding may hide in it. The rule is that of Zhang et
al. 2018, arXiv 1811.00866, section 4: a tangent or the chord.
"""

from __future__ import annotations

import torch
from torch import Tensor

HALVINGS = 30
FLAT = 1e-6
"""Slopes below it are taken as 0: where tanh is that flat, the place of its slope is lost in rounding."""


def above(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and intercept of a line that tanh does not exceed between `low` and `high`."""
    slope, intercept = _raised(_slope(low, high), low, high)
    flat = torch.zeros_like(slope)
    _, top = _raised(flat, low, high)
    level = top < slope * ((low + high) / 2) + intercept  # a tangent rises far above 1 on a wide interval
    return torch.where(level, flat, slope), torch.where(level, top, intercept)


def below(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and intercept of a line that tanh does not fall below; tanh is odd."""
    slope, intercept = above(-high, -low)
    return slope, -intercept


def _slope(low: Tensor, high: Tensor) -> Tensor:
    bottom, top = low.tanh(), high.tanh()
    chord = (top - bottom) / (high - low).clamp(min=torch.finfo(low.dtype).tiny)
    middle = _derivative((low + high) / 2)
    # the tangent on the concave side that meets tanh at the lower end: any further right is above it too
    near, far = torch.zeros_like(high), high.clamp(min=0)
    for _ in range(HALVINGS):
        half = (near + far) / 2
        fits = half.tanh() + _derivative(half) * (low - half) >= bottom
        near, far = torch.where(fits, near, half), torch.where(fits, half, far)
    straight = (high <= 0) | (_derivative(high) >= chord)
    made = torch.where(low >= 0, middle, torch.where(straight, chord, _derivative(far)))
    return made.clamp(0, 1)


def _raised(slope: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    slope = torch.where(slope < FLAT, torch.zeros_like(slope), slope)
    top = (1 - slope).clamp(min=0).sqrt()
    at = torch.atanh(top.clamp(max=1 - torch.finfo(low.dtype).eps)).clamp(min=0)
    inner = torch.maximum(torch.minimum(at, high), low)
    found = torch.stack([point.tanh() - slope * point for point in (low, high, inner)]).amax(0)
    room = 16 * torch.finfo(low.dtype).eps * (1 + slope * torch.maximum(low.abs(), high.abs()))
    return slope, torch.where(slope > 0, found, high.tanh()) + room


def _derivative(x: Tensor) -> Tensor:
    return 1 - x.tanh().square()
