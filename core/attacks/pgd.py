"""Projected gradient descent in the linf and l2 balls, with an active set.

Source: Madry, Makelov, Schmidt, Tsipras, Vladu 2018, arXiv 1706.06083. Departures: the step decays by a cosine to a
tenth; one forward pass gives the gradient and the verdict; a fooled image leaves the batch at once and a waiting one
takes its place, each with a step counter of its own; the best iterate is kept for the images that withstand; the l2
projection is onto ball and box together, not one after the other.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine import (
    AttackResult,
    Streams,
    check,
    default_streams,
    finish,
    frozen,
    gradient_step,
    predict,
)
from core.attacks.geometry import into_ball, linf_bounds, per_image, project_l2_box
from core.attacks.losses import LOSSES, Goal, Loss
from core.progress import Progress

NORMS = ("linf", "l2")
PGD_BATCH = 128
"""Images under attack at once: measured best on two cores for LeNet (cache), and small enough to refill often."""
LAST_STEP = 0.1
"""The last step as a share of the first. On LeNet (MNIST, 40 steps, eps .12) first steps of .1, .5 and 1 times eps left
49.8, 47.2 and 47 % standing, a constant step of .1 left 47.6 %; in l2 (eps 1.5) 58.6, 53.4 and 53.0 %."""


def pgd(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    eps: float | Tensor,
    norm: Literal["linf", "l2"] = "linf",
    steps: int = 40,
    relative_step: float = 1.0,
    restarts: int = 1,
    random_start: bool = True,
    loss: Loss = "ce",
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    batch: int = PGD_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Fool by many small steps inside the ball.

    Args:
        model: pixels to logits; left untouched. An image's logits must not depend on its neighbours in the batch.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        eps: budget, one for all or (N,); in [0, 1] for linf, 0 or more for l2.
        norm: shape of the ball.
        steps: gradient steps a start, at least 1.
        relative_step: first step as a share of eps; the steps fall by a cosine to a tenth of it.
        restarts: starts, at least 1; the later ones only for images that are not yet fooled.
        random_start: the first start at a random point of the ball; later starts always are.
        loss: `ce` (the cross-entropy's direction, see `losses.soft_margin`) or `margin`.
        y_target: (N,) int64; given, the attack goes towards these classes.
        streams: random streams an image; default seed 0 and the positions in `x`.
        batch: images under attack at once.
        on_progress: called with done and total images, and the share fooled so far.

    Returns:
        `x_adv`: the first fooling iterate, else the one of the lowest margin seen (which may be `x`). Images fooled
        before come back unchanged, as successes. The ball holds to the last bit in `distance`. `trace`: `margin`
        (N,), the margin at `x_adv` (NaN where the model's output is).

    Raises:
        ValueError: bad input, naming the argument.
    """
    for name, count in (("steps", steps), ("restarts", restarts), ("batch", batch)):
        if count < 1:
            raise ValueError(f"{name}: expected at least 1, got {count}")
    if norm not in NORMS:
        raise ValueError(f"norm: expected one of {', '.join(NORMS)}, got {norm!r}")
    if loss not in LOSSES:
        raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, got {loss!r}")
    if not 0 < relative_step < math.inf:
        raise ValueError(f"relative_step: expected a positive number, got {relative_step}")
    budget = check(model, x, y, eps=eps, y_target=y_target, eps_limit=1.0 if norm == "linf" else math.inf)
    streams = default_streams(streams, x)
    goal = Goal.of(y, y_target)
    decay = torch.tensor(_step_sizes(steps, relative_step), dtype=x.dtype, device=x.device)

    with frozen(model):
        clean = predict(model, x, max(batch, 256))
        fooled, best = goal.reached(clean), goal.margin(clean)
        x_adv = x.clone()
        forwards, backwards = torch.ones_like(y), torch.zeros_like(y)
        waiting = deque((~fooled & (budget > 0)).nonzero()[:, 0].tolist())
        ended = len(x) - len(waiting)
        # the active set: image, which start, which step, current iterate and its limits
        rows, start, step = (torch.zeros(0, dtype=torch.int64, device=x.device) for _ in range(3))
        point, low, high = x[:0], x[:0], x[:0]
        restart_of = torch.zeros_like(y)

        while waiting or len(rows):
            if waiting and len(rows) < batch:
                free = min(len(waiting), batch - len(rows))
                new = torch.tensor([waiting.popleft() for _ in range(free)], device=x.device)
                new_low, new_high = linf_bounds(x[new], budget[new])
                first = x[new]
                begins = restart_of[new]
                moved = (begins > 0) | random_start
                if moved.any():
                    random = _random_start(streams.take(new).fork(begins), first, budget[new], norm)
                    first = torch.where(per_image(moved, first), random, first)
                if norm == "linf":
                    first = first.clamp(new_low, new_high)
                rows, start = torch.cat([rows, new]), torch.cat([start, begins])
                step = torch.cat([step, torch.zeros_like(new)])
                point, low, high = torch.cat([point, first]), torch.cat([low, new_low]), torch.cat([high, new_high])

            part = goal.take(rows)
            last = step == steps  # these need a verdict only
            if last.all():
                logits, gradient = predict(model, point, batch), torch.zeros_like(point)
            else:
                logits, gradient = gradient_step(model, point, part, loss)
                backwards[rows] += 1
            forwards[rows] += 1

            now, value = part.reached(logits), part.margin(logits)
            better = now | (value < best[rows])
            x_adv[rows[better]], best[rows[better]] = point[better], value[better]
            fooled[rows[now]] = True

            over = now | last
            again = rows[last & ~now & (start + 1 < restarts)]
            restart_of[again] += 1
            waiting.extend(again.tolist())
            ended += int(over.sum()) - len(again)

            stay = ~over
            rows, start, step = rows[stay], start[stay], step[stay]
            length = budget[rows] * decay[step]
            point, low, high = point[stay], low[stay], high[stay]
            if norm == "linf":
                point = torch.clamp(point - per_image(length, x) * gradient[stay].sign(), low, high)
            else:
                point = _l2_step(point, gradient[stay], length, x[rows], budget[rows])
            step = step + 1
            if on_progress:
                on_progress(ended, len(x), success=fooled.float().mean().item())

        if norm == "l2":
            x_adv = into_ball(x_adv, x, budget, "l2")
        return finish(model, x, x_adv, goal, fooled, forwards, backwards, {"margin": best}, batch)


