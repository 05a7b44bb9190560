"""Fewer features of an image that fools: push them to the ends, undo the changes that are not needed.

Every verdict is a forward pass, so whatever is returned still fools (MATHEMATICS section 5).
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.attacks.engine.geometry import per_image
from core.attacks.engine.smallest import Smallest


def prune(best: Smallest, rows: Tensor, calls: int) -> None:
    """Reduce the number of changed features of the images that were fooled; never makes one worse.

    First the k features for which the Jacobian promises most, of all and not only of the changed ones, are tried at
    their ends, k falling by bisection: exact for linear models. Then every changed feature goes to that end, 0 or 1,
    which the gradient of the margin prefers, if that lowers the margin. Then the features are ranked by what the
    Jacobian says they add, and the longest tail that can be put back at once is found by bisection. Then single
    features, the least important first, are put back one at a time, each kept out if the image fools without it.

    Args:
        best: what was found, in l0; changed in place.
        rows: the images.
        calls: the most model evaluations (forward and backward passes) per image, at least 4 to do anything.
    """
    if calls < 4:
        return
    spent = _fewer(best, rows, calls // 4)
    rows = rows[(best.size[rows] > 0) & (best.size[rows] < torch.inf)]
    if not len(rows):
        return
    image, point = best.x[rows], best.x_adv[rows].clone()
    changed = (point != image).flatten(1)
    _, slope, before = best.step(rows, point, "margin")
    pushed = torch.where(changed.view_as(point), (slope < 0).to(point.dtype), point)
    after = best.margin(rows, pushed)
    point = torch.where(per_image(after < before, point), pushed, point)
    # the rank: how much the margin would rise, to first order, if the feature were put back
    gain = (slope * (image - point)).flatten(1)
    order = torch.where(changed, gain, torch.inf).argsort(dim=1, stable=True)
    count = changed.sum(1)

    spent += 3
    low, high = torch.zeros_like(count), count  # the first `low` of the order can be put back, `high` cannot
    while spent < calls and bool((high - low > 1).any()):
        middle = (low + high) // 2
        live = (high - low > 1).nonzero()[:, 0]
        trial = put_back(point[live], image[live], order[live], middle[live])
        fooled = best.look(rows[live], trial)
        low[live] = torch.where(fooled, middle[live], low[live])
        high[live] = torch.where(fooled, high[live], middle[live])
        spent += 1
    point = put_back(point, image, order, low)

    place = low.clone()
    while spent < calls and bool((place < count).any()):
        live = (place < count).nonzero()[:, 0]
        feature = order[live].gather(1, place[live, None])
        trial = point[live].flatten(1).scatter(1, feature, image[live].flatten(1).gather(1, feature))
        trial = trial.view_as(point[live])
        fooled = best.look(rows[live], trial)
        point[live[fooled]] = trial[fooled]
        place[live] += 1
        spent += 1


def _fewer(best: Smallest, rows: Tensor, calls: int) -> int:
    """Try the k most promising features of all, at their ends; returns the most model evaluations per image."""
    rows = rows[(best.size[rows] > 1) & (best.size[rows] < torch.inf)]
    if calls < 2 or not len(rows):
        return 0
    image = best.x[rows]
    _, slope, _ = best.step(rows, best.x_adv[rows], "margin")
    end = torch.where(slope == 0, image, (slope < 0).to(image.dtype))
    order = (slope * (image - end)).flatten(1).argsort(dim=1, stable=True)  # the most promising come last
    low, high = torch.zeros_like(rows), best.size[rows].long()
    spent = 2
    while spent < calls and bool((high - low > 1).any()):
        live = (high - low > 1).nonzero()[:, 0]
        middle = (low[live] + high[live]) // 2
        fooled = best.look(rows[live], put_back(end[live], image[live], order[live], order.shape[1] - middle))
        low[live], high[live] = torch.where(fooled, low[live], middle), torch.where(fooled, middle, high[live])
        spent += 1
    return spent


def put_back(point: Tensor, image: Tensor, order: Tensor, count: Tensor) -> Tensor:
    """The first `count` features of the order as they are in the image, the others as in `point`."""
    rank = torch.arange(order.shape[1], device=order.device).expand_as(order)
    back = torch.zeros_like(order, dtype=torch.bool).scatter(1, order, rank < count[:, None])
    return torch.where(back.view_as(point), image, point)
