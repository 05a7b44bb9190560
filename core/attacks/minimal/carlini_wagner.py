"""Carlini and Wagner's l2 attack, without its frozen pixels.

Source: Carlini and Wagner 2017, arXiv 1608.04644, section VI. Departures: the box is kept by projection and not by
x = tanh(w), which has no slope at exactly 0 and 1, where most pixels of MNIST are; the loss is divided by the length of
the margin's gradient at the image, so that it is about a distance and c does not depend on the logits' scale; the
search for c starts at twice what a linear model needs; the loss is the log-odds, which measured better than the
margin, and counts only while the image is not fooled; a last step goes onto the nearest linearised boundary.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.adam import adam_move
from core.attacks.engine.checks import check, check_counts, check_positive
from core.attacks.engine.door import attack
from core.attacks.engine.engine import ATTACK_BATCH, frozen
from core.attacks.engine.geometry import norm_of, per_image, project_box
from core.attacks.engine.losses import LOSSES, Goal, Loss
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import Smallest, cosine, searches_within
from core.attacks.minimal.nearest import CANDIDATES, nearest_within, onto_nearest
from core.checks import check_choice
from core.progress import Progress

GROWTH = 4.0
"""Factor on c while no c has fooled the image yet."""


@attack
def carlini_wagner(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    searches: int = 5,
    steps: int = 100,
    lr: float = 0.1,
    loss: Loss = "ce",
    candidates: int = CANDIDATES,
    budget: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Find a small l2 perturbation: descend on ||delta||^2 + c loss, with c found per image by bisection.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        searches: values of c to try per image, at least 1.
        steps: Adam steps for each c, at least 1.
        lr: Adam's first learning rate, as a share of the distance that a linear model would have (but at most of 1);
            falls by a cosine to a hundredth.
        loss: `ce` (the cross-entropy's direction, see `losses.soft_margin`) or `margin`, the paper's.
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
    check_counts(searches=searches, steps=steps, batch=batch)
    check_positive(lr=lr)
    check_choice("loss", loss, LOSSES)
    check(model, x, y, y_target=y_target)
    last = nearest_within(budget, candidates)
    searches, steps = searches_within(None if budget is None else budget - last, searches, steps)
    rates = cosine(lr, lr / 100, steps)
    tiny = torch.finfo(x.dtype).tiny
    with frozen(model):
        best = Smallest.start(model, x, Goal.of(y, y_target), "l2", batch, on_progress)
        for rows in best.chunks():
            image = x[rows]
            _, slope, value = best.step(rows, image, "margin")
            length = norm_of(slope, "l2")
            scale = torch.where(length > 0, 1 / length.clamp(min=tiny), 0).nan_to_num(0.0, 0.0, 0.0)
            # on a linear model c fools exactly when it is above twice the distance
            trade = (4 * value * scale).nan_to_num(1.0).clamp(1e-3, 1e6)
            # Adam's steps have the size of its rate whatever the gradient: small where the boundary is near
            near = per_image((value * scale).nan_to_num(1.0).clamp(1e-3, 1), image)
            low, high = torch.zeros_like(trade), torch.full_like(trade, torch.inf)
            for search in range(searches):
                delta, mean, square = (torch.zeros_like(image) for _ in range(3))
                hit = torch.zeros_like(rows, dtype=torch.bool)
                for k in range(steps):
                    fooled, slope, _ = best.step(rows, (image + delta).clamp(0, 1), loss)
                    hit |= fooled
                    weight = torch.where(fooled, 0, trade * scale)
                    descent = 2 * delta + per_image(weight, slope) * slope
                    move, mean, square = adam_move(mean, square, descent, k, rates[k] * near)
                    delta = project_box(delta - move, image)
                    best.report(rows, (search * steps + k) / (searches * steps))
                hit |= best.look(rows, (image + delta).clamp(0, 1))
                low, high = torch.where(hit, low, trade), torch.where(hit, trade, high)
                trade = torch.where(high < torch.inf, (low + high) / 2, trade * GROWTH)
            onto_nearest(best, rows, last)
        return best.result()