def _step_sizes(steps: int, relative_step: float) -> list[float]:
    """Each step as a share of eps: a cosine from `relative_step` down to a tenth of it."""
    turns = [math.cos(math.pi * k / max(1, steps - 1)) for k in range(steps)]
    return [relative_step * (LAST_STEP + (1 - LAST_STEP) * (1 + turn) / 2) for turn in turns]


def _random_start(streams: Streams, x: Tensor, eps: Tensor, norm: str) -> Tensor:
    """A uniform point of the linf or l2 ball around each image, moved into the box by the norm's projection."""
    shape = tuple(x.shape[1:])
    if norm == "linf":
        return x + per_image(eps, x) * streams.uniform(-1, 1, shape, x.dtype)
    direction = streams.normal(shape, x.dtype)
    length = torch.linalg.vector_norm(direction.flatten(1), dim=1)
    radius = eps * streams.uniform(0, 1, (), x.dtype) ** (1 / x[0].numel())
    return (x + project_l2_box(direction * per_image(radius / length, x), x, eps)).clamp(0, 1)


def _l2_step(point: Tensor, gradient: Tensor, step: Tensor, x: Tensor, eps: Tensor) -> Tensor:
    """A step of the given length against the gradient, then the nearest point of ball and box."""
    length = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    factor = torch.where(length > 0, step / length.clamp(min=torch.finfo(x.dtype).tiny), 0)
    return (x + project_l2_box(point - per_image(factor, x) * gradient - x, x, eps)).clamp(0, 1)
