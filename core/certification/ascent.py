"""A bound by linear functions and its gradient, in two passes without a record of what was computed.

A bound is the value of a linear function at its lowest image. Its derivative by a coefficient is the value of what the
coefficient belongs to at that image, when each ReLU gives what the line that replaced it does: so a pass forwards, with
the lines that a pass backwards chose, has the derivatives by all slopes and multipliers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.certification.ball import Ball
from core.certification.bounds import Known
from core.certification.crown import affine_step, lines_of, noisy
from core.certification.curves import above, below
from core.certification.nodes import CURVED, Graph

MOMENTUM, SPREAD, FLOOR = 0.9, 0.999, 1e-8
"""Adam's decay of the mean gradient and of its square, and what is added to the root (Kingma and Ba 2015,
arXiv 1412.6980)."""


class Descent:
    """Functions of a node as functions of the image, for one set of bounds and any slopes, multipliers and weights."""

    def __init__(
        self,
        graph: Graph,
        ball: Ball,
        bounds: Known,
        start: dict[int, Tensor],
        *,
        signs: dict[int, Tensor] | None = None,
        noise: Sequence[Tensor] | None = None,
        ceiling: Tensor | None = None,
        level: Tensor | None = None,
    ) -> None:
        """Arguments as in `alpha.optimized`; `start` has the functions' coefficients (N, M, *shape) by node."""
        self.graph, self.ball, self.start, self.noise = graph, ball, start, noise
        self.ceiling, self.level = ceiling, level
        self.lines = lines_of(graph, bounds)
        self.signs = {place: value[:, None] for place, value in (signs or {}).items()}
        self.bent = {
            place: (*above(*ends), *below(*ends))
            for place, node in enumerate(graph.nodes)
            if node.kind == "tanh" and node.parents[0] in bounds
            for ends in [[end[:, None] for end in bounds[node.parents[0]]]]
        }
        self.count = next(iter(start.values())).shape[:2]
        self.at_relu: dict[int, Tensor] = {}
        self.point: Tensor | None = None
        self.end: Tensor | None = None
        self._positive: dict[int, Tensor] = {}
        self._seen: list[int] = []
        self._slopes: dict[int, Tensor] = {}

    def value(self, slopes: dict[int, Tensor], multipliers: dict[int, Tensor], weight: Tensor) -> Tensor:
        """The bounds (N, M), by a pass backwards; `at_relu` and `point` are of it until the next.

        Args:
            slopes: for each ReLU (N, M, *shape); where the sign is not open, the chord's.
            multipliers: for each ReLU with given signs (N, M, *shape).
            weight: (N, M, 1) of the ceiling.
        """
        graph, last = self.graph, len(self.graph.nodes) - 1
        pending = dict(self.start)
        if self.ceiling is not None:
            more = weight * self.ceiling
            pending[last] = pending[last] + more if last in pending else more
        self._slopes, self._positive, self._seen, self.at_relu = slopes, {}, [], {}
        constant: Tensor | float = 0.0
        if self.noise is not None:
            constant = -sum(noisy(self.noise[place], value) for place, value in pending.items())
        if self.level is not None:
            constant = constant - (weight * self.level)[..., 0]
        for place in range(max(pending), 0, -1):
            if place not in pending:
                continue
            self._seen.append(place)
            kind, parent = graph.nodes[place].kind, (graph.nodes[place].parents or (0,))[0]
            if kind not in CURVED:
                constant = constant + affine_step(graph, place, pending)
                continue
            value = pending.pop(place)
            down, up = value.clamp(max=0), value.clamp(min=0)
            self._positive[place] = up
            if kind == "relu":
                self.at_relu[place] = value
                upper, intercept, _ = self.lines[parent]
                constant = constant + _dot(down, intercept)
                value = torch.addcmul(down * upper, up, slopes[place])
                if place in multipliers:
                    value = value - multipliers[place] * self.signs[parent]
            else:
                steep, top, flat, bottom = self.bent[place]
                constant = constant + _dot(down, top) + _dot(up, bottom)
                value = torch.addcmul(down * steep, up, flat)
            if self.noise is not None:
                constant = constant - noisy(self.noise[parent], value)
                if kind == "tanh":
                    constant = constant - noisy(self.noise[place], down + up)
            pending[parent] = pending[parent] + value if parent in pending else value
        some = next(iter(self.start.values()))
        end = pending.get(0)
        if end is None:
            end = some.new_zeros(*self.count, *graph.nodes[0].shape)
        self.end = end
        lowest, self.point = self.ball.lowest_at(end)
        return lowest + constant

    def gradient(self, slopes: dict[int, Tensor], multipliers: dict[int, Tensor], weight: Tensor | None = None) -> None:
        """Write the derivatives of the last bounds into tensors shaped as its arguments; noise is left out.

        Args:
            slopes: where to write; those of ReLUs that the functions do not pass become 0.
            multipliers: where to write.
            weight: where to write.
        """
        assert self.point is not None
        values = {0: self.point}
        for place in reversed(self._seen):
            node = self.graph.nodes[place]
            given = values[node.parents[0]]
            if node.kind == "affine":
                assert node.affine is not None
                values[place] = node.affine(given.flatten(0, 1)).unflatten(0, self.count)
            elif node.kind == "add":
                values[place] = given + node.sign * values[node.parents[1]]
            elif node.kind == "relu":
                up, (upper, intercept, _) = self._positive[place], self.lines[node.parents[0]]
                torch.mul(up, given, out=slopes[place])
                if place in multipliers:
                    torch.mul(given, -self.signs[node.parents[0]], out=multipliers[place])
                high = torch.addcmul(intercept, given, upper)
                values[place] = torch.addcmul(high, up.sgn(), self._slopes[place] * given - high)
            else:
                steep, top, flat, bottom = self.bent[place]
                up = self._positive[place]
                values[place] = torch.where(up > 0, flat * given + bottom, steep * given + top)
        for place in slopes.keys() - self._positive.keys():
            slopes[place].zero_()
        for place in multipliers.keys() - self._positive.keys():
            multipliers[place].zero_()
        if weight is not None and self.ceiling is not None:
            weight.copy_((values[len(self.graph.nodes) - 1] * self.ceiling).sum(2, keepdim=True))
            if self.level is not None:
                weight.sub_(self.level)


