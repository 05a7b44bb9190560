"""What the first stages show of a model, at a few of the images that they did not fool."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Bool, Float
from torch import Tensor

from core.evaluation.robust import gradient_masked
from core.evaluation.robust.precision import rounding_in_half
from core.evaluation.robust.state import CascadeState, Found, Subject


def first_look(given: Subject, state: CascadeState, safe: Bool[Tensor, " n"]) -> Found:
    """After the first `schedule.AFTER` stages: at the first images that are neither fooled nor proven."""
    rows = (~state.fooled & ~safe).nonzero()[: gradient_masked.few(len(given.x)), 0]
    if given.eps <= 0:
        rows = rows[:0]
    part = replace(given, x=given.x[rows], y=given.y[rows], index=given.index[rows])
    return found_at(part, state.x_adv[rows])


def found_at(given: Subject, x_adv: Float[Tensor, "n c h w"]) -> Found:
    """What these images, none or more, and the best points around them show; freeze the model first."""
    if not len(given.x):
        return Found(mislead=False)
    return Found(mislead=gradient_masked.gradients_mislead(given), half=rounding_in_half(given.model, x_adv, given.y))
