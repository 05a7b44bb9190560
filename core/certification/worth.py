"""What it is worth to split a ReLU whose input may have both signs.

Scores by what a ReLU's relaxation takes off a margin's bound (Bunel et al. 2020, arXiv 1909.06588) are blind to the
bounds of later layers, which tighten after a split. Here those bounds count as far as the margin hangs on them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.certification.alpha import Choice
from core.certification.bounds import Known
from core.certification.nodes import Graph

TINY = 1e-9
"""No bound counts as nearer to 0."""
MOST = 2**26
"""Shares that are kept at most; the bounds beyond count as if they hung on nothing."""


class Worth:
    """How much margins hang on each value whose sign is open.

    What the relaxation of one ReLU takes off a bound, as a share of what the bound lacks and at most 1, is how much the
    bound hangs on that value. A margin hangs on values at once, and through the bounds of values that it hangs on: the
    shares along a path are multiplied, and the paths add up.
    """

    def __init__(self, graph: Graph, known: Known, found: Choice, lacks: Tensor) -> None:
        """Of margins that have been bounded.

        Args:
            graph: that they were bounded on.
            known: bounds of what every ReLU reads, (1, *shape).
            found: the choice that bounds M margins, (1, M).
            lacks: (M,) how far below 0 they are.
        """
        self.graph, self.found = graph, found
        self.where = {at: ((low < 0) & (high > 0)).flatten().nonzero()[:, 0] for at, (low, high) in known.items()}
        self.start, count = {}, 0
        for at, where in self.where.items():
            self.start[at], count = count, count + len(where)
        self.direct = found.value.new_zeros(count)
        self.direct = self._shares(known, found, lacks).sum(0)
        self.through: list[tuple[int, Tensor, Tensor]] = []

    def note(self, place: int, chosen: Tensor, known: Known, found: Choice, lacks: Tensor) -> None:
        """Take in how bounds of a node's open values were found.

        Args:
            place: the node; nodes are noted in order.
            chosen: (C,) the values, flat.
            known: as there.
            found: the choice that gives their lower bounds, then the upper ones, (1, 2C).
            lacks: (2C,) how far they are from 0.
        """
        if (len(chosen) + sum(len(done) for _, done, _ in self.through)) * len(self.direct) > MOST:
            return
        shares = self._shares({at: known[at] for at in known if at < place}, found, lacks)
        self.through.append((place, chosen, (shares[: len(chosen)] + shares[len(chosen) :]) / 2))

    def ranked(self) -> dict[tuple[int, int], float]:
        """What every value is worth that is worth anything, by node and flat place, the best first."""
        worth = self.direct.clone()
        for place, chosen, shares in reversed(self.through):
            at = self.start[place] + torch.searchsorted(self.where[place], chosen)
            worth += worth[at] @ shares
        names = [(place, at) for place, where in self.where.items() for at in where.tolist()]
        order = worth.argsort(descending=True)
        values = worth.tolist()
        return {names[at]: values[at] for at in order[worth[order] > 0].tolist()}

    def _shares(self, known: Known, found: Choice, lacks: Tensor) -> Tensor:
        """(M, all open values); 0 for those of nodes that `known` lacks."""
        loss = self.direct.new_zeros(len(lacks), len(self.direct))
        for relu, value in found.at_relu.items():
            at = self.graph.nodes[relu].parents[0]
            if at in known:
                own = value[0].flatten(1).abs() * room(*known[at]).flatten()
                loss[:, self.start[at] :][:, : len(self.where[at])] += own[:, self.where[at]].to(loss.dtype)
        return (loss / lacks[:, None].clamp(min=TINY).to(loss.dtype)).clamp(max=1)


def room(low: Tensor, high: Tensor) -> Tensor:
    """How far the chord of a ReLU is above it at 0, the most that it is; 0 where the sign is not open."""
    apart = (high - low).clamp(min=torch.finfo(low.dtype).tiny)
    return torch.where((low < 0) & (high > 0), -low * high / apart, torch.zeros_like(low))
