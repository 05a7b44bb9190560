"""Projected gradient descent in the linf, l2, l1 and l0 balls, with an active set.

Source: Madry, Makelov, Schmidt, Tsipras, Vladu 2018, arXiv 1706.06083. Departures: the step decays by a cosine to a
tenth; one forward pass gives the gradient and the verdict; a fooled image leaves the batch at once and a waiting one
takes its place, each with a step counter of its own; the best iterate is kept for the images that withstand; the l2
and l1 projections are onto ball and box together, not one after the other. In l0 (Croce and Hein 2019, arXiv
1909.05040, count pixels and step by a normalised gradient) a step is infinitely long, and along a running sum of
gradients: its projection is the best image of ball and box for the linearised model, found afresh each step.

`walk` is the loop; the methods in `iterative` are other ways to start it and to step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

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
    gradient_step,
    predict,
    take_waiting,
)
from core.attacks.engine.geometry import into_ball, linf_bounds, per_image
from core.attacks.engine.losses import LOSSES, Goal, Loss
from core.attacks.engine.smallest import check_positive, cosine
from core.attacks.engine.stand_ins import with_stand_ins
from core.attacks.engine.steps import eps_limit, fewest, nearest, random_point, step_against, within_budget
from core.progress import Progress

WalkNorm = Literal["linf", "l2", "l1", "l0"]
WALKS: tuple[WalkNorm, ...] = ("linf", "l2", "l1", "l0")
LAST_STEP = 0.1
"""The last step as a share of the first. On LeNet (MNIST, 40 steps, eps .12) first steps of .1, .5 and 1 times eps left
49.8, 47.2 and 47 % standing, a constant step of .1 left 47.6 %; in l2 (eps 1.5) 58.6, 53.4 and 53.0 %."""

L0_MOMENTUM = 0.75
"""Share of the running sum of gradients that an l0 step keeps. On LeNet (MNIST, 40 steps, 100 images) it leaves 55, 9
and 0 % standing with 8, 15 and 25 features; plain steps of any length leave 64, 23 and 1 % or more."""


@dataclass(frozen=True)
class Walk:
    """How a start begins and how it steps.

    Attributes:
        steps: gradient steps a start.
        schedule: for a number of steps, each step as a share of eps.
        start: of the first start; `image`, `ball` (a random point of it), `signs` (every feature at a distance of
            `offset` times eps, up or down at random; linf) or `kick` (the best point so far, disturbed: see `hop`).
            Later starts are `ball` where this one is `image`.
        offset: see `start`; for `kick` how much of the point is disturbed.
        momentum: None steps along the gradient; else along momentum * (its last value) + gradient / ||gradient||_1.
    """

    steps: int
    schedule: Callable[[int], list[float]]
    start: Literal["image", "ball", "signs", "kick"] = "ball"
    offset: float = 0.0
    momentum: float | None = None


@attack
@with_stand_ins
def pgd(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: float | Tensor,
    norm: WalkNorm = "linf",
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
        loss: `ce` (the cross-entropy's direction, see `losses.soft_margin`), `margin` or `dlr` (see `losses`).
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
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    check_positive(relative_step=relative_step)
    return walk(
        model,
        x,
        y,
        Walk(steps, lambda count: cosine_shares(count, relative_step), "ball" if random_start else "image"),
        eps=eps,
        norm=norm,
        restarts=restarts,
        loss=loss,
        y_target=y_target,
        streams=streams,
        budget=budget,
        early_stop=early_stop,
        batch=batch,
        on_progress=on_progress,
    )


def walk(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    how: Walk,
    *,
    eps: float | Tensor,
    norm: WalkNorm = "linf",
    restarts: int = 1,
    loss: Loss = "ce",
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    budget: int | None = None,
    begin: Float[Tensor, "n c h w"] | None = None,
    early_stop: bool = True,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """The loop of PGD and its relatives; arguments, result and errors as in `pgd`.

    `begin` (N, C, H, W), inside ball and box: the best points that an earlier search found. They are looked at instead
    of the images.
    """
    for name, count in (("restarts", restarts), ("batch", batch)):
        if count < 1:
            raise ValueError(f"{name}: expected at least 1, got {count}")
    if norm not in WALKS:
        raise ValueError(f"norm: expected one of {', '.join(WALKS)}, got {norm!r}")
    if loss not in LOSSES:
        raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, got {loss!r}")
    steps, restarts = within_budget(how.steps, restarts, budget)
    radius = check(model, x, y, eps=eps, y_target=y_target, eps_limit=eps_limit(norm))
    radius = radius.floor() if norm == "l0" else radius
    streams = default_streams(streams, x)
    goal = Goal.of(y, y_target)
    lengths = torch.tensor(how.schedule(steps), dtype=x.dtype, device=x.device)
    momentum = L0_MOMENTUM if norm == "l0" and how.momentum is None else how.momentum
    most = min(int(radius.max()), x[0].numel())  # features, in l0
    direction = "l2" if norm == "l1" else norm  # in l1 the projection picks the features, by its threshold

    with frozen(model):
        x_adv = x.clone() if begin is None else begin.clone()
        logits = predict(model, x_adv, max(batch, 256))
        fooled, best = goal.reached(logits), goal.margin(logits)
        goal = clear_goal(model, goal, logits)
        forwards, backwards = torch.ones_like(y), torch.zeros_like(y)
        waiting = deque((~fooled & (radius > 0)).nonzero()[:, 0].tolist())
        batch = even_batch(len(waiting), batch)
        ended = len(x) - len(waiting)
        # the active set: image, which start, which step, current iterate, its limits and its momentum
        rows, start, step = (torch.zeros(0, dtype=torch.int64, device=x.device) for _ in range(3))
        point, low, high, velocity = x[:0], x[:0], x[:0], x[:0]
        restart_of = torch.zeros_like(y)

        while waiting or len(rows):
            if waiting and len(rows) < batch:
                new = take_waiting(waiting, batch - len(rows), x.device)
                begins = restart_of[new]
                first = _first_point(how, streams.take(new).fork(begins), x[new], x_adv[new], radius[new], norm, begins)
                first = confine(model, first, x[new])
                rows, start = torch.cat([rows, new]), torch.cat([start, begins])
                step = torch.cat([step, torch.zeros_like(new)])
                point = torch.cat([point, first])
                if norm == "linf":
                    new_low, new_high = linf_bounds(x[new], radius[new])
                    low, high = torch.cat([low, new_low]), torch.cat([high, new_high])
                if momentum is not None:
                    velocity = torch.cat([velocity, torch.zeros_like(first)])

            part = goal.take(rows)
            last = step == steps  # these need a verdict only
            if last.all():
                logits, gradient = predict(model, point, batch), torch.zeros_like(point)
            else:
                logits, gradient = gradient_step(model, point, part, loss)
                backwards[rows[~last]] += 1
            forwards[rows] += 1

            now, value = part.reached(logits), part.margin(logits)
            better = (now & ~fooled[rows]) | (value < best[rows])
            x_adv[rows[better]], best[rows[better]] = point[better], value[better]
            fooled[rows[now]] = True

            over = (now & early_stop) | last
            again = rows[last & ~fooled[rows] & (start + 1 < restarts)]
            restart_of[again] += 1
            waiting.extend(again.tolist())
            ended += int(over.sum()) - len(again)

            if over.any():  # else nothing is copied
                stay = ~over
                rows, start, step, point, gradient = rows[stay], start[stay], step[stay], point[stay], gradient[stay]
                velocity = velocity if momentum is None else velocity[stay]
                if norm == "linf":
                    low, high = low[stay], high[stay]
            if momentum is not None:
                size = gradient.abs().flatten(1).sum(1).clamp(min=torch.finfo(x.dtype).tiny)
                gradient = velocity = momentum * velocity + gradient / per_image(size, x)
            length = radius[rows] * lengths[step]
            if norm == "linf":  # bounds are kept: finding them costs more than the step
                point = torch.clamp(step_against(point, gradient, length, direction), low, high)
            elif norm == "l0":
                point = fewest(gradient, x[rows], radius[rows], most)
            else:
                point = nearest(step_against(point, gradient, length, direction), x[rows], radius[rows], norm)
            step = step + 1
            if on_progress:
                on_progress(ended, len(x), success=fooled.float().mean().item())

        if norm in ("l2", "l1"):
            x_adv = into_ball(x_adv, x, radius, norm)
        return finish(model, x, x_adv, goal, fooled, forwards, backwards, {"margin": best}, batch)


def cosine_shares(steps: int, first: float) -> list[float]:
    """Each step as a share of eps: a cosine from `first` down to a tenth of it."""
    return [first * share for share in cosine(1.0, LAST_STEP, steps)]


def _first_point(
    how: Walk, streams: Streams, x: Tensor, best: Tensor, eps: Tensor, norm: str, begins: Tensor
) -> Tensor:
    """Where start number `begins` (N,) of each image begins, in ball and box."""
    if how.start == "kick" and norm != "linf":
        return nearest(best + how.offset * (random_point(streams, x, eps, norm) - x), x, eps, norm)
    if how.start == "kick":
        draw = streams.uniform(0, 2, tuple(x.shape[1:]), x.dtype)  # below 1: up; its rest: whether at all
        low, high = linf_bounds(x, eps)
        return torch.where(draw.frac() < how.offset, torch.where(draw < 1, high, low), best)
    if how.start == "signs":
        signs = 1 - 2 * (streams.uniform(0, 1, tuple(x.shape[1:]), x.dtype) < 0.5).to(x.dtype)
        return nearest(x + how.offset * per_image(eps, x) * signs, x, eps, norm)
    moved = (begins > 0) | (how.start == "ball")
    if not moved.any():
        return x
    return torch.where(per_image(moved, x), random_point(streams, x, eps, norm), x)
