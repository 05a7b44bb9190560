"""Images that survive being saved in 8 bits a feature: every value k / 255, inside ball and box, verified again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core.attacks.engine.bears import bears_of
from core.attacks.engine.engine import admitted, confine, predict, wide
from core.attacks.engine.geometry import distances, per_image
from core.attacks.engine.losses import Goal
from core.attacks.engine.result import AttackResult, clear_goal

Grid = Callable[[Tensor, Tensor, str], Tensor]
"""What puts images onto the numbers that can be stored: images, what they were made from, which way."""

PASSES = 3
"""The most forward passes that `in_eight_bits` spends on an image: rounded towards `x`, to the nearest level, away."""

CHUNK = 200
"""Images rounded and verified at once: another batch layout than any attack's, and little memory for a large set."""


def levels(values: Float[Tensor, "*shape"]) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """The nearest 8-bit levels k / 255 at or below, and at or above, values in [0, 1].

    A level is what a byte k becomes when it is divided by 255 in the values' dtype; such values come back as they are.
    """
    # a tensor and not a number: CUDA multiplies by a number's reciprocal, which is off in the last bit
    top = torch.tensor(255, dtype=values.dtype, device=values.device)
    guess = (values * top).round()
    level = guess / top
    low = torch.where(level > values, (guess - 1) / top, level)
    high = torch.where(level < values, (guess + 1) / top, level)
    return low, high


def rounded(
    x_adv: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"], way: str = "towards"
) -> Float[Tensor, "n c h w"]:
    """Each feature on an 8-bit level: one of the two around its value (the same one where it is on a level).

    `towards`: the one on the side of `x`, so that where `x` itself has 8 bits no feature moves further from it, and
    none that was unchanged moves: balls of every norm keep the image, to the last bit. Where `x` is between levels and
    that level lies beyond it, the one that is nearer to `x`. `nearest`: the nearest. `away`: the one further from `x`.
    """
    low, high = levels(x_adv.clamp(0, 1))
    if way == "nearest":
        return torch.where((x_adv - low).abs() <= (high - x_adv).abs(), low, high)
    below, above = (low - x).abs(), (high - x).abs()
    return torch.where((below <= above) == (way == "towards"), low, high)


def in_grid_of(
    x_adv: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"], way: str = "towards"
) -> Float[Tensor, "n c h w"]:
    """Each feature as a number of the dtype of `x` (half precision): as in `rounded`, for its numbers in [0, 1]."""
    near = x_adv.clamp(0, 1).to(x.dtype)
    exact = near.to(x_adv.dtype)
    zeros = torch.zeros_like(near)
    low = torch.where(exact > x_adv, torch.nextafter(near, zeros), near)
    high = torch.where(exact < x_adv, torch.nextafter(near, zeros + 2), near)
    if way == "nearest":
        return near
    below, above = (low.float() - x.float()).abs(), (high.float() - x.float()).abs()
    return torch.where((below <= above) == (way == "towards"), low, high)


def in_eight_bits(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    result: AttackResult,
    *,
    norm: str,
    eps: float | Tensor | None = None,
    y_target: Int[Tensor, " n"] | None = None,
) -> AttackResult:
    """The attack's images in 8 bits, each verdict that of the rounded image.

    Every image is rounded towards `x`. A success that is lost by this is tried again on the nearest levels, and then
    on those further from `x`, where the ball has room.

    Args:
        model: as attacked; left untouched.
        x: (N, C, H, W) the images.
        y: (N,) int64 true classes.
        result: what the attack made of them.
        norm: the ball's, if there is `eps`.
        eps: the ball, one or (N,); None where there is none.
        y_target: as in the attack.

    Returns:
        Every value of `x_adv` is k / 255 in the images' dtype, so that writing it as a byte and reading it again
        changes no bit; `success`, `distance` and `forwards` (at most 3 more) are the rounded images'. Where `x` has 8
        bits itself, the ball always holds. Where it has not, an image for which no rounding is in the ball comes back
        as `x`, and counts as a success only if `x` fools. Outside a model's mask `x` stays as it is. `trace` is
        the attack's, before rounding.
    """
    with admitted(model, wide(x), gradients=False) as fit:
        return _on_grid(fit, x, y, result, rounded, norm, eps, y_target)


def in_dtype(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    result: AttackResult,
    *,
    norm: str,
    eps: float | Tensor | None = None,
    y_target: Int[Tensor, " n"] | None = None,
) -> AttackResult:
    """The attack's float32 images in the half-precision dtype of `x`, each verdict that of the rounded image.

    As `in_eight_bits`, on another grid; the model is frozen, and takes float32 images.
    """
    return _on_grid(model, x, y, result, in_grid_of, norm, eps, y_target)


def _on_grid(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    result: AttackResult,
    grid: Grid,
    norm: str,
    eps: float | Tensor | None,
    y_target: Tensor | None,
) -> AttackResult:
    goal = Goal.of(y, y_target)
    all_eps = None if eps is None else torch.as_tensor(eps, dtype=torch.float64, device=x.device).expand(len(x))
    x_adv, success, forwards = x.clone(), torch.zeros_like(result.success), result.forwards.clone()
    for rows in torch.arange(len(x), device=x.device).flip(0).split(CHUNK):
        part_eps = None if all_eps is None else all_eps[rows]
        x_adv[rows], success[rows], passes = _verified(
            model, x[rows], result.x_adv[rows], result.success[rows], goal.take(rows), norm, part_eps, grid
        )
        forwards[rows] += passes
    return replace(result, x_adv=x_adv, success=success, distance=distances(x_adv, x), forwards=forwards)


def _verified(
    model: nn.Module, x: Tensor, made: Tensor, fooled: Tensor, goal: Goal, norm: str, eps: Tensor | None, grid: Grid
) -> tuple[Tensor, Tensor, Tensor]:
    """Some of the images: rounded, whether they fool, forward passes spent. Lost successes are tried again.

    A success is one beyond rounding in the model (`engine.clear_goal`), but for images that fooled before.
    """

    def inside(images: Tensor, rows: Tensor) -> Bool[Tensor, " n"]:
        if eps is None:
            return torch.ones_like(rows, dtype=torch.bool)
        return distances(images, x[rows])[norm] <= eps[rows]  # float64; what is made keeps to ε without any slack

    every = torch.arange(len(x), device=x.device)
    at_once = CHUNK if bears_of(model).neighbours else 1
    x_adv = confine(model, grid(made, x, "towards"), x)
    x_adv = torch.where(per_image(inside(x_adv, every), x), x_adv, x)
    logits, passes = predict(model, wide(x_adv), at_once), torch.ones_like(every)
    same = (x_adv == x).flatten(1).all(1)
    clear = clear_goal(model, goal, logits)
    success = torch.where(same, goal.reached(logits), clear.reached(logits))
    for way in ("nearest", "away"):
        rows = (fooled & ~success).nonzero()[:, 0]
        trial = confine(model, grid(made[rows], x[rows], way), x[rows])
        allowed = inside(trial, rows)
        rows, trial = rows[allowed], trial[allowed]
        if len(rows):
            now = clear.take(rows).reached(predict(model, wide(trial), at_once))
            passes[rows] += 1
            x_adv[rows[now]], success[rows[now]] = trial[now], True
    return x_adv, success, passes