class Ascent:
    """Adam on tensors that lie in one, upwards, between two ends."""

    def __init__(self, given: dict[int, Tensor], low: dict[int, Tensor], high: dict[int, Tensor], rate: float) -> None:
        """`given`, `low` and `high` have the same shapes."""
        self.shapes = {place: value.shape for place, value in given.items()}
        self.now, self.low, self.high = (_joined(values) for values in (given, low, high))
        self.rate, self.step = rate, 0
        self.slope = torch.zeros_like(self.now)
        self.mean, self.square = torch.zeros_like(self.now), torch.zeros_like(self.now)
        self.best = self.now.clone()

    def parts(self, values: Tensor) -> dict[int, Tensor]:
        """Views of one of the joined tensors, in the shapes that were given."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        cut = values.split(sizes)
        return {place: part.view(shape) for (place, shape), part in zip(self.shapes.items(), cut, strict=True)}

    def move(self) -> None:
        """One step along `slope`."""
        self.step += 1
        self.mean.lerp_(self.slope, 1 - MOMENTUM)
        self.square.mul_(SPREAD).addcmul_(self.slope, self.slope, value=1 - SPREAD)
        root = (self.square / (1 - SPREAD**self.step)).sqrt_().add_(FLOOR)
        self.now.addcdiv_(self.mean, root, value=self.rate / (1 - MOMENTUM**self.step))
        torch.clamp(self.now, self.low, self.high, out=self.now)

    def keep(self, won: Tensor) -> None:
        """Remember what stands now for the rows (N, M) that won."""
        rows = won.flatten().nonzero()[:, 0]
        if len(rows) == won.numel():
            self.best.copy_(self.now)
        elif len(rows):
            for old, new in zip(self.parts(self.best).values(), self.parts(self.now).values(), strict=True):
                old.flatten(0, 1).index_copy_(0, rows, new.flatten(0, 1)[rows])


def _joined(values: dict[int, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in values.values()]) if values else torch.zeros(0)


def _dot(value: Tensor, by: Tensor) -> Tensor:
    """(N, M, *shape) times (N or 1, 1, *shape), summed over the shape."""
    if len(by) == 1:
        return value.flatten(2) @ by.flatten()
    return (value.flatten(2) @ by.flatten(2).transpose(1, 2))[..., 0]
