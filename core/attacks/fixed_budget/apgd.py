"""APGD: projected gradient descent that chooses its own step, in the linf, l2 and l1 balls, with an active set.

Sources: Croce and Hein 2020, arXiv 2003.01690, algorithm 1 (linf, l2) and the targeted variant of section 4; Croce and
Hein 2021, arXiv 2103.01208, algorithm 1 (l1); Tashiro, Song, Ermon 2020, arXiv 2003.06878 (output-diversified starts).
Departures: fooled images leave the batch at once, each image has a step counter of its own; the gradient at a start's
last point is not taken; a restart from the best point begins without momentum; l1 steps leave out the features that
the box blocks, and the l1 attack has no phases of larger budgets. Iterates are compared by the loss, but the image
that is kept is that of the lowest margin.
How it compares with PGD: docs/MEASUREMENTS.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.active import Active, Rows, even_batch
from core.attacks.engine.door import attack
from core.attacks.engine.engine import (
    ATTACK_BATCH,
    AttackResult,
    Streams,
    check,
    confine,
    default_streams,
    frozen,
    input_gradient,
    leaf_of,
    logits_of_leaf,
    predict,
)
from core.attacks.engine.geometry import into_ball, linf_bounds, per_image
from core.attacks.engine.losses import LOSSES, Goal, Loss, ranked_others
from core.attacks.engine.lowest import Lowest
from core.attacks.engine.stand_ins import with_stand_ins
from core.attacks.engine.steps import BALLS, Ball, eps_limit, nearest, random_point, step_against, within_budget
from core.checks import check_choice
from core.progress import Progress

MOMENTUM = 0.75
"""Share of the new step in a move; the rest repeats the last move."""
RHO = 0.75
"""The step is halved where the loss fell in less than this share of the steps since the last checkpoint."""
L1_SHRINK = 1.5
"""In l1 a step is divided by this, and moves the features changed so far divided by this."""
L1_FEATURES = 0.2
"""Share of the features that the first l1 step from the image itself moves."""
L1_SMALLEST = 0.1
"""Smallest step in l1 as a share of eps."""


@attack
@with_stand_ins
def apgd(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: float | Tensor,
    norm: Ball = "linf",
    loss: Loss = "ce",
    steps: int = 100,
    restarts: int = 1,
    targets: int = 0,
    odi_steps: int = 0,
    random_start: bool = True,
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    budget: int | None = None,
    early_stop: bool = True,
    draws: int = 1,
    straight_through: bool = False,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Fool by steps whose length each image adapts: halved, with a return to the best point, where progress stops.

    Args:
        model: pixels to logits; left untouched. An image's logits must not depend on its neighbours in the batch.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        eps: size of the ball, one for all or (N,); in [0, 1] for linf, 0 or more for l2 and l1.
        norm: shape of the ball.
        loss: `ce` (the cross-entropy's direction, see `losses.soft_margin`), `margin` or `dlr`. With fewer than 3
            classes (towards a target 4), `dlr` is the margin.
        steps: gradient steps a start, at least 1.
        restarts: starts with the loss as it is; 0 only if there are `targets`.
        targets: then so many starts more for the images still not fooled, each towards another class, nearest first
            (by the logits at `x`), at most K - 1. With `restarts=0`, `loss="dlr"` this is APGD-T. Only untargeted.
        odi_steps: each start first takes so many steps of length eps along a random direction of the logits, so that
            starts differ in what they look like to the model and not only in their pixels.
        random_start: the first start at a random point of the ball; later starts always are.
        y_target: (N,) int64; given, the attack goes towards these classes.
        streams: random streams an image; default seed 0 and the positions in `x`.
        budget: the most forward and backward passes to spend on each image, at least 5; None: no limit. Starts that do
            not fit are left out; if not even one fits, its steps are fewer, and the step rule knows how many.
        early_stop: an image that fools is done; off, it goes on to the start's end, for other models to be fooled too.
        draws: passes of the model that each gradient and each verdict is the mean of; more than 1 for a random model.
        straight_through: pass gradients straight through steps that stop them (see `stand_ins`).
        batch: images under attack at once.
        on_progress: called with done and total images, and the share fooled so far.

    Returns:
        `x_adv`: the first fooling iterate, else (and without `early_stop` always) the one of the lowest margin seen,
        which may be `x`. Images fooled before come back unchanged, as successes. The ball holds to the last bit in
        `distance`. `trace`: `margin` (N,), the margin at `x_adv` (NaN where the model's output is).

    Raises:
        ValueError: bad input, naming the argument.
    """
    for name, count, minimum in (
        ("steps", steps, 1),
        ("restarts", restarts, 0),
        ("targets", targets, 0),
        ("odi_steps", odi_steps, 0),
        ("batch", batch, 1),
    ):
        if count < minimum:
            raise ValueError(f"{name}: expected at least {minimum}, got {count}")
    if restarts + targets < 1:
        raise ValueError("restarts: expected at least 1 where targets is 0, got 0")
    if targets and y_target is not None:
        raise ValueError(f"targets: expected 0 where y_target is given, got {targets}")
    check_choice("norm", norm, BALLS)
    check_choice("loss", loss, LOSSES)
    total, starts = within_budget(odi_steps + steps, restarts + targets, budget)
    odi_steps = odi_steps * total // (odi_steps + steps)
    steps, restarts = total - odi_steps, min(restarts, starts)
    targets = min(targets, starts - restarts)
    eps = check(model, x, y, eps=eps, y_target=y_target, eps_limit=eps_limit(norm))
    streams = default_streams(streams, x)
    rule = _L1Rule.of(steps) if norm == "l1" else _Rule.of(steps, x.device)

    with frozen(model):
        best = Lowest.start(model, x, Goal.of(y, y_target), max(batch, 256))
        # the target class of each start: -1 for the loss as it is, then the nearest classes
        toward = torch.full((len(x), restarts), -1, device=x.device)
        plan = torch.cat([toward, ranked_others(best.logits, y)[:, :targets]], 1)
        search = _Search(best, streams, eps, norm, plan, torch.zeros_like(y), random_start, odi_steps)
        waiting = best.standing(eps > 0)
        batch = even_batch(len(waiting), batch)
        active = Active(waiting, batch, search.begin)
        while active.refill():
            rows, on = active.rows, active.state
            part = best.goal.take(rows)
            last = on.step == steps  # these need a verdict only
            if last.all():
                logits, gradient = predict(model, on.point, batch), torch.zeros_like(on.point)
                value = _value(logits, part, on, loss)
            else:
                leaf = leaf_of(on.point)
                logits = logits_of_leaf(model, leaf)
                value = _value(logits, part, on, loss)
                gradient = input_gradient(value[~last].sum(), leaf)
                logits, value = logits.detach(), value.detach()
                best.backwards[rows[~last]] += 1
            best.forwards[rows] += 1

            now = part.reached(logits)
            best.offer(rows, on.point, now, part.margin(logits))
            stay = ~((now & early_stop) | last)
            again = rows[last & ~best.fooled[rows] & (search.start_of[rows] + 1 < plan.shape[1])]
            search.start_of[again] += 1
            active.keep(stay, again)
            rows, on = active.rows, active.state
            if len(rows):
                gradient = rule.look(on, value[stay], gradient[stay], x[rows])
                search.move(rows, on, gradient)
            best.report(on_progress, active.left)

        if norm != "linf":
            best.x_adv = into_ball(best.x_adv, x, eps, norm)
        return best.result(batch)


