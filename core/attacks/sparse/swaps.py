"""Fewer features of a fooling image by exchange: two changes for one other, one for nothing, one for a better one.

Pruning only undoes changes; here a new change may replace two others. By the exchange argument of MATHEMATICS section 1
this is exact for linear models: one-for-one exchanges end at the largest gains, and undoing changes leaves the shortest
prefix of those. Every verdict is a forward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.attacks.engine.engine import predict
from core.attacks.engine.losses import Goal
from core.attacks.engine.smallest import Smallest

ROUNDS = ((12, 8, 4), (24, 32, 8))
"""What is tried by forward passes in a round: single new changes, those for which the gradient promises most, then
two-for-one and one-for-one exchanges, those that promise most if the effects of single changes add up. First small
rounds, as long as they help, then large ones."""

NUMBERS = 2**25
"""The most values of changed images in memory at once."""
MIN_GAIN = 1e-5
"""The share by which a one-for-one exchange must lower the margin: less may be rounding."""


def swap(
    best: Smallest, rows: Tensor, calls: int | Tensor, low: Tensor | None = None, high: Tensor | None = None
) -> None:
    """Exchange changes of the images that were fooled for fewer ones; never makes one worse.

    A round queries the model without each of the changes and with each of a few new ones. The sums of these effects
    rank the exchanges, of which the most promising are tried. A change that is not needed is undone; otherwise two are
    exchanged for one; otherwise the one-for-one exchange after which the image is most clearly fooled is made, and the
    next round starts from there. The search ends where no exchange helps.

    Args:
        best: what was found, in l0; changed in place. A new change goes to the end of its feature's range.
        rows: the images.
        calls: the most model evaluations (forward and backward passes) per image, one number or (n,); a round takes
            about 30 or 70.
        low: (N, C, H, W) the lowest value of each feature; None: 0.
        high: (N, C, H, W) the highest; None: 1.
    """
    left = torch.as_tensor(calls, device=rows.device).expand(len(rows))
    able = (best.size[rows] > 1) & (best.size[rows] < torch.inf)
    rows, left = rows[able], left[able]
    point = best.x_adv[rows].clone()
    large = torch.zeros_like(rows)
    while len(rows):
        count = (point != best.x[rows]).flatten(1).sum(1)
        price = 2 + count + torch.tensor([sum(trials) for trials in ROUNDS], device=rows.device)[large]
        live = (price <= left) & (count > 1)
        rows, point, left, large = rows[live], point[live], (left - price)[live], large[live]
        turns = [(large == size).nonzero()[:, 0] for size in range(len(ROUNDS))]
        for turn, trials in zip(turns, ROUNDS, strict=True):
            if len(turn):
                some = rows[turn]
                bottom = torch.zeros_like(point[turn]) if low is None else low[some]
                top = torch.ones_like(point[turn]) if high is None else high[some]
                point[turn], better = _round(best, some, point[turn], bottom, top, trials)
                large[turn[~better]] += 1
        stay = large < len(ROUNDS)
        rows, point, left, large = rows[stay], point[stay], left[stay], large[stay]


def _round(
    best: Smallest, rows: Tensor, point: Tensor, low: Tensor, high: Tensor, trials: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """One round; returns the images as they are after it, and which of them became better."""
    added, two_for_one, one_for_one = trials
    image, now = best.x[rows].flatten(1), point.flatten(1)
    changed = now != image
    _, slope, margin = best.step(rows, point, "margin")
    slope = slope.flatten(1)
    end = torch.where(slope < 0, high.flatten(1), low.flatten(1))
    gain = torch.where(changed, 0, slope * (now - end))
    gain, new = gain.topk(min(added, gain.shape[1]), dim=1)
    old, there = _places(changed)

    remove = _Move(old, image.gather(1, old), there)
    add = _Move(new, end.gather(1, new), gain > 0)
    without, gone = _try(best, rows, now, [remove])
    with_new, _ = _try(best, rows, now, [add])
    loss, win = without - margin[:, None], with_new - margin[:, None]

    one_of, other_of, what, ok_two = _two_for_one(loss, win, two_for_one)
    one, ok_one = _promising((loss[:, :, None] + win[:, None]).flatten(1), one_for_one)
    here, other = one // new.shape[1], one % new.shape[1]

    exchange = [remove.take(one_of, ok_two), remove.take(other_of, ok_two), add.take(what, ok_two)]
    after_two, fewer = _try(best, rows, now, exchange)
    single = [remove.take(here, ok_one), add.take(other, ok_one)]
    after_one, still = _try(best, rows, now, single)

    # one for nothing, else two for one: the lowest margin of those that fool; else one for one, if it fools more
    choices = [([remove], without, gone), (exchange, after_two, fewer), (single, after_one, still)]
    result, better = now.clone(), torch.zeros_like(rows, dtype=torch.bool)
    for number, (moves, after, fooled) in enumerate(choices):
        if not after.shape[1]:
            continue
        value, which = torch.where(fooled, after, torch.inf).min(1)
        good = ~better & (value < (torch.inf if number < 2 else margin - MIN_GAIN * margin.abs()))
        for move in moves:
            chosen = move.take(which[:, None], good[:, None])
            result = torch.where(good[:, None], chosen.on(result[:, None])[:, 0], result)
        better |= good
    point = result.view_as(point)
    size = (result != image).sum(1).to(best.size.dtype)
    keep = better & (size < best.size[rows])
    best.x_adv[rows[keep]], best.size[rows[keep]] = point[keep], size[keep]
    return point, better


class _Move:
    """Ways to change one feature of each image: features, values and whether the way is there, each (n, t)."""

    def __init__(self, feature: Tensor, value: Tensor, there: Tensor) -> None:
        self.feature, self.value, self.there = feature, value, there

    def take(self, place: Tensor, there: Tensor) -> _Move:
        """The ways at these places (n, t)."""
        return _Move(self.feature.gather(1, place), self.value.gather(1, place), there & self.there.gather(1, place))

    def on(self, points: Tensor) -> Tensor:
        """The images (n, t or 1, d), each changed in its way: (n, t, d)."""
        points = points.expand(-1, self.feature.shape[1], -1).clone()
        return points.scatter_(2, self.feature[:, :, None], self.value[:, :, None])


def _try(best: Smallest, rows: Tensor, now: Tensor, moves: list[_Move]) -> tuple[Tensor, Tensor]:
    """Margins (n, t), inf where a move is not there, and whether they fool; a forward pass each, which is counted."""
    there = torch.stack([move.there for move in moves]).all(0)
    margin = torch.full(there.shape, torch.inf, dtype=now.dtype, device=now.device)
    fooled = torch.zeros_like(there)
    ways = there.nonzero()
    for image, way in (
        some.unbind(1) for some in ways.split(max(1, NUMBERS // (now.shape[1] * best.batch)) * best.batch)
    ):
        if not len(image):  # an empty tensor splits into one empty part
            break
        points = now[image]
        for move in moves:
            points.scatter_(1, move.feature[image, way][:, None], move.value[image, way][:, None])
        logits = predict(best.model, points.view(-1, *best.x.shape[1:]), best.batch)
        goal: Goal = best.goal.take(rows[image])
        margin[image, way] = goal.margin(logits).nan_to_num(torch.inf, torch.inf, -torch.inf)
        fooled[image, way] = goal.reached(logits)
        best.forwards.index_add_(0, rows[image], torch.ones_like(image))
    return margin, fooled


def _two_for_one(loss: Tensor, win: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The exchanges that promise most, from what k old changes lose (n, k) and m new ones win (n, m).

    Returns places (n, t): the two old changes, the new one; and whether the exchange is there. Beside one new change,
    the t lowest sums of two involve the t + 1 smallest losses only: of the others none is looked at.
    """
    small, few = loss.topk(min(count + 1, loss.shape[1]), dim=1, largest=False)
    first, second = torch.triu_indices(few.shape[1], few.shape[1], 1, device=loss.device)
    pair = (small[:, first] + small[:, second])[:, :, None] + win[:, None]
    two, there = _promising(pair.flatten(1), count)
    place = two // win.shape[1]
    return few.gather(1, first[place]), few.gather(1, second[place]), two % win.shape[1], there


def _promising(value: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Places (n, t) of the `count` lowest values, and whether each is finite."""
    lowest, place = value.nan_to_num(torch.inf, torch.inf, -torch.inf).topk(
        min(count, value.shape[1]), dim=1, largest=False
    )
    return place, lowest < torch.inf


def _places(changed: Tensor) -> tuple[Tensor, Tensor]:
    """The changed features (n, k) of each image, k the largest count, and which of them are there."""
    there, place = changed.to(torch.int8).topk(int(changed.sum(1).max()), dim=1)
    return place, there.bool()
