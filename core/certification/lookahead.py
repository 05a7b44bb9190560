"""Which value of a region to split: of those that are worth most, the one whose halves have the best bounds.

Source: filtered smart branching, De Palma et al. 2021, arXiv 2104.06718. A score filters the values, and the bounds of
both halves decide. The score here is `worth`, which sees what tightening makes of a split; the bounds have the slopes
that the whole region was bounded with, so one pass backwards has those of many halves, for all margins at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, takewhile

import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.certification.alpha import shifts_of
from core.certification.ball import Ball
from core.certification.bounds import Known, in_float32
from core.certification.proof import evaluated
from core.certification.reduced import bounds_of_part
from core.certification.region import Part, Region
from core.certification.worth import Worth

LIKELY, MOST = 0.1, 128
"""Values are looked at that are worth at least this share of the best, so many at most. Shares of .07 to .14 give
trees of the same size (mnistfc); without a share bounds alone decide, which see nothing of what tightening makes of a
split, and trees may be ten times as large."""
VALUES = 2**17
"""Coefficients of the widest node in one pass: more fall out of a processor's cache."""

Split = tuple[int, int]
"""A node that ReLUs read and the flat place of one of its values."""


def best_split(
    part: Part, ball: Ball, region: Region, worth: Worth, rows: Float[Tensor, "m k"], bounded: Int[Tensor, " m"]
) -> Split | None:
    """The value of the model's graph whose halves lack least: by how much their margins' bounds are below 0, in sum.

    Args:
        part: a region with the bounds that it had when `worth` was made.
        ball: that it is in.
        region: the same with the bounds that it has now.
        worth: of its values, and how its margins were bounded.
        rows: coefficients of the margins that are not proven.
        bounded: where `worth.found` has each of them.

    Returns:
        Node and flat place; None: no value that is worth anything is open.
    """
    open_now = ((value, at) for at, value in worth.ranked().items() if region.open_at(*part.named(*at)))
    best = next(open_now, None)
    if best is None:
        return None
    others = takewhile(lambda one: one[0] >= LIKELY * best[0], open_now)
    splits = [best[1], *(at for _, at in islice(others, MOST - 1))]
    if len(splits) == 1:
        return part.named(*splits[0])
    lacks = halves(part, ball, region, worth, rows, bounded, splits).neg().clamp(min=0).sum((1, 2))
    return part.named(*splits[int(lacks.argmin())])


@torch.no_grad()
def halves(
    part: Part,
    ball: Ball,
    region: Region,
    worth: Worth,
    rows: Float[Tensor, "m k"],
    bounded: Int[Tensor, " m"],
    splits: Sequence[Split],
) -> Float[Tensor, "s 2 m"]:
    """Lower bounds of functions of the logits in both halves of each split, that of negative values first; in float32.

    Arguments as in `best_split`; `splits` are of the part's graphs.
    """
    graph, found, ball = part.graphs.quick, worth.found, ball.to(torch.float32)
    known = in_float32(bounds_of_part(region.known, part.kept))
    slopes = {relu: value[:, bounded] for relu, value in found.slopes.items()}
    multipliers = {relu: value[:, bounded] for relu, value in found.multipliers.items()}
    shifts = shifts_of(graph, multipliers, part.region.signs)
    size = max(1, VALUES // (2 * len(rows) * max(torch.Size(node.shape).numel() for node in graph.nodes)))
    made = []
    for start in range(0, len(splits), size):
        some = splits[start : start + size]
        given = {len(graph.nodes) - 1: rows.float().expand(2 * len(some), -1, -1)}
        bound = evaluated(graph, ball, given, _parted(known, some), slopes, shifts)
        made.append(bound.unflatten(0, (-1, 2)))
    return torch.cat(made)


def _parted(known: Known, splits: Sequence[Split]) -> Known:
    """Bounds of both halves of each split, one after the other (2S, *shape)."""

    def copies(end: Tensor) -> Tensor:
        return end.repeat(2 * len(splits), *(1 for _ in end.shape[1:]))

    made = {read: (copies(low), copies(high)) for read, (low, high) in known.items()}
    for number, (read, at) in enumerate(splits):
        low, high = made[read]
        high[2 * number].view(-1)[at] = 0.0
        low[2 * number + 1].view(-1)[at] = 0.0
    return made