@dataclass
class _Starts(Rows):
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
    ) -> _Starts:
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


@dataclass(frozen=True)
class _Search:
    """What all starts share.

    Attributes:
        best: the best points so far.
        streams: random streams of all images.
        eps: (N,) the budgets.
        norm: shape of the ball.
        plan: (N, starts) int64, the target class of each start, or -1.
        start_of: (N,) int64, starts that each image has had.
        random_start: whether the first start is random too.
        odi_steps: steps along a random direction of the logits that each start takes first.
    """

    best: Lowest
    streams: Streams
    eps: Tensor
    norm: Ball
    plan: Tensor
    start_of: Tensor
    random_start: bool
    odi_steps: int

    def begin(self, rows: Tensor) -> _Starts:
        """The next start of each of these images."""
        start, x, eps = self.start_of[rows], self.best.x[rows], self.eps[rows]
        streams, moved = self.streams.take(rows).fork(start), (start > 0) | self.random_start
        point = x
        if moved.any():
            drawn = confine(self.best.model, random_point(streams, point, eps, self.norm), point)
            point = torch.where(per_image(moved, point), drawn, point)
        along = streams.uniform(-1, 1, (self.best.logits.shape[1],), x.dtype)
        limits = linf_bounds(x, eps) if self.norm == "linf" else (None, None)
        return _Starts.of(self.plan[rows, start], along, point, limits, -self.odi_steps)

    def move(self, rows: Tensor, on: _Starts, gradient: Tensor) -> None:
        """One step of each point, in place."""
        x, eps, norm = self.best.x, self.eps[rows], self.norm
        length = eps * torch.where(on.step < 0, 1, on.share)
        point = self._inside(step_against(on.point, gradient, length, norm, on.features), x, rows, on)
        if norm != "l1":
            share = per_image(torch.where(on.step > 0, MOMENTUM, 1).to(x.dtype), x)
            mixed = on.point + share * (point - on.point) + (1 - share) * (on.point - on.previous)
            point = self._inside(mixed, x, rows, on)
        on.previous, on.point = on.point, point
        on.step = on.step + 1

    def _inside(self, point: Tensor, x: Tensor, rows: Tensor, on: _Starts) -> Tensor:
        """The nearest image of ball and box; in linf by the limits, which cost more than a step to find."""
        if self.norm == "linf":
            return point.clamp(on.low, on.high)
        return nearest(point, x[rows], self.eps[rows], self.norm)


