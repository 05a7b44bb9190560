"""Sigma-zero: few features by descent on a smooth count of them; then exact pruning.

Source: Cinà, Villani, Pintor, Schönherr, Biggio, Pelillo 2024, arXiv 2402.01879, algorithm 1. Departures: the smooth
count's gradient is in closed form, so that one backward pass serves; the loss is the log-odds, which measured better
than the margin; pruning and swaps follow at the end, by forward passes.
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
from core.attacks.engine.smallest import Smallest, cosine, steps_within
from core.attacks.sparse.pruning import prune
from core.attacks.sparse.swaps import swap
from core.checks import check_choice
from core.progress import Progress


@attack
def sigma_zero(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    steps: int = 200,
    lr: float = 1.0,
    sigma: float = 1e-3,
    threshold: float = 0.3,
    prune_calls: int = 50,
    loss: Loss = "ce",
    budget: int | None = None,
    y_target: Int[Tensor, " n"] | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Find a perturbation of few features; a feature is one colour of one pixel.

    Each step descends on the loss (while the image is not fooled) plus the mean of d^2 / (d^2 + sigma), a smooth count
    of the changed features, with the gradient scaled to a largest entry of 1; then changes below a threshold are
    undone, and the threshold rises where the image is fooled and falls where it is not.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        steps: gradient steps, at least 1.
        lr: Adam's first learning rate; falls by a cosine to a tenth.
        sigma: how sharply the smooth count distinguishes 0 from other values; smaller is sharper.
        threshold: the first one, in (0, 1).
        prune_calls: the most model evaluations per image for pruning, and then for exchanging two changes for one (see
            `swaps`, which needs about 70); below 4 both are left out.
        loss: `ce` (the cross-entropy's direction, see `losses.soft_margin`) or `margin`, the paper's.
        budget: the most forward and backward passes per image, with those that verify the result; None: no limit.
        y_target: (N,) int64; given, the attack goes towards these classes.
        batch: images attacked at once.
        on_progress: called each step with images done, all images, and `success`, the share fooled so far.

    Returns:
        The image that fools with the fewest features. Images that are misclassified already, and those that withstand,
        come back unchanged. `trace`: `unpruned` (N,) int64, the count before pruning, -1 for failures.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(steps=steps, batch=batch)
    check_positive(lr=lr, sigma=sigma)
    if not 0 < threshold < 1:
        raise ValueError(f"threshold: expected a number in (0, 1), got {threshold}")
    check_choice("loss", loss, LOSSES)
    if prune_calls < 0:
        raise ValueError(f"prune_calls: expected 0 or more, got {prune_calls}")
    check(model, x, y, y_target=y_target)
    if budget is not None:  # pruning has at most a quarter
        prune_calls = min(prune_calls, max(0, budget - 3) // 4)
    steps = steps_within(budget, steps, other=3 + prune_calls)
    rates = cosine(lr, lr / 10, steps)
    with frozen(model):
        best = Smallest.start(model, x, Goal.of(y, y_target), "l0", batch, on_progress)
        unpruned = torch.where(best.size < torch.inf, 0, -1)
        for rows in best.chunks():
            image = x[rows]
            delta, mean, square = (torch.zeros_like(image) for _ in range(3))
            level = torch.full_like(image[:, 0, 0, 0], threshold)
            for k in range(steps):
                fooled, slope, _ = best.step(rows, (image + delta).clamp(0, 1), loss)
                slope = torch.where(per_image(fooled, slope), 0, slope)
                energy = delta.square()
                slope = slope + 2 * sigma * delta / (energy + sigma).square() / image[0].numel()
                largest = norm_of(slope, "linf").clamp(min=torch.finfo(x.dtype).tiny)
                slope = slope / per_image(largest, slope)
                step, mean, square = adam_move(mean, square, slope, k, rates[k])
                delta = project_box(delta - step, image)
                move = 0.01 * rates[k]
                level = (level + torch.where(fooled, move, -move)).clamp(0, 1)
                delta = torch.where(delta.abs() < per_image(level, delta), 0, delta)
                best.report(rows, k / steps)
            best.look(rows, (image + delta).clamp(0, 1))
            found = rows[best.size[rows] < torch.inf]
            unpruned[found] = best.size[found].long()
            before = best.forwards[found] + best.backwards[found]
            prune(best, found, prune_calls)
            swap(best, found, prune_calls + before - best.forwards[found] - best.backwards[found])
        return best.result({"unpruned": unpruned})
