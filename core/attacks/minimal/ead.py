"""EAD, the elastic net: few and small changes, in l1.

Source: Chen, Sharma, Zhang, Yi, Hsieh 2018, arXiv 1709.04114, algorithm 1. Departures: the threshold of the shrinkage
is the step times beta, which the objective requires (the paper's is beta, whatever the step), so that beta does not
change its meaning with the step; the loss counts only while the image is not fooled, and its gradient is scaled to a
largest entry of 1 at the image, so that c has the same meaning for every image and model; the loss is the log-odds; c
starts where a change begins to pay; the attack ends with bisection and a step onto the nearest linearised boundary.
There is no change of variable, so no pixel is frozen at 0 or 1.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check, check_counts, check_positive
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, frozen
from core.attacks.engine.geometry import norm_of, per_image, project_box
from core.attacks.engine.losses import LOSSES, Goal, Loss
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import Smallest, cosine, final_within, searches_within
from core.attacks.minimal.nearest import CANDIDATES, nearest_within, onto_nearest
from core.checks import check_choice
from core.progress import Progress

RULES = ("en", "l1")
GROWTH = 4.0
"""Factor on c while no c has fooled the image yet."""


@attack
def ead(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    beta: float = 10.0,
    rule: Literal["en", "l1"] = "l1",
    searches: int = 5,
    steps: int = 100,
    lr: float = 0.25,
    accelerate: bool = True,
    loss: Loss = "ce",
    candidates: int = CANDIDATES,
    budget: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Find a small l1 perturbation: descend on c loss + ||delta||_2^2 + beta ||delta||_1, with one c per image.

    Each step follows the gradient of the smooth part, then moves every change towards 0 by the step times beta; smaller
    changes vanish.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        beta: weight of the l1 norm against the squared l2 norm.
        rule: which iterate that fools is kept: that of the smallest l1 norm (`l1`) or elastic net (`en`).
        searches: values of c to try per image, by bisection, at least 1.
        steps: steps for each c, at least 1.
        lr: how far the first step shrinks a change, as a share of the distance that a linear model would have (but at
            most of 1); falls by a cosine to a hundredth.
        accelerate: take gradients ahead, along the last move (FISTA); otherwise plain ISTA.
        loss: `ce` (the cross-entropy's direction, see `losses.soft_margin`) or `margin`, the paper's.
        candidates: boundaries that the last step onto the nearest one considers (see `nearest`); 0: no such step.
        budget: the most forward and backward passes per image, with those that verify the result; None: no limit.
        y_target: (N,) int64; given, the attack goes towards these classes.
        batch: images attacked at once.
        on_progress: called each step with images done, all images, and `success`, the share fooled so far.

    Returns:
        The smallest iterate that fools, by the rule. Images that are misclassified already, and those that withstand,
        come back unchanged.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(searches=searches, steps=steps, batch=batch)
    check_positive(beta=beta, lr=lr)
    check_choice("rule", rule, RULES)
    check_choice("loss", loss, LOSSES)
    check(model, x, y, y_target=y_target)
    final, onto = final_within(budget), nearest_within(budget, candidates)
    searches, steps = searches_within(None if budget is None else budget - final - onto, searches, steps)
    rates = cosine(lr / (beta + 2), lr / (beta + 2) / 100, steps)
    tiny = torch.finfo(x.dtype).tiny
    with frozen(model):
        best = Smallest.start(model, x, Goal.of(y, y_target), "l1", batch, on_progress)
        if rule == "en":
            best.measure = lambda delta: beta * norm_of(delta, "l1") + norm_of(delta, "l2").square()
        for rows in best.chunks():
            image = x[rows]
            _, slope, value = best.step(rows, image, loss)
            steepest = norm_of(slope, "linf")
            scale = torch.where(steepest > 0, 1 / steepest.clamp(min=tiny), 0).nan_to_num(0.0, 0.0, 0.0)
            near = (value * scale).nan_to_num(1.0).clamp(1e-3, 1)
            trade = torch.full_like(scale, 2 * (beta + 2))  # below beta no change pays; a whole one at beta + 2
            low, high = torch.zeros_like(trade), torch.full_like(trade, torch.inf)
            for search in range(searches):
                delta = ahead = torch.zeros_like(image)
                hit = torch.zeros_like(rows, dtype=torch.bool)
                for k in range(steps):
                    fooled, slope, _ = best.step(rows, (image + ahead).clamp(0, 1), loss)
                    hit |= fooled
                    weight = torch.where(fooled, 0, trade * scale)
                    rate = per_image(rates[k] * near, slope)
                    moved = ahead - rate * (2 * ahead + per_image(weight, slope) * slope)
                    shrunk = moved.sign() * (moved.abs() - rate * beta).clamp(min=0)
                    last, delta = delta, project_box(shrunk, image)
                    ahead = project_box(delta + k / (k + 3) * (delta - last), image) if accelerate else delta
                    best.report(rows, (search * steps + k) / (searches * steps))
                hit |= best.look(rows, (image + delta).clamp(0, 1))
                low, high = torch.where(hit, low, trade), torch.where(hit, trade, high)
                trade = torch.where(high < torch.inf, (low + high) / 2, trade * GROWTH)
            best.bisect(rows, final)
            onto_nearest(best, rows, onto)
        return best.result()
