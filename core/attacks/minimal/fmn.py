"""Fast minimum-norm attack, in every norm.

Source: Pintor, Roli, Brendel, Biggio 2021, arXiv 2102.12827, algorithm 1. Departures: every projection is the exact one
onto ball and box together (in two libraries the l2 projection is none); in linf the step follows the gradient's sign,
in units of the ball, since a Euclidean step hardly moves the features of small slope; the loss is the log-odds, which
depends on all classes at once and measured better than the margin to the strongest one; except in l0, a last step goes
onto the nearest linearised boundary.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check, check_counts, check_positive
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, frozen
from core.attacks.engine.geometry import (
    DUAL,
    PROJECT,
    norm_of,
    per_image,
)
from core.attacks.engine.losses import LOSSES, Goal, Loss
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import Smallest, cosine, steps_within, unit
from core.attacks.minimal.nearest import CANDIDATES, nearest_within, onto_nearest
from core.checks import check_choice
from core.progress import Progress

GROWTH = 1.1
"""The ball's smallest growth per step while nothing has fooled."""


@attack
def fmn(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    norm: Literal["linf", "l2", "l1", "l0"] = "l2",
    steps: int = 100,
    step_size: float = 1.0,
    gamma: float = 0.05,
    loss: Loss = "ce",
    candidates: int = CANDIDATES,
    budget: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Find a small perturbation: a gradient step, then the nearest point of a ball that follows the boundary.

    Until an image is fooled for the first time its ball reaches to where a linear model would have the boundary; then
    the ball shrinks by 1 - gamma where it fools and grows by 1 + gamma where it does not (in l0: by one feature at
    least).

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        norm: what is to be small.
        steps: gradient steps, at least 1.
        step_size: the first step's l2 length (linf: as a share of the ball); falls by a cosine to a hundredth.
        gamma: the ball's first relative change per step, in (0, 1); falls by a cosine to a fiftieth.
        loss: `ce` (the cross-entropy's direction, see `losses.soft_margin`), `margin`, the paper's, or `dlr`.
        candidates: boundaries that the last step onto the nearest one considers (see `nearest`); 0: no such step.
        budget: the most forward and backward passes per image, with those that verify the result; None: no limit.
        y_target: (N,) int64; given, the attack goes towards these classes.
        batch: images attacked at once.
        on_progress: called each step with images done, all images, and `success`, the share fooled so far.

    Returns:
        The smallest iterate that fools. Images that are misclassified already, and those that withstand, come back
        unchanged.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(steps=steps, batch=batch)
    check_positive(step_size=step_size)
    check_choice("norm", norm, PROJECT)
    check_choice("loss", loss, LOSSES)
    if not 0 < gamma < 1:
        raise ValueError(f"gamma: expected a number in (0, 1), got {gamma}")
    check(model, x, y, y_target=y_target)
    last = 0 if norm == "l0" else nearest_within(budget, candidates)
    steps = steps_within(budget, steps, other=3 + last)
    lengths, gammas = cosine(step_size, step_size / 100, steps), cosine(gamma, gamma / 50, steps)
    with frozen(model):
        best = Smallest.start(model, x, Goal.of(y, y_target), norm, batch, on_progress)
        for rows in best.chunks():
            image = x[rows]
            delta, eps = torch.zeros_like(image), torch.zeros_like(image[:, 0, 0, 0])
            max_eps = norm_of(torch.maximum(image, 1 - image), norm)  # to the box's farthest corner
            for k in range(steps):
                fooled, gradient, value = best.step(rows, (image + delta).clamp(0, 1), loss)
                eps = _follow(norm, eps, gammas[k], fooled, best.size[rows], delta, gradient, value)
                eps = torch.minimum(eps, max_eps)
                if norm == "linf":
                    step = per_image(lengths[k] * eps, delta) * gradient.sign()
                else:
                    step = lengths[k] * unit(gradient)
                delta = PROJECT[norm](delta - step, image, eps)
                best.report(rows, k / steps)
            best.look(rows, (image + delta).clamp(0, 1))
            onto_nearest(best, rows, last)
        return best.result()


def _follow(
    norm: str,
    eps: Tensor,
    gamma: float,
    fooled: Tensor,
    smallest: Tensor,
    delta: Tensor,
    gradient: Tensor,
    value: Tensor,
) -> Tensor:
    """The next ε of each image."""
    if norm == "l0":
        less = torch.minimum(torch.minimum(eps - 1, (eps * (1 - gamma)).floor()), smallest - 1)
        more = torch.maximum(eps + 1, (eps * (1 + gamma)).floor())
        return torch.where(fooled, less, more).clamp(min=1)
    slope = norm_of(gradient, DUAL[norm]).clamp(min=torch.finfo(gradient.dtype).tiny)
    # at least GROWTH, since features at the end of their range leave the linear estimate too short
    linear = torch.maximum(norm_of(delta, norm) + (value.abs() / slope).nan_to_num(torch.inf), eps * GROWTH)
    grown = torch.where(smallest < torch.inf, eps * (1 + gamma), linear)
    return torch.where(fooled, torch.minimum(eps, smallest) * (1 - gamma), grown)
