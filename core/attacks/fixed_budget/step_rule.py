"""How APGD chooses each image's step: the state of its starts, and the rules that look back at checkpoints.

Sources: Croce and Hein 2020, arXiv 2003.01690, algorithm 1 (linf, l2); Croce and Hein 2021, arXiv 2103.01208,
algorithm 1 (l1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from core.attacks.engine.active import Rows
from core.attacks.engine.geometry import per_image

RHO = 0.75
"""The step is halved where the loss fell in less than this share of the steps since the last checkpoint."""
L1_SHRINK = 1.5
"""In l1 a step is divided by this, and moves the features changed so far divided by this."""
L1_FEATURES = 0.2
"""Share of the features that the first l1 step from the image itself moves."""
L1_SMALLEST = 0.1
"""Smallest step in l1 as a share of eps."""


@dataclass
class Starts(Rows):
    """The images under attack, a row each.

    Attributes:
        toward: target class of this start, or -1.
        step: negative while the start is being diversified, along a sum of logits with weights `along`.
        low, high: limits of the point in linf.
        point, previous: iterate and the one before. share: step as a share of eps. features: moved by an l1 step.
        value: loss at the last iterate. best_value, best_point, best_gradient: of the best iterate of this start.
        falls: steps that lowered the loss, checked: best loss, at or since the last checkpoint. halved: at that one.
        changed: features changed in the best point at the last checkpoint (l1).
    """

    toward: Tensor
    along: Tensor
    step: Tensor
    low: Tensor | None
    high: Tensor | None
    point: Tensor
    previous: Tensor
    share: Tensor
    features: Tensor
    value: Tensor
    best_value: Tensor
    best_point: Tensor
    best_gradient: Tensor
    falls: Tensor
    checked: Tensor
    halved: Tensor
    changed: Tensor

    @classmethod
    def of(
        cls, toward: Tensor, along: Tensor, point: Tensor, limits: tuple[Tensor | None, Tensor | None], step: int
    ) -> Starts:
        """Starts at these points; what the first look at the model tells is filled in by the rule."""
        number = torch.zeros(len(toward), dtype=point.dtype, device=point.device)
        features = torch.full_like(number, L1_FEATURES * point[0].numel())
        return cls(
            toward=toward,
            along=along,
            step=torch.full_like(toward, step),
            low=limits[0],
            high=limits[1],
            point=point,
            previous=point,
            share=number + 1,
            features=features,
            value=number,
            best_value=number,
            best_point=point,
            best_gradient=point,
            falls=torch.zeros_like(toward),
            checked=number,
            halved=torch.ones_like(toward, dtype=torch.bool),
            changed=features,
        )


def checkpoints(steps: int) -> list[int]:
    """The steps at which the rule looks back: 0, .22, then intervals that shrink by .03 down to .06 of all steps."""
    share, interval, found = 0.0, 0.22, [0]
    while (at := math.ceil(round((share + interval) * steps, 9))) <= steps:
        if at > found[-1]:
            found.append(at)
        share, interval = share + interval, max(interval - 0.03, 0.06)
    return found


@dataclass
class StepRule:
    """The step rule of linf and l2: `span[k]` is the number of steps since the last checkpoint, 0 where k is none."""

    span: Tensor

    @classmethod
    def of(cls, steps: int, device: torch.device | None = None) -> StepRule:
        """The checkpoints of so many steps."""
        marks = checkpoints(steps)
        span = torch.zeros(steps + 1, dtype=torch.int64)
        for before, at in pairwise(marks):
            span[at] = at - before
        return cls(span.to(device))

    def look(self, on: Starts, value: Tensor, gradient: Tensor, x: Tensor) -> Tensor:
        """Take in the loss and gradient at each point; adapt steps; returns the gradient to go by, with `on` changed.

        At a checkpoint a row that improved too rarely, or whose best loss and step are both those of the checkpoint
        before, halves its step and goes back to its best point (conditions 1 and 2 of the paper).
        """
        first, later = on.step == 0, on.step > 0
        _remember(on, value, gradient, first, later)
        on.share = torch.where(first, 2, on.share)
        on.checked = torch.where(first, value, on.checked)
        span = self.span[on.step.clamp(min=0)]
        due = later & (span > 0)
        reduce = due & ((on.falls < RHO * span) | (~on.halved & (on.best_value >= on.checked)))
        on.share = torch.where(reduce, on.share / 2, on.share)
        on.halved = torch.where(due, reduce, on.halved)
        on.checked = torch.where(due, on.best_value, on.checked)
        on.falls = torch.where(due, 0, on.falls)
        return _back(on, reduce, gradient)


@dataclass
class L1Rule:
    """The step rule of l1: every `span` steps it follows how many features the best point has changed."""

    span: int

    @classmethod
    def of(cls, steps: int) -> L1Rule:
        """Look back 25 times or after every step."""
        return cls(max(1, math.ceil(0.04 * steps)))

    def look(self, on: Starts, value: Tensor, gradient: Tensor, x: Tensor) -> Tensor:
        """As in `StepRule`. While the best point gets sparser, the step is eps again, from there; else it shrinks."""
        first, later = on.step == 0, on.step > 0
        _remember(on, value, gradient, first, later)
        size = float(x[0].numel())
        count = _changed(on.point, x)
        start = torch.where(count > 0, count / L1_SHRINK, L1_FEATURES * size)
        on.features = torch.where(first, start, on.features)
        on.changed = torch.where(first, torch.where(count > 0, count, size), on.changed)
        due = later & (on.step % self.span == 0)
        best = _changed(on.best_point, x)
        sparser = due & (best < 0.95 * on.changed)
        on.features = torch.where(due, (best / L1_SHRINK).clamp(min=1), on.features)
        shrunk = torch.where(due, (on.share / L1_SHRINK).clamp(min=L1_SMALLEST), on.share)
        on.share = torch.where(sparser, 1, shrunk)
        on.changed = torch.where(due, best, on.changed)
        return _back(on, sparser, gradient)


def _changed(point: Tensor, x: Tensor) -> Tensor:
    """Features changed by more than rounding, a number an image."""
    return ((point - x).abs() > torch.finfo(x.dtype).eps).flatten(1).sum(1).to(x.dtype)


def _remember(on: Starts, value: Tensor, gradient: Tensor, first: Tensor, later: Tensor) -> None:
    """Count a fall of the loss, and keep the best point; the first look at a start begins both anew."""
    on.falls = on.falls + (later & (value < on.value))
    better = first | (later & (value < on.best_value))
    on.best_value = torch.where(better, value, on.best_value)
    on.best_point = torch.where(per_image(better, gradient), on.point, on.best_point)
    on.best_gradient = torch.where(per_image(better, gradient), gradient, on.best_gradient)
    on.value = value


def _back(on: Starts, which: Tensor, gradient: Tensor) -> Tensor:
    """Return these rows to their best points, at rest; returns the gradients there, and the others' as they are."""
    wide = per_image(which, gradient)
    on.point = torch.where(wide, on.best_point, on.point)
    on.previous = torch.where(wide, on.best_point, on.previous)
    on.value = torch.where(which, on.best_value, on.value)
    return torch.where(wide, on.best_gradient, gradient)
