"""PDPGD: descent on the loss, the norm's proximal step, and a trade-off between them that follows success.

Source: Matyasko and Chau 2021, arXiv 2106.01538, the primal-dual proximal variant. Departures: the proximal step is
solved exactly in the metric of Adam's step, box included, where the authors iterate (in l2 Adam keeps one second moment
per image, so that the metric is a number); the gradient is scaled to a dual length of 1 at the image, so that the
trade-off has the same meaning for every image and model, and starts near its balance; the loss is the log-odds; except
in l0, the attack ends with bisection and a step onto the nearest linearised boundary.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.adam import BETA1, BETA2
from core.attacks.engine.checks import check, check_counts, check_positive
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, frozen
from core.attacks.engine.geometry import DUAL, norm_of, per_image, project_box
from core.attacks.engine.losses import LOSSES, Goal, Loss
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import Smallest, cosine, final_within, steps_within
from core.attacks.minimal.nearest import CANDIDATES, nearest_within, onto_nearest
from core.checks import check_choice
from core.progress import Progress

DUAL_KEPT = 0.9
"""Decay of the running mean of the trade-off."""
REACH = 3.0
"""Steps are shorter where the distance to a linear model's boundary, times this, is less than 1; in l0 they are this
many times as long."""
MAX_LEVEL = math.log(1e6)
"""The trade-off stays between a millionth and a million."""


@attack
def pdpgd(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    norm: Literal["linf", "l2", "l1", "l0"] = "l2",
    steps: int = 100,
    lr: float = 0.3,
    dual_lr: float = 0.1,
    dual_start: float = 0.1,
    loss: Loss = "ce",
    candidates: int = CANDIDATES,
    budget: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Find a small perturbation: a step of Adam on softplus(loss), then the proximal step of weight times the norm.

    The weight's logarithm falls by `dual_lr` where the image is not fooled and rises where it is.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        norm: what is to be small.
        steps: gradient steps, at least 1.
        lr: Adam's first learning rate (smaller near the boundary; three times as large in l0, where features go to
            their ends); falls by a cosine to a hundredth.
        dual_lr: first change of the weight's logarithm per step; falls by a cosine to a fiftieth.
        dual_start: the norm's first weight against a loss of slope 1.
        loss: `ce` (the cross-entropy's direction, see `losses.soft_margin`) or `margin`, the paper's.
        candidates: boundaries that the last step onto the nearest one considers (see `nearest`); 0: no such step.
        budget: the most forward and backward passes per image, with those that verify the result; None: no limit.
        y_target: (N,) int64; given, the attack goes towards these classes.
        batch: images attacked at once.
        on_progress: called each step with images done, all images, and `success`, the share fooled so far.

    Returns:
        The smallest iterate that fools, shrunk by bisection except in l0. Images that are misclassified already, and
        those that withstand, come back unchanged.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(steps=steps, batch=batch)
    check_positive(lr=lr, dual_lr=dual_lr, dual_start=dual_start)
    check_choice("norm", norm, DUAL)
    check_choice("loss", loss, LOSSES)
    check(model, x, y, y_target=y_target)
    final, last = (0, 0) if norm == "l0" else (final_within(budget), nearest_within(budget, candidates))
    steps = steps_within(budget, steps, other=3 + final + last)
    rates, dual_rates = cosine(lr, lr / 100, steps), cosine(dual_lr, dual_lr / 50, steps)
    tiny = torch.finfo(x.dtype).tiny
    with frozen(model):
        best = Smallest.start(model, x, Goal.of(y, y_target), norm, batch, on_progress)
        for rows in best.chunks():
            image = x[rows]
            delta, mean, square = (torch.zeros_like(image) for _ in range(3))
            scale, near = torch.zeros_like(image[:, 0, 0, 0]), torch.full_like(image[:, 0, 0, 0], REACH)
            level = torch.full_like(image[:, 0, 0, 0], dual_start).log()
            weight = level.sigmoid()
            for k in range(steps):
                fooled, slope, value = best.step(rows, (image + delta).clamp(0, 1), loss)
                if k == 0:
                    steepness = norm_of(slope, DUAL[norm])
                    scale = torch.where(steepness > 0, 1 / steepness.clamp(min=tiny), 0).nan_to_num(0.0, 0.0, 0.0)
                    if norm != "l0":
                        near = (REACH * value * scale).nan_to_num(1.0).clamp(1e-3, 1)
                slope = per_image(scale * value.sigmoid().nan_to_num(1.0), slope) * slope
                mean = BETA1 * mean + (1 - BETA1) * slope
                power = slope.square()
                power = per_image(power.flatten(1).mean(1), slope) if norm == "l2" else power
                square = BETA2 * square + (1 - BETA2) * power
                metric = (square / (1 - BETA2 ** (k + 1))).sqrt().clamp(min=1e-8) / per_image(rates[k] * near, slope)
                moved = project_box(delta - mean / (1 - BETA1 ** (k + 1)) / metric, image)
                delta = shrink(moved, metric, weight / (1 - weight).clamp(min=tiny), norm)
                level = (level + torch.where(fooled, dual_rates[k], -dual_rates[k])).clamp(-MAX_LEVEL, MAX_LEVEL)
                weight = DUAL_KEPT * weight + (1 - DUAL_KEPT) * level.sigmoid()
                best.report(rows, k / steps)
            best.look(rows, (image + delta).clamp(0, 1))
            best.bisect(rows, final)
            onto_nearest(best, rows, last)
        return best.result()


def shrink(
    delta: Float[Tensor, "n c h w"], metric: Float[Tensor, "n c h w"], weight: Float[Tensor, " n"], norm: str
) -> Float[Tensor, "n c h w"]:
    """The z that minimises sum_j metric_j / 2 (z_j - delta_j)^2 + weight ||z||: the proximal step of the norm.

    No |z_j| exceeds |delta_j|, so what was in the box stays there. In l2 the metric must be one number per image.
    """
    flat, heavy = delta.flatten(1), metric.flatten(1)
    size = flat.abs()
    if norm == "l1":
        size = (size - weight[:, None] / heavy).clamp(min=0)
    elif norm == "l0":
        size = torch.where(size.square() * heavy > 2 * weight[:, None], size, 0)
    elif norm == "l2":
        length = torch.linalg.vector_norm(size, dim=1)
        shorter = length - weight / heavy[:, 0]
        size = size * (shorter.clamp(min=0) / length.clamp(min=torch.finfo(size.dtype).tiny))[:, None]
    else:
        # all above a level go down to it: sum_j metric_j (|delta_j| - level)_+ = weight
        ordered, order = size.sort(dim=1, descending=True)
        heavy = heavy.gather(1, order)
        levels = ((heavy * ordered).cumsum(1) - weight[:, None]) / heavy.cumsum(1)
        level = levels.amax(1).clamp(min=0)  # with too few features at it, or too many, the level comes out too low
        size = torch.minimum(size, level[:, None])
    return (delta.sign().flatten(1) * size).view_as(delta)
