"""Transfer: an attack made on a surrogate and only scored on the victim, by what makes examples transfer.

Momentum (MI): Dong et al. 2018, arXiv 1710.06081. Diverse inputs (DI): Xie et al. 2019, arXiv 1803.06978: each step's
image is, at random, made smaller and put somewhere on black. Translation-invariant gradients (TI): Dong et al. 2019,
arXiv 1904.02884: each gradient is smoothed by a Gaussian. Departures: images are shrunk and not enlarged, since
networks here take one size; each image has a size and place of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.bears import bears_of
from core.attacks.engine.checks import check, check_counts, check_images, check_positive
from core.attacks.engine.door import attack
from core.attacks.engine.engine import (
    ATTACK_BATCH,
    admitted,
    confine,
    frozen,
    input_gradient,
    leaf_of,
    logits_of_leaf,
    predict,
)
from core.attacks.engine.geometry import into_ball, per_image
from core.attacks.engine.losses import Goal
from core.attacks.engine.result import AttackResult, finish
from core.attacks.engine.smallest import steps_within
from core.attacks.engine.steps import eps_limit, nearest, step_against
from core.attacks.engine.streams import Streams, default_streams
from core.checks import check_choice
from core.progress import Progress

NORMS = ("linf", "l2")


@attack(gradients=False)
def transfer(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    surrogate: nn.Module,
    eps: float | Tensor,
    norm: Literal["linf", "l2"] = "linf",
    steps: int = 20,
    relative_step: float = 0.1,
    momentum: float = 1.0,
    diversity: float = 0.7,
    smallest: float = 0.8,
    kernel: int = 5,
    budget: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    streams: Streams | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Follow the surrogate's gradients inside the ball, then ask the victim once.

    Args:
        model: the victim, pixels to logits; left untouched, never differentiated, and not asked on the way.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        surrogate: another model of the same images and classes; left untouched.
        eps: size of the ball, one for all or (N,); in [0, 1] for linf, 0 or more for l2.
        norm: shape of the ball.
        steps: gradient steps, at least 1. None ends early: what fools the surrogate well transfers better.
        relative_step: each step as a share of eps.
        momentum: share of the running sum of normalised gradients that each step keeps, from 0 (BIM) to 10.
        diversity: probability that a step sees the image changed, in [0, 1]; 0: no diverse inputs.
        smallest: the least side of a changed image as a share of its own, in (0, 1].
        kernel: side of the Gaussian that smooths gradients, odd; its standard deviation is a sixth of its side less
            one; 1: none.
        budget: the most passes through either model to spend on each image, at least 6; None: no limit.
        y_target: (N,) int64; given, the attack goes towards these classes.
        streams: random streams an image; default seed 0 and the positions in `x`.
        batch: images in one pass.
        on_progress: called each step with images done, all, and the share of those that fool the victim.

    Returns:
        `x_adv`: the last iterate, whether it fools or not; images that fool the victim before come back unchanged, as
        successes. The ball holds to the last bit in `distance`. `success` is the victim's verdict. `forwards` and
        `backwards` count passes through both. `trace`: `surrogate_margin` (N,), the surrogate's margin at `x_adv`,
        below 0 where it is fooled.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(steps=steps, batch=batch)
    _check_settings(norm, momentum, diversity, smallest, kernel)
    check_positive(relative_step=relative_step)
    eps = check(model, x, y, eps=eps, y_target=y_target, eps_limit=eps_limit(norm))
    steps = steps_within(budget, steps, 2, 4)
    streams = default_streams(streams, x)
    goal = Goal.of(y, y_target)
    blur = _gaussian(kernel, x)

    with frozen(model), admitted(surrogate, x) as surrogate:
        _check_surrogate(model, surrogate, x)
        fooled = goal.reached(predict(model, x, batch))
        x_adv, forwards, backwards = x.clone(), torch.ones_like(y), torch.zeros_like(y)
        todo = (~fooled & (eps > 0)).nonzero()[:, 0]
        ended = len(x) - len(todo)
        for rows in todo.split(batch) if len(todo) else ():
            image, part, point, velocity = x[rows], goal.take(rows), x[rows], torch.zeros_like(x[rows])
            for step in range(steps):
                leaf = leaf_of(point)
                seen = _diverse(leaf, streams.take(rows).fork(step), diversity, smallest)
                gradient = input_gradient(part.loss(logits_of_leaf(surrogate, seen), "ce").sum(), leaf)
                gradient = confine(model, gradient, torch.zeros_like(gradient))
                if kernel > 1:  # which spreads it beyond the mask again
                    gradient = F.conv2d(gradient, blur, padding=kernel // 2, groups=gradient.shape[1])
                    gradient = confine(model, gradient, torch.zeros_like(gradient))
                scale = gradient.abs().flatten(1).sum(1).clamp(min=torch.finfo(x.dtype).tiny)
                velocity = momentum * velocity + gradient / per_image(scale, x)
                length = eps[rows] * relative_step
                moved = nearest(step_against(point, velocity, length, norm), image, eps[rows], norm)
                point = confine(model, moved, image)
                forwards[rows] += 1
                backwards[rows] += 1
                if on_progress:
                    on_progress(ended + len(rows) * step // steps, len(x), success=fooled.float().mean().item())
            x_adv[rows] = point if norm == "linf" else into_ball(point, image, eps[rows], norm)
            ended += len(rows)
            fooled[rows] = part.reached(predict(model, x_adv[rows], batch))
            forwards[rows] += 1
        margin = goal.margin(predict(surrogate, x_adv, batch))
        forwards += 1
        if on_progress:
            on_progress(len(x), len(x), success=fooled.float().mean().item())
        made = finish(model, x, x_adv, goal, fooled, forwards, backwards, {"surrogate_margin": margin}, batch)
        return replace(made, notes=tuple(f"Surrogate: {note}" for note in bears_of(surrogate).notes))


def _diverse(point: Tensor, streams: Streams, probability: float, smallest: float) -> Tensor:
    """Each image, with this probability, shrunk to a random size and put at a random place on black."""
    if probability == 0 or smallest == 1:
        return point
    chance, share, down, right = (streams.fork(part).uniform(0, 1, (), point.dtype) for part in range(4))
    scale = smallest + (1 - smallest) * share
    # output pixels, from -1 to 1, look at (place - centre) / scale; outside of the image it is black
    zeros = torch.zeros_like(scale)
    across, along = (1 - scale) * (2 * right - 1), (1 - scale) * (2 * down - 1)
    turn = torch.stack(
        [
            torch.stack([1 / scale, zeros, -across / scale], 1),
            torch.stack([zeros, 1 / scale, -along / scale], 1),
        ],
        1,
    )
    grid = F.affine_grid(turn, list(point.shape), align_corners=False)
    small = F.grid_sample(point, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return torch.where(per_image(chance < probability, point), small, point)


def _gaussian(side: int, like: Tensor) -> Float[Tensor, "c 1 k k"]:
    """A Gaussian that sums to 1, once a channel; three standard deviations from middle to edge."""
    place = torch.linspace(-3, 3, side, dtype=torch.float64) if side > 1 else torch.zeros(1, dtype=torch.float64)
    line = (-place.square() / 2).exp()
    plane = line[:, None] * line[None, :]
    return (plane / plane.sum()).to(like.device, like.dtype).expand(like.shape[1], 1, side, side).contiguous()


def _check_surrogate(model: nn.Module, surrogate: nn.Module, x: Tensor) -> None:
    if not isinstance(surrogate, nn.Module):
        raise ValueError(f"surrogate: expected a model whose gradients to follow, got {surrogate!r}")
    ours = check_images(model, x[:1])
    try:
        theirs = check_images(surrogate, x[:1])
    except ValueError as error:
        raise ValueError(f"surrogate: expected a model of images {tuple(x.shape[1:])}; it says: {error}") from error
    if ours != theirs:
        raise ValueError(f"surrogate: expected a model of {ours} classes, as the victim, got one of {theirs}")


def _check_settings(norm: str, momentum: float, diversity: float, smallest: float, kernel: int) -> None:
    check_choice("norm", norm, NORMS)
    if not 0 <= momentum <= 10:
        raise ValueError(f"momentum: expected a number from 0 to 10, got {momentum}")
    if not 0 <= diversity <= 1:
        raise ValueError(f"diversity: expected a probability, got {diversity}")
    if not 0 < smallest <= 1:
        raise ValueError(f"smallest: expected a share above 0 and at most 1, got {smallest}")
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel: expected an odd number of 1 or more, got {kernel}")