def _value(logits: Tensor, goal: Goal, on: _Starts, loss: Loss) -> Tensor:
    """What each row minimises now: its loss, that towards its start's class, or minus its random sum of logits."""
    value = goal.loss(logits, loss)
    if (on.toward >= 0).any():
        directed = Goal(on.toward.clamp(min=0), targeted=True).loss(logits, loss)
        value = torch.where(on.toward >= 0, directed, value)
    if (on.step < 0).any():
        value = torch.where(on.step < 0, -(on.along * logits).sum(1), value)
    return value


def checkpoints(steps: int) -> list[int]:
    """The steps at which the rule looks back: 0, .22, then intervals that shrink by .03 down to .06 of all steps."""
    share, interval, found = 0.0, 0.22, [0]
    while (at := math.ceil(round((share + interval) * steps, 9))) <= steps:
        if at > found[-1]:
            found.append(at)
        share, interval = share + interval, max(interval - 0.03, 0.06)
    return found


@dataclass
class _Rule:
    """The step rule of linf and l2: `span[k]` is the number of steps since the last checkpoint, 0 where k is none."""

    span: Tensor

    @classmethod
    def of(cls, steps: int, device: torch.device | None = None) -> _Rule:
        """The checkpoints of so many steps."""
        marks = checkpoints(steps)
        span = torch.zeros(steps + 1, dtype=torch.int64)
        for before, at in pairwise(marks):
            span[at] = at - before
        return cls(span.to(device))

    def look(self, on: _Starts, value: Tensor, gradient: Tensor, x: Tensor) -> Tensor:
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
class _L1Rule:
    """The step rule of l1: every `span` steps it follows how many features the best point has changed."""

    span: int

    @classmethod
    def of(cls, steps: int) -> _L1Rule:
        """Look back 25 times or after every step."""
        return cls(max(1, math.ceil(0.04 * steps)))

    def look(self, on: _Starts, value: Tensor, gradient: Tensor, x: Tensor) -> Tensor:
        """As in `_Rule`. While the best point gets sparser, the step is eps again, from there; else it shrinks."""
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


def _remember(on: _Starts, value: Tensor, gradient: Tensor, first: Tensor, later: Tensor) -> None:
    """Count a fall of the loss, and keep the best point; the first look at a start begins both anew."""
    on.falls = on.falls + (later & (value < on.value))
    better = first | (later & (value < on.best_value))
    on.best_value = torch.where(better, value, on.best_value)
    on.best_point = torch.where(per_image(better, gradient), on.point, on.best_point)
    on.best_gradient = torch.where(per_image(better, gradient), gradient, on.best_gradient)
    on.value = value


def _back(on: _Starts, which: Tensor, gradient: Tensor) -> Tensor:
    """Return these rows to their best points, at rest; returns the gradients there, and the others' as they are."""
    wide = per_image(which, gradient)
    on.point = torch.where(wide, on.best_point, on.point)
    on.previous = torch.where(wide, on.best_point, on.previous)
    on.value = torch.where(which, on.best_value, on.value)
    return torch.where(wide, on.best_gradient, gradient)
