"""Random points of a ball, steps along a gradient inside ball and box: what attacks move by."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from core.attacks.engine.checks import check_budget
from core.attacks.engine.geometry import linf_bounds, per_image, project_l1_box, project_l2_box
from core.attacks.engine.streams import Streams

Ball = Literal["linf", "l2", "l1"]
BALLS: tuple[Ball, ...] = ("linf", "l2", "l1")
SCHEDULE = ((0.0, 1), (0.005, 2), (0.02, 4), (0.05, 5), (0.1, 6), (0.2, 8), (0.4, 10), (0.6, 12), (0.8, 15), (1.0, 20))
"""Sparse-RS: up to this share of all queries, the share of the features that moves is divided by this number."""


def fgsm_step(
    x: Float[Tensor, "n c h w"], direction: Float[Tensor, "n c h w"], eps: Float[Tensor, " n"], *, clip: bool = True
) -> Float[Tensor, "n c h w"]:
    """Move to x + eps * direction, never outside the linf ball in floating point, in the box [0, 1] if `clip`."""
    low, high = linf_bounds(x, eps, boxed=clip)
    return torch.clamp(x + per_image(eps, x) * direction, low, high)


def eps_limit(norm: str) -> float:
    """The largest budget with a meaning: a pixel's whole range in linf, none in the other norms."""
    return 1.0 if norm == "linf" else torch.inf


def within_budget(steps: int, starts: int, budget: int | None) -> tuple[int, int]:
    """Steps a start, and starts, that a budget of passes pays for: as many as fit, else one shorter start.

    A start costs two passes a step and a last look; the look at the image itself and the verification come on top.
    Raises ValueError for a budget below 5.
    """
    check_budget(budget, 5)
    if budget is None:
        return steps, starts
    steps = min(steps, (budget - 3) // 2)
    return steps, min(starts, (budget - 2) // (2 * steps + 1))


def nearest(
    point: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"], eps: Float[Tensor, " n"], norm: str
) -> Float[Tensor, "n c h w"]:
    """The nearest image of ball and box; in linf inside to the last bit, in l2 and l1 up to rounding (`into_ball`)."""
    if norm == "linf":
        low, high = linf_bounds(x, eps)
        return point.clamp(low, high)
    project = project_l2_box if norm == "l2" else project_l1_box
    return (x + project(point - x, x, eps)).clamp(0, 1)


def random_point(streams: Streams, x: Tensor, eps: Tensor, norm: str) -> Tensor:
    """A random image of ball and box, by the image's own stream.

    Uniform in the linf or l2 ball and then moved into the box; in l0 random features, each at an end; in l1 the
    projection of normal noise onto both, which changes few features, as the attacks in l1 do (a uniform point of a
    large l1 ball changes all of them, by nothing).
    """
    shape = tuple(x.shape[1:])
    if norm == "linf":
        return nearest(x + per_image(eps, x) * streams.uniform(-1, 1, shape, x.dtype), x, eps, norm)
    if norm == "l0":
        draw = streams.uniform(-1, 1, shape, x.dtype)
        return fewest(draw, x, eps, min(int(eps.max()), x[0].numel()))
    noise = streams.normal(shape, x.dtype)
    if norm == "l2":
        length = torch.linalg.vector_norm(noise.flatten(1), dim=1)
        reach = eps * streams.uniform(0, 1, (), x.dtype) ** (1 / x[0].numel())
        noise = noise * per_image(reach / length, x)
    return nearest(x + noise, x, eps, norm)


def fewest(
    gradient: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"], eps: Float[Tensor, " n"], max_features: int
) -> Float[Tensor, "n c h w"]:
    """The image of l0 ball and box that a linear function with this gradient is lowest at (MATHEMATICS section 1).

    At most floor(eps) features, those with the best gains, go to the end, 0 or 1, that the gradient points away from;
    a feature that gains nothing stays. `max_features` is the largest floor(eps), or the number
    of features if that is less.
    """
    end = (gradient < 0).to(x.dtype)
    gain, order = (gradient * (x - end)).flatten(1).topk(max_features, dim=1)
    rank = torch.arange(max_features, device=x.device)
    kept = (rank < eps.floor()[:, None]) & (gain > 0)
    chosen = torch.zeros_like(gradient.flatten(1), dtype=torch.bool).scatter(1, order, kept)
    return torch.where(chosen.view_as(x), end, x)


def step_against(
    point: Float[Tensor, "n c h w"],
    gradient: Float[Tensor, "n c h w"],
    length: Float[Tensor, " n"],
    norm: str,
    features: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "n c h w"]:
    """A step of this length in this norm against the gradient; neither ball nor box are looked at.

    linf moves every feature by `length`, l2 along the gradient; l1 moves the `features` (N,) steepest ones (rounded
    down, at least one) of those that the box does not block, by equal parts of `length`. Where the gradient is 0, the
    image stays.
    """
    if norm == "linf":
        return point - per_image(length, point) * gradient.sign()
    if norm == "l2":
        size = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
        factor = torch.where(size > 0, length / size.clamp(min=torch.finfo(point.dtype).tiny), 0)
        return point - per_image(factor, point) * gradient
    if features is None:
        raise ValueError("features: expected a number an image in l1, got None")
    blocked = ((point <= 0) & (gradient > 0)) | ((point >= 1) & (gradient < 0))
    size = torch.where(blocked, 0, gradient.abs()).flatten(1)
    count = features.floor().long().clamp(1, size.shape[1])
    threshold = size.sort(dim=1, descending=True).values.gather(1, count[:, None] - 1)
    chosen = ((size >= threshold) & (size > 0)).to(point.dtype).view_as(point) * gradient.sign()
    share = length / chosen.abs().flatten(1).sum(1).clamp(min=1)
    return point - per_image(share, point) * chosen


def divisor(share: float) -> int:
    """What the share of the features that moves is divided by after this share of all queries (`SCHEDULE`)."""
    return next(number for limit, number in SCHEDULE if share <= limit)
