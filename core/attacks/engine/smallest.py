"""What the attacks that look for the smallest perturbation share: the best image so far, its cost, bisection."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.attacks.engine.checks import check_budget
from core.attacks.engine.engine import gradient_step, predict
from core.attacks.engine.geometry import norm_of, per_image, project_l1, project_l2, project_linf
from core.attacks.engine.losses import Goal, Loss
from core.attacks.engine.result import AttackResult, clear_goal, finish
from core.progress import Progress

MIN_STEPS = 20
"""Where a budget is short, searches are left out before any has fewer steps than this."""
FINAL = 5
"""Passes of a short bisection."""
FIRST_CUT = 1 / 128
"""The first cut of the bisection, as a share of the distance."""


@dataclass
class Smallest:
    """The smallest fooling image found for each row, and the passes spent; changed in place. Use it while frozen.

    Attributes:
        model: the frozen model.
        x: (N, C, H, W) the images.
        goal: what counts as fooled.
        logits: (N, K) of the images.
        norm: what is to be small.
        x_adv: (N, C, H, W) the smallest fooling image offered so far, else `x`.
        size: (N,) its distance, inf where nothing has fooled yet.
        forwards: (N,) int64 passes.
        backwards: (N,) int64 passes.
        batch: images at once.
        on_progress: called by `report`.
        done: images that are finished.
        measure: (n, C, H, W) to (n,), what is to be small in place of the norm.
    """

    model: nn.Module
    x: Tensor
    goal: Goal
    logits: Tensor
    norm: str
    x_adv: Tensor
    size: Tensor
    forwards: Tensor
    backwards: Tensor
    batch: int
    on_progress: Progress | None
    done: int = 0
    measure: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def start(
        cls, model: nn.Module, x: Tensor, goal: Goal, norm: str, batch: int, on_progress: Progress | None
    ) -> Smallest:
        """One forward pass: images that fool already have distance 0."""
        logits = predict(model, x, batch)
        fooled = goal.reached(logits)
        goal = clear_goal(model, goal, logits)
        size = torch.where(fooled, 0.0, torch.inf).to(x.dtype)
        ones, zeros = torch.ones_like(goal.label), torch.zeros_like(goal.label)
        return cls(model, x, goal, logits, norm, x.clone(), size, ones, zeros, batch, on_progress, int(fooled.sum()))

    def chunks(self) -> Iterator[Tensor]:
        """The images that did not fool at the start, `batch` of them at a time; each chunk is done after its turn."""
        for rows in (self.size > 0).nonzero()[:, 0].split(self.batch):
            if not len(rows):  # an empty tensor splits into one empty part
                break
            yield rows
            self.done += len(rows)
            self.report(rows[:0], 0.0)

    def step(self, rows: Tensor, point: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
        """One forward and one backward pass of `point`, which is kept where it fools and is smaller.

        Returns:
            fooled: (n,) bool. gradient: (n, C, H, W) of the loss. value: (n,) the loss, which is to be lowered.
        """
        part = self.goal.take(rows)
        logits, gradient = gradient_step(self.model, point, part, loss)
        self.backwards[rows] += 1
        return self.offer(rows, point, logits), gradient, part.loss(logits, loss)

    def look(self, rows: Tensor, point: Tensor) -> Tensor:
        """One forward pass of `point`, which is kept where it fools and is smaller; returns fooled (n,) bool."""
        return self.offer(rows, point, predict(self.model, point, self.batch)) if len(rows) else rows.bool()

    def margin(self, rows: Tensor, point: Tensor) -> Tensor:
        """One forward pass of `point`, which is kept where it fools and is smaller; returns its margin (n,)."""
        logits = predict(self.model, point, self.batch)
        self.offer(rows, point, logits)
        return self.goal.take(rows).margin(logits)

    def offer(self, rows: Tensor, point: Tensor, logits: Tensor) -> Tensor:
        """Count a forward pass of `point`; keep it where it fools and is smaller; returns fooled (n,) bool."""
        self.forwards[rows] += 1
        fooled = self.goal.take(rows).reached(logits)
        delta = point - self.x[rows]
        size = norm_of(delta, self.norm) if self.measure is None else self.measure(delta)
        better = fooled & (size < self.size[rows])
        self.x_adv[rows[better]], self.size[rows[better]] = point[better], size[better]
        return fooled

    def bisect(self, rows: Tensor, rounds: int) -> None:
        """Shrink what was found towards `x`, one forward pass a round: the nearest point of ever smaller balls.

        Images that have nothing to shrink are left out. Assumes that the fooling part of the way is in one piece;
        where it is not, the result still fools but may not be the smallest on the way.
        """
        rows = rows[(self.size[rows] > 0) & (self.size[rows] < torch.inf)]
        if not len(rows) or rounds < 1:
            return
        project = {"linf": project_linf, "l2": project_l2, "l1": project_l1}[self.norm]
        x, delta = self.x[rows], self.x_adv[rows] - self.x[rows]
        size = norm_of(delta, self.norm)
        low, high = torch.zeros_like(size), torch.ones_like(size)
        width, between = torch.full_like(size, FIRST_CUT), torch.zeros_like(size, dtype=torch.bool)
        for _ in range(rounds):
            # most images are nearly there: small cuts first, growing until one fails, then halves
            middle = torch.where(between, (low + high) / 2, (high - width).clamp(min=0))
            fooled = self.look(rows, (x + project(delta, middle * size)).clamp(0, 1))
            low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
            between, width = between | ~fooled, width * 4

    def report(self, rows: Tensor, share: float) -> None:
        """Tell the progress when `share` of the work on the chunk `rows` is done."""
        if self.on_progress:
            fooled = (self.size < torch.inf).float().mean().item()
            self.on_progress(self.done + int(share * len(rows)), len(self.x), success=fooled)

    def result(self, trace: dict[str, Tensor] | None = None) -> AttackResult:
        """Verified. A failed image is unchanged."""
        found = self.size < torch.inf
        if not len(found) or not self.done:  # nothing was reported yet
            self.report(found[:0], 0.0)
        return finish(
            self.model,
            self.x,
            self.x_adv,
            self.goal,
            found,
            self.forwards,
            self.backwards,
            trace,
            self.batch,
            movable=self.norm != "l0" and self.measure is None,
        )


def cosine(first: float, last: float, steps: int) -> list[float]:
    """`steps` numbers that fall from `first` to `last` by half a cosine."""
    turns = [math.cos(math.pi * k / max(1, steps - 1)) for k in range(steps)]
    return [last + (first - last) * (1 + turn) / 2 for turn in turns]


def unit(gradient: Tensor) -> Tensor:
    """Each gradient divided by its l2 norm; 0 stays 0."""
    length = norm_of(gradient, "l2")
    return gradient * per_image(
        torch.where(length > 0, 1 / length.clamp(min=torch.finfo(length.dtype).tiny), 0), gradient
    )


def steps_within(budget: int | None, steps: int, price: int = 2, other: int = 3) -> int:
    """How many of `steps`, at `price` passes each, a budget pays for when `other` passes are spent besides.

    The usual other passes are the first look, the last iterate's and the verification.

    Raises:
        ValueError: not even one step.
    """
    if budget is None:
        return steps
    check_budget(budget, price + other)
    return min(steps, (budget - other) // price)


def searches_within(budget: int | None, searches: int, steps: int) -> tuple[int, int]:
    """How many searches of how many steps a budget pays for: 2 passes a step, 1 at each end, 4 besides.

    Raises:
        ValueError: not even one search of one step.
    """
    if budget is not None:
        searches = max(1, min(searches, (budget - 4) // (2 * min(steps, MIN_STEPS) + 1)))
    return searches, steps_within(budget, steps, 2 * searches, 4 + searches)


def final_within(budget: int | None) -> int:
    """Passes of a bisection at the end: `FINAL`, or an eighth of a small budget."""
    return FINAL if budget is None else min(FINAL, max(0, budget - 5) // 8)


def linear_distance(value: Tensor, gradient: Tensor) -> Tensor:
    """How far (N,) in l2 a linear model with this loss and gradient would be from fooled; 1 where it has no slope."""
    slope = norm_of(gradient, "l2")
    distance = torch.where(slope > 0, value.abs() / slope.clamp(min=torch.finfo(slope.dtype).tiny), 1.0)
    return distance.nan_to_num(1.0).clamp(1e-3, gradient[0].numel() ** 0.5)
