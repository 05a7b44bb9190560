"""Decoupled direction and norm: the smallest l2 perturbation by walking along the boundary.

Source: Rony, Hafemann, Oliveira, Ben Ayed, Sabourin, Granger 2019, arXiv 1811.09600, algorithm 1. Departures: the first
norm is the first-order distance to the boundary and not 1; its factor decays from 1 ± gamma to 1 ± gamma/50, so that
the walk ends close to the boundary; the gradient is the cross-entropy's direction without its underflow;
nothing is rounded to 8 bits; a last step goes onto the nearest linearised boundary.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check, check_counts
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, frozen
from core.attacks.engine.geometry import norm_of, per_image, project_box
from core.attacks.engine.losses import Goal
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import Smallest, cosine, linear_distance, steps_within, unit
from core.attacks.minimal.nearest import CANDIDATES, nearest_within, onto_nearest
from core.progress import Progress


@attack
def ddn(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    steps: int = 100,
    gamma: float = 0.05,
    candidates: int = CANDIDATES,
    budget: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Find a small l2 perturbation: each step turns the direction; the norm shrinks where it fools, else grows.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        steps: gradient steps, at least 1.
        gamma: the norm's first relative change per step, in (0, 1).
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
    if not 0 < gamma < 1:
        raise ValueError(f"gamma: expected a number in (0, 1), got {gamma}")
    check(model, x, y, y_target=y_target)
    last = nearest_within(budget, candidates)
    steps = steps_within(budget, steps, other=3 + last)
    lengths, gammas = cosine(1.0, 0.01, steps), cosine(gamma, gamma / 50, steps)
    tiny = torch.finfo(x.dtype).tiny
    with frozen(model):
        best = Smallest.start(model, x, Goal.of(y, y_target), "l2", batch, on_progress)
        for rows in best.chunks():
            image = x[rows]
            delta, eps = torch.zeros_like(image), torch.ones_like(image[:, 0, 0, 0])
            for k in range(steps):
                fooled, gradient, value = best.step(rows, (image + delta).clamp(0, 1), "ce")
                if k == 0:
                    eps = linear_distance(value, gradient)
                eps = eps * torch.where(fooled, 1 - gammas[k], 1 + gammas[k])
                delta = delta - lengths[k] * unit(gradient)
                size = norm_of(delta, "l2")
                onto = torch.where(size > 0, eps / size.clamp(min=tiny), 0)
                delta = project_box(delta * per_image(onto, delta), image)
                best.report(rows, k / steps)
            best.look(rows, (image + delta).clamp(0, 1))
            onto_nearest(best, rows, last)
        return best.result()
