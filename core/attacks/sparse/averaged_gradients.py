"""Few features by averaged gradients: the k features of the largest mean gains go to their ends; k follows success.

Where a model is curved, the gradient at one image says little about what a whole change of a feature does; the mean
over images that hold many such changes says much more. After a few steps, features that are in the set keep their
place unless others promise clearly more, so that the set settles. Each step costs one forward and one backward pass,
whatever k is. How it compares with sigma-zero and FMN: docs/MEASUREMENTS.md.
Related: dual averaging (Nesterov 2009) and iterative hard thresholding (Blumensath and Davies 2009).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine.checks import check, check_counts
from core.attacks.engine.engine import ATTACK_BATCH, frozen
from core.attacks.engine.losses import Goal, Loss
from core.attacks.engine.result import AttackResult
from core.attacks.engine.smallest import Smallest
from core.progress import Progress

DECAY = 0.5
"""The weight of the earlier gradients in the mean, per step."""
CHANGE = 0.3
"""The share by which k falls or grows in a step, at least by one."""
FREE = 6
"""Steps in which the whole set is chosen anew."""
LOYALTY = 1.0
"""What a feature of the set is given on top of its gain after that, as a multiple of the last chosen one's gain."""


def averaged_gradients(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    steps: int = 20,
    max_features: int = 80,
    loss: Loss = "ce",
    y_target: Int[Tensor, " n"] | None = None,
    batch: int = ATTACK_BATCH,
    on_progress: Progress | None = None,
) -> AttackResult:
    """Find few features, each at an end of its range; `2 * steps + 4` model evaluations per image.

    Args:
        model: pixels to logits; left untouched.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 true classes.
        steps: sets of features that are tried, at least 1.
        max_features: features in the first set, at least 1.
        loss: whose gradients.
        y_target: (N,) int64; given, the attack goes towards these classes.
        batch: images attacked at once.
        on_progress: called each step with images done, all images, and `success`, the share fooled so far.

    Returns:
        The image that fools with the fewest features. Images that are misclassified already, and those that withstand,
        come back unchanged.

    Raises:
        ValueError: bad input, naming the argument.
    """
    check_counts(steps=steps, max_features=max_features, batch=batch)
    check(model, x, y, y_target=y_target)
    features = x[0].numel()
    with frozen(model):
        best = Smallest.start(model, x, Goal.of(y, y_target), "l0", batch, on_progress)
        for rows in best.chunks():
            image = x[rows].flatten(1)
            point = image
            _, slope, _ = best.step(rows, x[rows], loss)
            mean = slope.flatten(1).clone()
            count = torch.full_like(mean[:, 0], min(max_features, features))
            fewest = torch.full_like(count, features + 1)
            for k in range(steps):
                point = _largest_gains(mean, image, count, point if k >= FREE else None)
                fooled, slope, _ = best.step(rows, point.view_as(x[rows]), loss)
                fewest = torch.where(fooled, torch.minimum(fewest, (point != image).sum(1)), fewest)
                mean = DECAY * mean + slope.flatten(1)
                less = torch.minimum(fewest - 1, (count * (1 - CHANGE)).floor())
                more = torch.minimum(fewest - 1, torch.maximum(count + 1, (count * (1 + CHANGE)).floor()))
                count = torch.where(fooled, less, more).clamp(1, features)
                best.report(rows, k / steps)
        return best.result()


def _largest_gains(slope: Tensor, image: Tensor, count: Tensor, before: Tensor | None) -> Tensor:
    """The images (n, d) with their `count` (n,) features of the largest gains at their ends.

    Those that `before` has changed keep the ends that they have, and count for more.
    """
    largest = int(count.max())
    end = (slope < 0).to(image.dtype)
    gain = slope * (image - end)
    if before is not None:
        last = gain.topk(largest, dim=1).values.gather(1, count.long()[:, None] - 1).clamp(min=0)
        gain = torch.where(before != image, slope * (image - before) + LOYALTY * last, gain)
        end = torch.where(before != image, before, end)
    gain, order = gain.topk(largest, dim=1)
    kept = (torch.arange(largest, device=count.device) < count[:, None]) & (gain > 0)
    chosen = torch.zeros_like(image, dtype=torch.bool).scatter(1, order, kept)
    return torch.where(chosen, end, image)
