"""What the model linearised at one point says of the boundary: a walk's last step, and whether to walk at all.

A walk descends on a loss of all classes: it stays at the boundary that it came to first, and where two of them meet,
beside both. On a linear model the optimum is the nearest of K - 1 boundaries (MATHEMATICS section 2): there the last
step, onto the nearest boundary of the model linearised at what was found, finds it exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.attacks.engine.engine import input_gradient, leaf_of, logits_of_leaf
from core.attacks.engine.geometry import per_image
from core.attacks.engine.smallest import Smallest
from core.attacks.minimal.deepfool import boundaries, boxed_step

CANDIDATES = 4
"""Boundaries looked at, unless an attack is told otherwise: those of the strongest other classes at what was found."""
UNITS = (8, 256, 8192)
"""The boundary is to be crossed by so many units of rounding: an attempt each."""
SHARE = 8
"""The step is left out where it would take more than one in so many passes."""
LOOK = 2
"""Passes of `astray`."""


def nearest_within(budget: int | None, candidates: int = CANDIDATES) -> int:
    """Passes that the step takes at most, with so many boundaries; 0 where there is none or a budget is short.

    Raises:
        ValueError: a negative number of boundaries.
    """
    if candidates < 0:
        raise ValueError(f"candidates: expected 0 or more, got {candidates}")
    passes = 1 + candidates + len(UNITS) if candidates else 0
    return passes if budget is None or passes * SHARE <= budget else 0


def onto_nearest(best: Smallest, rows: Tensor, passes: int) -> None:
    """Try the smallest change that crosses the nearest linearised boundary inside the box; never makes one worse.

    One forward pass, a backward pass for each boundary looked at, then `UNITS` attempts of a forward pass. Images that
    have nothing to shrink are left out.

    Args:
        best: what was found, in linf, l2 or l1; changed in place.
        rows: the images.
        passes: the most to spend on each image, at least 5 to do anything; see `nearest_within`.
    """
    looked = min(passes - 1 - len(UNITS), 1 if best.goal.targeted else best.logits.shape[1] - 1)
    rows = rows[(best.size[rows] > 0) & (best.size[rows] < torch.inf)]
    if looked < 1 or not len(rows):
        return
    image, point, goal = best.x[rows], best.x_adv[rows].clone(), best.goal.take(rows)
    leaf = leaf_of(point)
    logits = logits_of_leaf(best.model, leaf)
    gaps = boundaries(logits, goal, looked)
    slope, need = torch.zeros_like(image), torch.zeros_like(best.size[rows])
    nearest = torch.full_like(need, torch.inf)
    for number, gap in enumerate(gaps):
        gradient = input_gradient(gap.sum(), leaf, retain_graph=number + 1 < len(gaps))
        at_image = gap.detach() + (gradient * (image - point)).flatten(1).sum(1)
        size = boxed_step(gradient, at_image, image, best.norm)[1]
        nearer = size < nearest
        slope = torch.where(per_image(nearer, slope), gradient, slope)
        need, nearest = torch.where(nearer, at_image, need), torch.where(nearer, size, nearest)
    best.offer(rows, point, logits.detach())
    best.backwards[rows] += len(gaps)
    for units in UNITS:
        enough = need * (1 + units * torch.finfo(need.dtype).eps)
        best.look(rows, (image + boxed_step(slope, enough, image, best.norm)[0]).clamp(0, 1))


def astray(best: Smallest, rows: Tensor) -> Tensor:
    """Where the gradient at the image says nothing of the way: its boundary is nowhere in the box; `LOOK` passes.

    So it is where features must change much at once before anything shows, as on networks trained in linf. MNIST,
    300 images: of an interval-trained network 85 %, of strided CNNs (PGD and TRADES .3) 75 %, of LeNets, undefended
    and PGD .3, none.

    Args:
        best: the images, in linf, l2 or l1; its counts of passes are changed.
        rows: which of them.

    Returns:
        (n,) bool, whether the linearised model cannot reach the strongest other class.
    """
    if not len(rows):
        return rows.bool()
    leaf = leaf_of(best.x[rows])
    gap = boundaries(logits_of_leaf(best.model, leaf), best.goal.take(rows), 1)[0]
    slope = input_gradient(gap.sum(), leaf)
    best.forwards[rows] += 1
    best.backwards[rows] += 1
    return ~boxed_step(slope, gap.detach(), best.x[rows], best.norm)[1].isfinite()
