"""A bound by linear functions and its gradient, in two passes without a record of what was computed.

A bound is the value of a linear function at its lowest image. Its derivative by a coefficient is the value of what the
coefficient belongs to at that image, when each ReLU gives what the line that replaced it does: so a pass forwards, with
the lines that a pass backwards chose, has the derivatives by all slopes and multipliers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from core.certification.affine import Dense
from core.certification.ball import Ball
from core.certification.bounds import Known
from core.certification.crown import affine_step, lines_of, noisy, step_back
from core.certification.curves import above, below
from core.certification.nodes import CURVED, Graph

MOMENTUM, SPREAD, FLOOR = 0.9, 0.999, 1e-8
"""Adam's decay of the mean gradient and of its square, and what is added to the root (Kingma and Ba 2015,
arXiv 1412.6980)."""


class Descent:
    """Functions of a node as functions of the image, for one set of bounds and any slopes, multipliers and weights.

    Attributes, of the last pass backwards:
        at_relu: for each ReLU the coefficients (N, M, *shape) of its output.
        end: coefficients (N, M, *shape) of the image.
        point: where they are lowest in the ball.
    """

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
        self.end: Tensor | None = None
        self.point: Tensor | None = None
        self._seen: list[int] = []
        self._up: dict[int, Tensor] = {}
        self._on: dict[int, Tensor] = {}
        self._line: dict[int, Tensor] = {}

    def backwards(
        self,
        slopes: dict[int, Tensor],
        multipliers: dict[int, Tensor],
        weights: dict[int, Tensor],
        *,
        bounded: bool = True,
    ) -> Tensor | None:
        """The bounds (N, M), by a pass backwards; None where they are not wanted, and their constants left out.

        Args:
            slopes: for each ReLU (N, M, *shape); where the sign is not open, the chord's.
            multipliers: for each ReLU with given signs (N, M, *shape).
            weights: of the ceiling (N, M, 1), by the last node.
            bounded: whether bounds are wanted.
        """
        graph, last, noise = self.graph, len(self.graph.nodes) - 1, self.noise if bounded else None
        pending = dict(self.start)
        if self.ceiling is not None:
            more = weights[last] * self.ceiling
            pending[last] = pending[last] + more if last in pending else more
        self._seen, self._up, self._on, self._line, self.at_relu = [], {}, {}, {}, {}
        constant: Tensor | float = 0.0
        if noise is not None:
            constant = -sum(noisy(noise[place], value) for place, value in pending.items())
        if self.level is not None and bounded:
            constant = constant - (weights[last] * self.level)[..., 0]
        for place in range(max(pending), 0, -1):
            if place not in pending:
                continue
            self._seen.append(place)
            kind, parent = graph.nodes[place].kind, (graph.nodes[place].parents or (0,))[0]
            if kind not in CURVED:
                if bounded:
                    constant = constant + affine_step(graph, place, pending)
                else:
                    step_back(graph, place, pending)
                continue
            value = pending.pop(place)
            self._up[place] = up = value.relu()
            if kind == "relu":
                self.at_relu[place] = value
                upper, intercept, _ = self.lines[parent]
                # choices by truth values take much longer than products
                self._on[place] = on = up.sgn()
                self._line[place] = line = torch.lerp(upper, slopes[place], on)
                made = value * line
                if place in multipliers:
                    made = torch.addcmul(made, multipliers[place], self.signs[parent], value=-1)
                if bounded:
                    constant = constant + _dot(value - up, intercept)
            else:
                steep, top, flat, bottom = self.bent[place]
                made = torch.addcmul((value - up) * steep, up, flat)
                if bounded:
                    constant = constant + _dot(value - up, top) + _dot(up, bottom)
            if noise is not None:
                constant = constant - noisy(noise[parent], made)
                if kind == "tanh":
                    constant = constant - noisy(noise[place], value)
            pending[parent] = pending[parent] + made if parent in pending else made
        self.end = pending.get(0)
        if self.end is None:
            self.end = next(iter(self.start.values())).new_zeros(*self.count, *graph.nodes[0].shape)
        self.point, penalty = self.ball.lowest_at(self.end)
        return (self.end * self.point).flatten(2).sum(2) + penalty + constant if bounded else None

    def gradient(self, slopes: dict[int, Tensor], multipliers: dict[int, Tensor], weights: dict[int, Tensor]) -> None:
        """Write the derivatives of the last bounds into tensors shaped as its arguments; noise is left out.

        Args:
            slopes: where to write; those of ReLUs that the functions do not pass become 0.
            multipliers: where to write.
            weights: where to write.
        """
        assert self.point is not None
        values = {0: self.point}
        for place in reversed(self._seen):
            node = self.graph.nodes[place]
            given = values[node.parents[0]]
            if node.kind == "affine":
                assert node.affine is not None
                through = node.affine.many if isinstance(node.affine, Dense) else node.affine
                values[place] = through(given.flatten(0, 1)).unflatten(0, self.count)
            elif node.kind == "add":
                values[place] = given + node.sign * values[node.parents[1]]
            elif node.kind == "relu":
                up, intercept = self._up[place], self.lines[node.parents[0]][1]
                torch.mul(up, given, out=slopes[place])
                if place in multipliers:
                    torch.mul(given, self.signs[node.parents[0]], out=multipliers[place]).neg_()
                high = torch.addcmul(intercept, intercept, self._on[place], value=-1)
                values[place] = torch.addcmul(high, self._line[place], given)
            else:
                steep, top, flat, bottom = self.bent[place]
                up = self._up[place]
                values[place] = torch.where(up > 0, flat * given + bottom, steep * given + top)
        for place in slopes.keys() - self._up.keys():
            slopes[place].zero_()
        for place in multipliers.keys() - self._up.keys():
            multipliers[place].zero_()
        for place, weight in weights.items():
            assert self.ceiling is not None
            weight.copy_((values[place] * self.ceiling).sum(2, keepdim=True))
            if self.level is not None:
                weight.sub_(self.level)


class Ascent:
    """Adam on tensors that lie in one, upwards, between two ends; a learning rate for each group of them."""

    def __init__(
        self,
        given: Sequence[dict[int, Tensor]],
        low: Sequence[dict[int, Tensor]],
        high: Sequence[dict[int, Tensor]],
        rates: Sequence[float],
        count: tuple[int, int],
    ) -> None:
        """Groups whose parts broadcast to `count` (N, M) and shapes behind it, with a rate for each group."""
        self.shapes = [{place: (*count, *value.shape[2:]) for place, value in group.items()} for group in given]
        self.now, self.low, self.high = (self._joined(values) for values in (given, low, high))
        torch.clamp(self.now, self.low, self.high, out=self.now)
        self.rates, self.step = list(rates), 0
        self.slope = torch.zeros_like(self.now)
        self.mean, self.square = torch.zeros_like(self.now), torch.zeros_like(self.now)
        self.best, self._root = self.now.clone(), torch.empty_like(self.now)
        sizes = [sum(math.prod(shape) for shape in group.values()) for group in self.shapes]
        self._groups = list(zip(*(values.split(sizes) for values in (self.now, self.mean, self._root)), strict=True))

    def _joined(self, groups: Sequence[dict[int, Tensor]]) -> Tensor:
        given = [value for group in groups for value in group.values()]
        size = sum(math.prod(shape) for group in self.shapes for shape in group.values())
        made = given[0].new_empty(size) if given else torch.zeros(0)
        for part, value in zip((part for group in self.parts(made) for part in group.values()), given, strict=True):
            part.copy_(value)
        return made

    def parts(self, values: Tensor) -> list[dict[int, Tensor]]:
        """Views of one of the joined tensors, in the shapes that were given."""
        cut = iter(values.split([math.prod(shape) for group in self.shapes for shape in group.values()]))
        return [{place: next(cut).view(shape) for place, shape in group.items()} for group in self.shapes]

    def move(self) -> None:
        """One step along `slope`."""
        self.step += 1
        self.mean.lerp_(self.slope, 1 - MOMENTUM)
        self.square.mul_(SPREAD).addcmul_(self.slope, self.slope, value=1 - SPREAD)
        left = 1 - SPREAD**self.step
        # on some processors a root of 0 takes twenty times as long as another
        torch.add(self.square, FLOOR**2 * left, out=self._root).sqrt_()
        length = math.sqrt(left) / (1 - MOMENTUM**self.step)
        for rate, (now, mean, root) in zip(self.rates, self._groups, strict=True):
            now.addcdiv_(mean, root, value=rate * length)
        torch.clamp(self.now, self.low, self.high, out=self.now)

    def keep(self, won: Tensor) -> None:
        """Remember what stands now for the rows (N, M) that won."""
        if bool(won.all()):
            self.best.copy_(self.now)
        elif bool(won.any()):
            share = won.to(self.now.dtype)
            ones = [
                {place: share.view(*won.shape, *(1 for _ in shape[2:])) for place, shape in group.items()}
                for group in self.shapes
            ]
            self.best.lerp_(self.now, self._joined(ones))


def _dot(value: Tensor, by: Tensor) -> Tensor:
    """(N, M, *shape) times (N or 1, 1, *shape), summed over the shape."""
    if len(by) == 1:
        return value.flatten(2) @ by.flatten()
    return (value.flatten(2) @ by.flatten(2).transpose(1, 2))[..., 0]
