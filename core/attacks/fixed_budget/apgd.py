"""APGD: projected gradient descent that chooses its own step, in the linf, l2 and l1 balls, with an active set.

Sources: Croce and Hein 2020, arXiv 2003.01690, algorithm 1 (linf, l2) and the targeted variant of section 4; Croce and
Hein 2021, arXiv 2103.01208, algorithm 1 (l1); Tashiro, Song, Ermon 2020, arXiv 2003.06878 (output-diversified starts).
Departures: fooled images leave the batch at once, each image has a step counter of its own; the gradient at a start's
last point is not taken; a restart from the best point begins without momentum; l1 steps leave out the features that
the box blocks, and the l1 attack has no phases of larger budgets. Iterates are compared by the loss, but the image
that is kept is that of the lowest margin.

On LeNet (MNIST, linf, eps .1, 300 images) PGD leaves 73.3 % standing with 31 gradients an image; APGD with 100 steps
73.3 (cross-entropy), 73.7 (margin), 74.3 % (DLR) with 75; five starts of 22 steps 72.7 % with 82; towards every class
(9 starts of 100 steps, DLR) 72.0 % with 655.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, fields
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.door import attack
from core.attacks.engine.engine import (
    ATTACK_BATCH,
    AttackResult,
    Streams,
    check,
    clear_goal,
    confine,
    default_streams,
    even_batch,
    finish,
    frozen,
    input_gradient,
    leaf_of,
    logits_of_leaf,
    predict,
    take_waiting,
)
from core.attacks.engine.geometry import into_ball, linf_bounds, per_image
from core.attacks.engine.losses import LOSSES, Goal, Loss, ranked_others
from core.attacks.engine.stand_ins import with_stand_ins
from core.attacks.engine.steps import BALLS, Ball, eps_limit, nearest, random_point, step_against, within_budget
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
    for name, count, least in (
        ("steps", steps, 1),
        ("restarts", restarts, 0),
        ("targets", targets, 0),
        ("odi_steps", odi_steps, 0),
        ("batch", batch, 1),
    ):
        if count < least:
            raise ValueError(f"{name}: expected at least {least}, got {count}")
    if restarts + targets < 1:
        raise ValueError("restarts: expected at least 1 where targets is 0, got 0")
    if targets and y_target is not None:
        raise ValueError(f"targets: expected 0 where y_target is given, got {targets}")
    if norm not in BALLS:
        raise ValueError(f"norm: expected one of {', '.join(BALLS)}, got {norm!r}")
    if loss not in LOSSES:
        raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, got {loss!r}")
    total, starts = within_budget(odi_steps + steps, restarts + targets, budget)
    odi_steps = odi_steps * total // (odi_steps + steps)
    steps, restarts = total - odi_steps, min(restarts, starts)
    targets = min(targets, starts - restarts)
    radius = check(model, x, y, eps=eps, y_target=y_target, eps_limit=eps_limit(norm))
    streams = default_streams(streams, x)
    goal = Goal.of(y, y_target)
    rule = _L1Rule.of(steps) if norm == "l1" else _Rule.of(steps, x.device)

    with frozen(model):
        clean = predict(model, x, max(batch, 256))
        fooled, best = goal.reached(clean), goal.margin(clean)
        goal = clear_goal(model, goal, clean)
        # the target class of each start: -1 for the loss as it is, then the nearest classes
        others = ranked_others(clean, y)
        plan = torch.cat([torch.full((len(x), restarts), -1, device=x.device), others[:, :targets]], 1)
        x_adv = x.clone()
        forwards, backwards = torch.ones_like(y), torch.zeros_like(y)
        waiting = deque((~fooled & (radius > 0)).nonzero()[:, 0].tolist())
        batch = even_batch(len(waiting), batch)
        ended = len(x) - len(waiting)
        start_of = torch.zeros_like(y)
        on: _Active | None = None

        while waiting or (on is not None and len(on.rows)):
            if waiting and (on is None or len(on.rows) < batch):
                new = take_waiting(waiting, batch - (0 if on is None else len(on.rows)), x.device)
                begins = start_of[new]
                own, moved = streams.take(new).fork(begins), (begins > 0) | random_start
                point = x[new]
                if moved.any():
                    drawn = confine(model, random_point(own, point, radius[new], norm), point)
                    point = torch.where(per_image(moved, x), drawn, point)
                along = own.uniform(-1, 1, (clean.shape[1],), x.dtype)
                limits = linf_bounds(x[new], radius[new]) if norm == "linf" else (point[:, :0], point[:, :0])
                fresh = _Active.begin(new, plan[new, begins], along, point, limits, -odi_steps)
                on = fresh if on is None else on.join(fresh)
            assert on is not None

            part = goal.take(on.rows)
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
                backwards[on.rows[~last]] += 1
            forwards[on.rows] += 1

            now, found = part.reached(logits), part.margin(logits)
            better = (now & ~fooled[on.rows]) | (found < best[on.rows])
            x_adv[on.rows[better]], best[on.rows[better]] = on.point[better], found[better]
            fooled[on.rows[now]] = True

            over = (now & early_stop) | last
            again = on.rows[last & ~fooled[on.rows] & (start_of[on.rows] + 1 < plan.shape[1])]
            start_of[again] += 1
            waiting.extend(again.tolist())
            ended += int(over.sum()) - len(again)

            on, gradient, value = on.take(~over), gradient[~over], value[~over]
            rows = on.rows
            if len(rows):
                gradient = rule.look(on, value, gradient, x[rows])
                length = radius[rows] * torch.where(on.step < 0, 1, on.share)
                moved_to = on.into(step_against(on.point, gradient, length, norm, on.features), x, radius, norm)
                if norm != "l1":
                    new_part = per_image(torch.where(on.step > 0, MOMENTUM, 1).to(x.dtype), x)
                    mixed = on.point + new_part * (moved_to - on.point) + (1 - new_part) * (on.point - on.previous)
                    moved_to = on.into(mixed, x, radius, norm)
                on.previous, on.point = on.point, moved_to
                on.step = on.step + 1
            if on_progress:
                on_progress(ended, len(x), success=fooled.float().mean().item())

        if norm != "linf":
            x_adv = into_ball(x_adv, x, radius, norm)
        return finish(model, x, x_adv, goal, fooled, forwards, backwards, {"margin": best}, batch)


@dataclass
class _Active:
    """The images under attack, a row each.

    Attributes:
        rows: index in the batch. toward: target class of this start, or -1.
        step: negative while the start is being diversified, along a sum of logits with weights `along`.
        low, high: limits of the point in linf (empty in l2 and l1).
        point, previous: iterate and the one before. share: step as a share of eps. features: moved by an l1 step.
        value: loss at the last iterate. best_value, best_point, best_gradient: of the best iterate of this start.
        falls: steps that lowered the loss, checked: best loss, at or since the last checkpoint. halved: at that one.
        changed: features changed in the best point at the last checkpoint (l1).
    """

    rows: Tensor
    toward: Tensor
    along: Tensor
    step: Tensor
    low: Tensor
    high: Tensor
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
    def begin(
        cls, rows: Tensor, toward: Tensor, along: Tensor, point: Tensor, limits: tuple[Tensor, Tensor], step: int
    ) -> _Active:
        """Starts at these points; what the first look at the model tells is filled in by the rule."""
        number = torch.zeros(len(rows), dtype=point.dtype, device=point.device)
        features = torch.full_like(number, L1_FEATURES * point[0].numel())
        return cls(
            rows=rows,
            toward=toward,
            along=along,
            step=torch.full_like(rows, step),
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
            falls=torch.zeros_like(rows),
            checked=number,
            halved=torch.ones_like(rows, dtype=torch.bool),
            changed=features,
        )

    def take(self, keep: Tensor) -> _Active:
        """Some of the rows."""
        if bool(keep.all()):
            return self
        return _Active(**{f.name: getattr(self, f.name)[keep] for f in fields(self)})

    def join(self, other: _Active) -> _Active:
        """These rows and then the others."""
        return _Active(**{f.name: torch.cat([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)})

    def into(self, point: Tensor, x: Tensor, eps: Tensor, norm: str) -> Tensor:
        """The nearest image of ball and box; in linf by the limits, which cost more than a step to find."""
        if norm == "linf":
            return point.clamp(self.low, self.high)
        return nearest(point, x[self.rows], eps[self.rows], norm)


def _value(logits: Tensor, goal: Goal, on: _Active, loss: Loss) -> Tensor:
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

    def look(self, on: _Active, value: Tensor, gradient: Tensor, x: Tensor) -> Tensor:
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

    def look(self, on: _Active, value: Tensor, gradient: Tensor, x: Tensor) -> Tensor:
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


def _remember(on: _Active, value: Tensor, gradient: Tensor, first: Tensor, later: Tensor) -> None:
    """Count a fall of the loss, and keep the best point; the first look at a start begins both anew."""
    on.falls = on.falls + (later & (value < on.value))
    better = first | (later & (value < on.best_value))
    on.best_value = torch.where(better, value, on.best_value)
    on.best_point = torch.where(per_image(better, gradient), on.point, on.best_point)
    on.best_gradient = torch.where(per_image(better, gradient), gradient, on.best_gradient)
    on.value = value


def _back(on: _Active, which: Tensor, gradient: Tensor) -> Tensor:
    """Return these rows to their best points, at rest; returns the gradients there, and the others' as they are."""
    wide = per_image(which, gradient)
    on.point = torch.where(wide, on.best_point, on.point)
    on.previous = torch.where(wide, on.best_point, on.previous)
    on.value = torch.where(which, on.best_value, on.value)
    return torch.where(wide, on.best_gradient, gradient)
