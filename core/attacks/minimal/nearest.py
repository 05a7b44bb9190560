"""What the model linearised at one point says about the boundary: a last step for walks, and whether to walk at all.

A walk descends on a loss of all classes: it stays at the boundary that it came to first and, where two of them meet,
beside both. On a linear model the optimum is the nearest of K - 1 boundaries (MATHEMATICS section 2): there the last
step, onto the nearest boundary of the model linearised at what was found, finds it exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.attacks.engine.engine import leaf_of, logits_of_leaf
from core.attacks.engine.geometry import per_image
from core.attacks.engine.smallest import Smallest
from core.attacks.minimal.deepfool import boundaries, boxed_step, nearest_boundary

CANDIDATES = 4
"""Boundaries considered by default: those with the strongest other classes at what was found."""
UNITS = (8, 256, 8192)
"""By how many units of rounding the attempts cross the boundary, one attempt each."""
SHARE = 8
"""The step is left out where it would take more than one model evaluation (forward or backward pass) in this many."""
LOOK = 2
"""Model evaluations of `boundary_outside_box`."""


def nearest_within(budget: int | None, candidates: int = CANDIDATES) -> int:
    """The most model evaluations of the step for this many boundaries; 0 where there is no step or the budget is short.

    Raises:
        ValueError: a negative number of boundaries.
    """
    if candidates < 0:
        raise ValueError(f"candidates: expected 0 or more, got {candidates}")
    passes = 1 + candidates + len(UNITS) if candidates else 0
    return passes if budget is None or passes * SHARE <= budget else 0


def onto_nearest(best: Smallest, rows: Tensor, passes: int) -> None:
    """Try the smallest change that crosses the nearest linearised boundary inside the box; never makes one worse.

    Costs one forward pass, a backward pass for each boundary considered, then a forward pass for each of `UNITS`.
    Images that have nothing to shrink are left out.

    Args:
        best: what was found, in linf, l2 or l1; changed in place.
        rows: the images.
        passes: the most model evaluations per image, at least 5 to do anything; see `nearest_within`.
    """
    looked = min(passes - 1 - len(UNITS), 1 if best.goal.targeted else best.logits.shape[1] - 1)
    rows = rows[(best.size[rows] > 0) & (best.size[rows] < torch.inf)]
    if looked < 1 or not len(rows):
        return
    image, point, goal = best.x[rows], best.x_adv[rows].clone(), best.goal.take(rows)
    leaf = leaf_of(point)
    logits = logits_of_leaf(best.model, leaf)
    gaps = boundaries(logits, goal, looked)
    slope, need = nearest_boundary(gaps, leaf, image, best.norm)
    reached = boxed_step(slope, need, image, best.norm)[1].isfinite()
    slope, need = torch.where(per_image(reached, slope), slope, 0), torch.where(reached, need, 0)
    best.offer(rows, point, logits.detach())
    best.backwards[rows] += len(gaps)
    for units in UNITS:
        enough = need * (1 + units * torch.finfo(need.dtype).eps)
        best.look(rows, (image + boxed_step(slope, enough, image, best.norm)[0]).clamp(0, 1))


def boundary_outside_box(best: Smallest, rows: Tensor) -> Tensor:
    """Whether the linearised boundary at the image lies nowhere in the box, so that its gradient shows no way.

    This is where many features must change much before anything shows, as on networks trained in linf. Costs `LOOK`
    model evaluations per image. `fab` reports the same of the boundary that its first run starts towards.

    Args:
        best: the images, in linf, l2 or l1; its counts of model evaluations are changed.
        rows: which of them.

    Returns:
        (n,) bool, whether the linearised model cannot reach the strongest other class.
    """
    if not len(rows):
        return rows.bool()
    image = best.x[rows]
    leaf = leaf_of(image)
    gaps = boundaries(logits_of_leaf(best.model, leaf), best.goal.take(rows), 1)
    slope, need = nearest_boundary(gaps, leaf, image, best.norm)
    best.forwards[rows] += 1
    best.backwards[rows] += 1
    return ~boxed_step(slope, need, image, best.norm)[1].isfinite()
