"""Whether a success right on the boundary is one, whichever way the model is evaluated, or is moved over.

It has to fool in a batch, alone, in both memory layouts and in float64, and by as much as these differ.

Searches stop only where an image is over the boundary by more than rounding usually hides (`Goal.beyond_rounding`), so
few images come here: those of models whose rounding is worse than usual.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core.attacks.engine.bears import bears_of
from core.attacks.engine.geometry import per_image
from core.attacks.engine.losses import Goal

Ask = Callable[[nn.Module, Tensor, int], Tensor]
"""A forward pass: model, images, images at once; logits."""
TRIES = (2.0, 8.0, 32.0)
"""How far over the boundary an image is moved, in units of what its margin differs by between looks."""


def settled(
    ask: Ask,
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    x_adv: Float[Tensor, "n c h w"],
    goal: Goal,
    *,
    batch: int,
    movable: bool,
) -> tuple[Float[Tensor, "n c h w"], Bool[Tensor, " n"], Int[Tensor, " n"]]:
    """Evaluate the model on doubtful successes in several ways; push those that differ over the boundary.

    The ways are: a batch, one by one in both memory layouts, and float64. The next one, by another batch or processor,
    rounds in yet another way: a success has to be surer than that.

    Args:
        ask: how to ask the model, frozen.
        model: the model.
        x: the images.
        x_adv: what is said to fool.
        goal: theirs.
        batch: images at once in the first look.
        movable: whether an image may be moved on from `x`, by as little as it takes.

    Returns:
        The images, whether each fools in every way by as much as they differ, and the forward passes that it took.
    """
    exact = in_float64(model, x[:1])
    goal = Goal(goal.label, goal.targeted)
    passes = torch.zeros_like(goal.label)

    def looks(points: Tensor, part: Goal) -> tuple[Tensor, Tensor]:
        """Whether each fools in all looks, by as much as they differ, and its margins (n, looks)."""
        alone = torch.cat([model(point.contiguous()).clone() for point in points.split(1)])  # channels first
        seen = [ask(model, points, batch), ask(model, points, 1), alone]
        if exact is not None:
            seen.append(ask(exact, points.double(), batch))
        margins = torch.stack([part.margin(logits).double() for logits in seen], 1)
        worst = margins.amax(1)
        apart = (worst - margins.amin(1)).nan_to_num(0.0, 0.0, 0.0)
        fooled = torch.stack([part.reached(logits) for logits in seen]).all(0) & (worst <= -apart)
        return fooled, margins

    fooled, margins = looks(x_adv, goal)
    passes += margins.shape[1]
    moved = (x_adv != x).flatten(1).any(1)
    if not movable or not bool((moved & ~fooled).any()):
        return x_adv, fooled, passes
    x_adv = x_adv.clone()
    before = goal.margin(ask(model, x, batch)).double()
    passes += 1
    rounding = 4 * torch.finfo(x.dtype).eps * before.abs()
    wobble = torch.maximum(margins.amax(1) - margins.amin(1), rounding).nan_to_num(0.0)
    for times in TRIES:
        rows = (moved & ~fooled).nonzero()[:, 0]
        if not len(rows):
            break
        # as if the margin fell evenly on the way: how much further is it to so far over the boundary
        worst = margins[rows].amax(1)
        rate = (before[rows] - worst).clamp(min=torch.finfo(torch.float64).tiny)
        more = ((worst + times * wobble[rows]) / rate).nan_to_num(0.0).clamp(1e-7, 0.05)
        point = x[rows] + (x_adv[rows] - x[rows]) * (1 + per_image(more.to(x.dtype), x))
        point = point.clamp(0, 1)
        now, seen = looks(point, goal.take(rows))
        passes[rows] += margins.shape[1]
        x_adv[rows[now]], fooled[rows[now]] = point[now], True
        margins[rows] = torch.where(now[:, None], seen, margins[rows])
    return x_adv, fooled, passes


def in_float64(model: nn.Module, x: Float[Tensor, "n c h w"]) -> nn.Module | None:
    """A copy of the model in float64; None where it computes in less than float32, or cannot be copied and converted.

    Args:
        model: the model, frozen.
        x: images that it takes.
    """
    bears = bears_of(model)
    if bears.precision is not None or bears.inside is not None:
        return None
    own = next((value.dtype for value in model.parameters() if value.is_floating_point()), None)
    if own != torch.float32:
        return None
    try:
        made = copy.deepcopy(model).double()
        with torch.no_grad():
            logits = made(x.double())  # constants inside may be float32 all the same
    except (RuntimeError, TypeError, AttributeError, ValueError):
        return None
    return made if logits.dtype == torch.float64 else None
