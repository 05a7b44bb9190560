"""Projected gradient descent in the linf, l2, l1 and l0 balls, with an active set.

Source: Madry, Makelov, Schmidt, Tsipras, Vladu 2018, arXiv 1706.06083. Departures: the step decays by a cosine to a
tenth; one forward pass gives the gradient and the verdict; a fooled image leaves the batch at once and a waiting one
takes its place, each with a step counter of its own; the best iterate is kept for the images that withstand; the l2
and l1 projections are onto ball and box together, not one after the other. In l0 (Croce and Hein 2019, arXiv
1909.05040, count pixels and step by a normalised gradient) a step is infinitely long, and along a running sum of
gradients: its projection is the best image of ball and box for the linearised model, found afresh each step.

`descend` is the loop; the methods in `iterative` are other ways to start it and to step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.active import Active, Rows, Run, even_batch
from core.attacks.engine.checks import check, check_counts, check_positive
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, confine, frozen, gradient_step, predict
from core.attacks.engine.geometry import into_ball, linf_bounds, per_image
from core.attacks.engine.losses import LOSSES, Goal, Loss
from core.attacks.engine.lowest import Lowest
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import cosine
from core.attacks.engine.stand_ins import with_stand_ins
from core.attacks.engine.steps import eps_limit, fewest, nearest, random_point, step_against, within_budget
from core.attacks.engine.streams import Streams, default_streams
from core.checks import check_choice
from core.progress import Progress
from core.specs.methods.base import NORMS, Norm

LAST_STEP = 0.1
"""The last step as a share of the first."""

L0_MOMENTUM = 0.75
"""Share of the running sum of gradients that an l0 step keeps; measured better than none (docs/MEASUREMENTS.md)."""


@dataclass(frozen=True)
class Schedule:
    """Where a start begins and how long its steps are.

    Attributes:
        steps: gradient steps a start.
        shares: for a number of steps, each step as a share of eps.
        start: of the first start; `image`, `ball` (a random point of it), `signs` (every feature at a distance of
            `offset` times eps, up or down at random; linf), `noise` (an image of uniform noise, or what of it the first
            ball holds; l2 and l1) or `kick` (the best point so far, disturbed: see `hop`). Later starts are `ball`
            where this one is `image`.
        offset: see `start`; for `kick` how much of the point is disturbed.
        momentum: None steps along the gradient; else along momentum * (its last value) + gradient / ||gradient||_1.
        balls: for a number of steps, the ball that a start begins in and those after each step, as multiples of eps
            (l2 and l1); None: eps itself. Iterates of balls beyond eps count for nothing.
    """

    steps: int
    shares: Callable[[int], list[float]]
    start: Literal["image", "ball", "signs", "noise", "kick"] = "ball"
    offset: float = 0.0
    momentum: float | None = None
    balls: Callable[[int], list[float]] | None = None


@attack
@with_stand_ins
def pgd(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: float | Tensor,
    norm: Norm = "linf",
    steps: int = 40,
    relative_step: float = 1.0,
    restarts: int = 1,
    random_start: bool = True,
    loss: Loss = "ce",
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    budget: int | None = None,
    early_stop: bool = True,
    draws: int = 1,
    straight_through: bool = False,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Fool by many small steps inside the ball.

    Args:
        model: pixels to logits; left untouched. An image's logits must not depend on its neighbours in the batch.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        eps: size of the ball, one for all or (N,); in [0, 1] for linf, 0 or more for l2 and l1. In l0 the number of
            features that may change, rounded down; a feature is one colour of one pixel.
        norm: shape of the ball.
        steps: gradient steps a start, at least 1.
        relative_step: first step as a share of eps; the steps fall by a cosine to a tenth of it. Not in l0,
            where a step goes as far as ball and box allow.
        restarts: starts, at least 1; the later ones only for images that are not yet fooled.
        random_start: the first start at a random point of the ball; later starts always are.
        loss: `ce` (the cross-entropy's direction, see `losses.soft_margin`), `margin`, `dlr` or `probability_margin`
            (see `losses`).
        y_target: (N,) int64; given, the attack goes towards these classes.
        streams: random streams an image; default seed 0 and the positions in `x`.
        budget: the most forward and backward passes to spend on each image, at least 5; None: no limit. A smaller one
            than a start needs shortens its schedule.
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
    check_counts(steps=steps)
    check_positive(relative_step=relative_step)
    return descend(
        model,
        x,
        y,
        Schedule(steps, lambda count: cosine_shares(count, relative_step), "ball" if random_start else "image"),
        Run(streams, budget, batch, on_progress),
        eps=eps,
        norm=norm,
        restarts=restarts,
        loss=loss,
        y_target=y_target,
        early_stop=early_stop,
    )


def descend(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    schedule: Schedule,
    run: Run,
    *,
    eps: float | Tensor,
    norm: Norm = "linf",
    restarts: int = 1,
    loss: Loss = "ce",
    y_target: Int[Tensor, " n"] | None = None,
    x_init: Float[Tensor, "n c h w"] | None = None,
    early_stop: bool = True,
) -> AttackResult:
    """The loop of PGD and its relatives; arguments, result and errors as in `pgd`.

    `x_init` (N, C, H, W), inside ball and box: the best points that an earlier search found. The model is asked about
    them instead of the images.
    """
    check_counts(restarts=restarts, batch=run.batch)
    check_choice("norm", norm, NORMS)
    check_choice("loss", loss, LOSSES)
    steps, restarts = within_budget(schedule.steps, restarts, run.budget)
    eps = check(model, x, y, eps=eps, y_target=y_target, eps_limit=eps_limit(norm))
    eps = eps.floor() if norm == "l0" else eps
    streams = default_streams(run.streams, x)

    with frozen(model):
        best = Lowest.start(model, x, Goal.of(y, y_target), max(run.batch, 256), x_init=x_init, half=True)
        waiting = best.standing(eps > 0)
        batch = even_batch(len(waiting), run.batch)
        search = _Descent.of(best, schedule, steps, streams, eps, norm)
        active = Active(waiting, batch, search.begin)
        while active.refill():
            rows, on = active.rows, active.state
            part = best.goal.take(rows)
            last = on.step == steps  # these need a verdict only
            if last.all():
                logits, gradient = predict(model, on.point, batch, half=True), torch.zeros_like(on.point)
            else:
                logits, gradient = gradient_step(model, on.point, part, loss, half=True)
                best.backwards[rows[~last]] += 1
            best.forwards[rows] += 1
            inside = None if search.balls is None else search.balls[on.step] <= 1
            logits = best.sharpened(rows, on.point, logits, inside)

            now, low = part.reached(logits), part.margin(logits)
            if inside is not None:
                now, low = now & inside, low.masked_fill(~inside, torch.inf)
            best.offer(rows, on.point, now, low)
            over = (now & early_stop) | last
            again = rows[last & ~best.fooled[rows] & (on.start + 1 < restarts)]
            search.starts[again] += 1
            if active.keep(~over, again):
                gradient = gradient[~over]
            search.move(active.rows, active.state, gradient)
            best.report(run.on_progress, active.left)

        if norm in ("l2", "l1"):
            best.x_adv = into_ball(best.x_adv, x, eps, norm)
        return best.result(batch)


@dataclass
class _Iterates(Rows):
    """The images under attack.

    Attributes:
        start: (n,) int64, which start of the image this is.
        step: (n,) int64, steps taken.
        point: (n, C, H, W) the iterate.
        low, high: its limits in linf, kept because finding them costs more than a step.
        velocity: the running sum of gradients, with momentum.
    """

    start: Tensor
    step: Tensor
    point: Tensor
    low: Tensor | None
    high: Tensor | None
    velocity: Tensor | None


@dataclass(frozen=True)
class _Descent:
    """How starts begin and iterates move.

    Attributes:
        best: the best points so far, where a start of the kind `kick` begins.
        schedule: as given.
        lengths: (steps,) each step as a share of eps.
        streams: random streams of all images.
        eps: (N,) the budgets, whole numbers in l0.
        norm: shape of the ball.
        momentum: as in `Schedule`; l0 always has one.
        balls: (steps + 1,) as in `Schedule`.
        starts: (N,) int64, starts that each image has had.
        max_features: the largest number of features that l0 changes.
    """

    best: Lowest
    schedule: Schedule
    lengths: Tensor
    streams: Streams
    eps: Tensor
    norm: str
    momentum: float | None
    balls: Tensor | None
    starts: Tensor
    max_features: int

    @classmethod
    def of(cls, best: Lowest, schedule: Schedule, steps: int, streams: Streams, eps: Tensor, norm: str) -> _Descent:
        """For so many steps a start."""
        x = best.x
        lengths = torch.tensor(schedule.shares(steps), dtype=x.dtype, device=x.device)
        balls = None
        if schedule.balls is not None:
            balls = torch.tensor(schedule.balls(steps), dtype=x.dtype, device=x.device)
        momentum = L0_MOMENTUM if norm == "l0" and schedule.momentum is None else schedule.momentum
        starts, max_features = torch.zeros_like(best.forwards), min(int(eps.max()), x[0].numel())
        return cls(best, schedule, lengths, streams, eps, norm, momentum, balls, starts, max_features)

    def begin(self, rows: Tensor) -> _Iterates:
        """The next start of each of these images."""
        start, x = self.starts[rows], self.best.x[rows]
        point = confine(self.best.model, self._first_point(rows, x, start), x)
        low, high = linf_bounds(x, self.eps[rows]) if self.norm == "linf" else (None, None)
        velocity = None if self.momentum is None else torch.zeros_like(point)
        return _Iterates(start, torch.zeros_like(rows), point, low, high, velocity)

    def _first_point(self, rows: Tensor, x: Tensor, start: Tensor) -> Tensor:
        """Where start number `start` (n,) of each image begins, in ball and box."""
        kind, offset, eps, norm = self.schedule.start, self.schedule.offset, self.eps[rows], self.norm
        streams = self.streams.take(rows).fork(start)
        if kind == "kick" and norm != "linf":
            best = self.best.x_adv[rows]
            return nearest(best + offset * (random_point(streams, x, eps, norm) - x), x, eps, norm)
        if kind == "kick":
            draw = streams.uniform(0, 2, tuple(x.shape[1:]), x.dtype)  # below 1: up; its rest: whether at all
            low, high = linf_bounds(x, eps)
            return torch.where(draw.frac() < offset, torch.where(draw < 1, high, low), self.best.x_adv[rows])
        if kind == "noise":
            ball = eps if self.balls is None else eps * self.balls[0]
            return nearest(streams.uniform(0, 1, tuple(x.shape[1:]), x.dtype), x, ball, norm)
        if kind == "signs":
            signs = 1 - 2 * (streams.uniform(0, 1, tuple(x.shape[1:]), x.dtype) < 0.5).to(x.dtype)
            return nearest(x + offset * per_image(eps, x) * signs, x, eps, norm)
        moved = (start > 0) | (kind == "ball")
        if not moved.any():
            return x
        return torch.where(per_image(moved, x), random_point(streams, x, eps, norm), x)

    def move(self, rows: Tensor, on: _Iterates, gradient: Tensor) -> None:
        """One step of each iterate, in place."""
        x, eps, norm = self.best.x, self.eps[rows], self.norm
        if self.momentum is not None and on.velocity is not None:
            size = gradient.abs().flatten(1).sum(1).clamp(min=torch.finfo(x.dtype).tiny)
            gradient = on.velocity = self.momentum * on.velocity + gradient / per_image(size, x)
        length = eps * self.lengths[on.step]
        if norm == "linf":
            on.point = torch.clamp(step_against(on.point, gradient, length, norm), on.low, on.high)
        elif norm == "l0":
            on.point = fewest(gradient, x[rows], eps, self.max_features)
        else:  # in l1 the projection picks the features, by its threshold
            ball = eps if self.balls is None else eps * self.balls[on.step + 1]
            on.point = nearest(step_against(on.point, gradient, length, "l2"), x[rows], ball, norm)
        on.step = on.step + 1


def cosine_shares(steps: int, first: float) -> list[float]:
    """Each step as a share of eps: a cosine from `first` down to a tenth of it."""
    return [first * share for share in cosine(1.0, LAST_STEP, steps)]
