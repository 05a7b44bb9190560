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

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.active import Active, even_batch
from core.attacks.engine.checks import check
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, confine, frozen, input_gradient, leaf_of, logits_of_leaf, predict
from core.attacks.engine.geometry import into_ball, linf_bounds, per_image
from core.attacks.engine.losses import LOSSES, Goal, Loss, ranked_others
from core.attacks.engine.lowest import Lowest
from core.attacks.engine.result import AttackResult
from core.attacks.engine.stand_ins import with_stand_ins
from core.attacks.engine.steps import BALLS, Ball, eps_limit, nearest, random_point, step_against, within_budget
from core.attacks.engine.streams import Streams, default_streams
from core.attacks.fixed_budget.step_rule import L1Rule, Starts, StepRule
from core.checks import check_choice
from core.progress import Progress

MOMENTUM = 0.75
"""Share of the new step in a move; the rest repeats the last move."""


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
        loss: `ce` (the cross-entropy's direction, see `losses.soft_margin`), `margin`, `dlr` or `probability_margin`
            (see `losses`). With fewer than 3 classes (towards a target 4), `dlr` is the margin.
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
    _check_counts(steps, restarts, targets, odi_steps, batch, y_target)
    check_choice("norm", norm, BALLS)
    check_choice("loss", loss, LOSSES)
    total, starts = within_budget(odi_steps + steps, restarts + targets, budget)
    odi_steps = odi_steps * total // (odi_steps + steps)
    steps, restarts = total - odi_steps, min(restarts, starts)
    targets = min(targets, starts - restarts)
    eps = check(model, x, y, eps=eps, y_target=y_target, eps_limit=eps_limit(norm))
    streams = default_streams(streams, x)
    rule = L1Rule.of(steps) if norm == "l1" else StepRule.of(steps, x.device)

    with frozen(model):
        best = Lowest.start(model, x, Goal.of(y, y_target), max(batch, 256), half=True)
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
                logits, gradient = predict(model, on.point, batch, half=True), torch.zeros_like(on.point)
                value = _value(logits, part, on, loss)
            else:
                leaf = leaf_of(on.point)
                logits = logits_of_leaf(model, leaf, half=True)
                value = _value(logits, part, on, loss)
                gradient = input_gradient(value[~last].sum(), leaf)
                logits, value = logits.detach(), value.detach()
                best.backwards[rows[~last]] += 1
            best.forwards[rows] += 1

            logits = best.sharpened(rows, on.point, logits)
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


def _check_counts(steps: int, restarts: int, targets: int, odi_steps: int, batch: int, y_target: Tensor | None) -> None:
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

    def begin(self, rows: Tensor) -> Starts:
        """The next start of each of these images."""
        start, x, eps = self.start_of[rows], self.best.x[rows], self.eps[rows]
        streams, moved = self.streams.take(rows).fork(start), (start > 0) | self.random_start
        point = x
        if moved.any():
            drawn = confine(self.best.model, random_point(streams, point, eps, self.norm), point)
            point = torch.where(per_image(moved, point), drawn, point)
        along = streams.uniform(-1, 1, (self.best.logits.shape[1],), x.dtype)
        limits = linf_bounds(x, eps) if self.norm == "linf" else (None, None)
        return Starts.of(self.plan[rows, start], along, point, limits, -self.odi_steps)

    def move(self, rows: Tensor, on: Starts, gradient: Tensor) -> None:
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

    def _inside(self, point: Tensor, x: Tensor, rows: Tensor, on: Starts) -> Tensor:
        """The nearest image of ball and box; in linf by the limits, which cost more than a step to find."""
        if self.norm == "linf":
            return point.clamp(on.low, on.high)
        return nearest(point, x[rows], self.eps[rows], self.norm)


def _value(logits: Tensor, goal: Goal, on: Starts, loss: Loss) -> Tensor:
    """What each row minimises now: its loss, that towards its start's class, or minus its random sum of logits."""
    value = goal.loss(logits, loss)
    if (on.toward >= 0).any():
        directed = Goal(on.toward.clamp(min=0), targeted=True).loss(logits, loss)
        value = torch.where(on.toward >= 0, directed, value)
    if (on.step < 0).any():
        value = torch.where(on.step < 0, -(on.along * logits).sum(1), value)
    return value
