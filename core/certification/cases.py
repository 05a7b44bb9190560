"""Branch and bound in one region: many cases at once, with the bounds that hold for all of them.

A ReLU whose input may have both signs (an open one) is split into two cases, many cases are bounded at once, and those
that are not proven are split again (Bunel et al. 2020, arXiv 1909.06588; Wang et al. 2021, arXiv 2103.06624).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.attacks.engine.engine import frozen
from core.certification.alpha import Beginning, first_choice, optimized, shifts_of
from core.certification.ball import Ball
from core.certification.bounds import Known, in_float32
from core.certification.proof import TINY, evaluated
from core.certification.region import Part
from core.certification.worth import room

SIZE = 64
"""Cases split at once."""
STEPS = 8
"""Gradient steps for each case."""
LEAF_STEPS = 100
"""Gradient steps on the multipliers of a case that cannot be split any more, in l2."""
MANY = 256
"""Cases after which it is seen whether an end is near; many a small network is decided by then."""
TRIED = 8
"""Open ReLUs whose splitting is tried out for each case."""


@dataclass
class _Cases:
    """Undecided cases: the signs of the open ReLUs (U of them), slopes, multipliers, the next split, depth."""

    signs: Tensor
    slopes: Tensor
    multipliers: Tensor
    split: Tensor
    depth: Tensor

    def take(self, rows: Tensor | slice) -> _Cases:
        return _Cases(*(value[rows] for value in vars(self).values()))

    def __len__(self) -> int:
        return len(self.signs)

    @staticmethod
    def join(first: _Cases, second: _Cases) -> _Cases:
        return _Cases(*(torch.cat(pair) for pair in zip(vars(first).values(), vars(second).values(), strict=True)))


@dataclass(frozen=True)
class Outcome:
    """How a search ended.

    Attributes:
        empty: no image of the region is left: what was to be proven is.
        adversarial: an image that fools, (C, H, W).
        stuck: a case without open ReLUs that its `leaf` did not decide.
        split: where the search stopped for its work: node and flat place of the ReLU input that was split first.
        by: what found the image.
    """

    empty: bool = False
    adversarial: Tensor | None = None
    stuck: bool = False
    split: tuple[int, int] | None = None
    by: str = "branch and bound"


class Search:
    """Branch and bound in one region."""

    def __init__(
        self,
        part: Part,
        ball: Ball,
        *,
        fools: Callable[[Tensor], Tensor | None],
        leaf: Callable[[dict[int, Tensor]], Outcome],
    ) -> None:
        """A search that has not begun.

        Args:
            part: a region where a margin is at most 0, to be shown empty.
            ball: of one image.
            fools: of images (N, C, H, W), the first that the model misclassifies.
            leaf: decides a case of which each open ReLU has a sign, from the part's signs (1, *shape).
        """
        assert part.region.row is not None
        self.part, self.graph, self.quick = part, part.graphs.exact, part.graphs.quick
        self.ball, self.known, self.row = ball, part.region.known, part.region.row
        self.short_ball, self.short_row = ball.to(torch.float32), self.row.float()[None, None]
        self.short_noise = [value.float() for value in part.noise]
        self.fools, self.leaf, self.cases = fools, leaf, 0
        self.where: dict[int, Tensor] = {}
        self.span: dict[int, slice] = {}
        self.open, given = 0, []
        for place, (low, high) in self.known.items():
            signs = part.region.signs.get(place, torch.zeros_like(low)).flatten()
            self.where[place] = (((low < 0) & (high > 0)).flatten() | (signs != 0)).nonzero()[:, 0]
            self.span[place] = slice(self.open, self.open + len(self.where[place]))
            self.open += len(self.where[place])
            given.append(signs[self.where[place]])
        self.given = torch.cat(given).to(torch.int8) if given else torch.zeros(0, dtype=torch.int8)
        self.low = self._gather({place: low[:, None] for place, (low, _) in self.known.items()})
        self.high = self._gather({place: high[:, None] for place, (_, high) in self.known.items()})

    def begin(self) -> Outcome | None:
        """Bound the region as one case; an outcome if that is enough."""
        slopes = self._gather(self._by_place(first_choice(self.graph, self.known)))
        nothing = torch.zeros(1, self.open, dtype=torch.float32, device=slopes.device)
        number = torch.zeros(1, dtype=torch.int64, device=slopes.device)
        first = _Cases(self.given[None], slopes.float(), nothing, number, number)
        self.waiting, adversarial = self._bounded(first, 2 * STEPS)
        if adversarial is not None:
            return Outcome(adversarial=adversarial)
        return None if len(self.waiting) else Outcome(empty=True)

    def run(self, deadline: float, work: float) -> Outcome:
        """Search until the region is empty, an image fools, or it takes, at the rate so far, more than `work` cases."""
        waiting, adversarial, stuck = self.waiting, None, False
        first = int(waiting.split[0])
        while adversarial is None and len(waiting):
            if time.perf_counter() > deadline:
                return Outcome()
            if self.cases > min(MANY, work) and first >= 0:
                done = 1 - float((0.5 ** waiting.depth.double()).sum())
                if self.cases > work or self.cases * (1 - done) > (work - self.cases) * done:
                    return Outcome(split=self._named(first))
            size = min(SIZE, len(waiting))
            part, waiting = waiting.take(slice(len(waiting) - size, None)), waiting.take(slice(len(waiting) - size))
            leaves, part = part.take(part.split < 0), part.take(part.split >= 0)
            for case in range(len(leaves)):
                end = self._end(leaves.take(slice(case, case + 1)))
                if end.adversarial is not None:
                    return end
                stuck |= not end.empty
            if len(part):
                children, adversarial = self._bounded(self._halves(part), STEPS)
                waiting = _Cases.join(waiting, children)
        return Outcome(empty=adversarial is None and not stuck, adversarial=adversarial, stuck=stuck)

    def _end(self, case: _Cases) -> Outcome:
        """Decide a case that cannot be split any more."""
        if self.ball.norm != "l2":
            return self.leaf(self._spread(case.signs))
        left, adversarial = self._bounded(case, LEAF_STEPS)
        return Outcome(empty=adversarial is None and not len(left), adversarial=adversarial)

    # ------------------------------------------------------------ open ReLUs as one vector

    def _spread(self, values: Tensor) -> dict[int, Tensor]:
        """(B, U) as what each ReLU's place has: (B, *shape), 0 where nothing is open."""
        made = {}
        for place, where in self.where.items():
            shape = self.graph.nodes[place].shape
            flat = values.new_zeros(len(values), torch.Size(shape).numel())
            flat[:, where] = values[:, self.span[place]]
            made[place] = flat.unflatten(1, shape)
        return made

    def _gather(self, values: dict[int, Tensor]) -> Tensor:
        """The inverse of `_spread`, of values (B, 1, *shape); keys are places of what ReLUs read."""
        parts = [values[place].flatten(1)[:, where] for place, where in self.where.items()]
        return torch.cat(parts, 1) if parts else torch.zeros(1, 0, device=self.ball.x.device)

    def _named(self, at: int) -> tuple[int, int]:
        """Node and flat place of one of the U."""
        place = next(place for place, span in self.span.items() if span.start <= at < span.stop)
        return self.part.named(place, int(self.where[place][at - self.span[place].start]))

    def _bounds(self, signs: dict[int, Tensor]) -> Known:
        """Bounds of cases."""
        made = {}
        for place, (low, high) in self.known.items():
            sign = signs[place]
            made[place] = torch.where(sign > 0, low.clamp(min=0), low), torch.where(sign < 0, high.clamp(max=0), high)
        return made

    def _by_relu(self, values: dict[int, Tensor]) -> dict[int, Tensor]:
        return {relu: values[self.graph.nodes[relu].parents[0]][:, None] for relu in self.graph.relus}

    def _by_place(self, values: dict[int, Tensor]) -> dict[int, Tensor]:
        return {self.graph.nodes[relu].parents[0]: value for relu, value in values.items()}

    # ------------------------------------------------------------ bounds of cases

    def _halves(self, part: _Cases) -> _Cases:
        made = []
        for sign in (-1, 1):
            signs = part.signs.clone()
            signs[torch.arange(len(part)), part.split] = sign
            made.append(replace(part, signs=signs, depth=part.depth + 1))
        return _Cases.join(*made)

    def _bounded(self, part: _Cases, steps: int) -> tuple[_Cases, Tensor | None]:
        """Bound cases; those that are not proven with their next split, and an image that fools, if one turned up."""
        self.cases += len(part)
        signs = {place: value.double() for place, value in self._spread(part.signs).items()}
        bounds = self._bounds(signs)
        short = in_float32(bounds)
        short_signs = {place: value.float() for place, value in signs.items()}
        with frozen(self.part.graphs.model):
            choice = optimized(
                self.quick,
                self.short_ball,
                self.short_row.expand(len(part), 1, -1),
                short,
                steps=steps,
                signs=short_signs,
                begin=Beginning(
                    self._by_relu(self._spread(part.slopes)), self._by_relu(self._spread(part.multipliers))
                ),
                goal=1e-3,
                noise=self.short_noise,
            )
        left = torch.ones(len(part), dtype=torch.bool, device=part.split.device)
        likely = (choice.value[:, 0].double() > 0).nonzero()[:, 0]
        if len(likely):
            with torch.no_grad():
                shifts = shifts_of(self.quick, choice.multipliers, short_signs)
                found = evaluated(
                    self.graph,
                    self.ball,
                    {len(self.graph.nodes) - 1: self.row[None, None].expand(len(likely), 1, -1)},
                    {place: (low[likely], high[likely]) for place, (low, high) in bounds.items()},
                    {relu: value[likely] for relu, value in choice.slopes.items()},
                    {relu: value[likely] for relu, value in shifts.items()},
                    noise=self.part.noise,
                )
            left[likely[found[:, 0] > TINY]] = False
        slopes, multipliers = (self._gather(self._by_place(values)) for values in (choice.slopes, choice.multipliers))
        made = _Cases(part.signs, slopes, multipliers, torch.full_like(part.depth, -1), part.depth).take(left)
        adversarial = self.fools(choice.point[left, 0])
        if adversarial is None and len(made) and self.open:
            made.split.copy_(self._splits({place: value[left] for place, value in choice.at_relu.items()}, made))
        return made, adversarial

    def _splits(self, at_relu: dict[int, Tensor], cases: _Cases) -> Tensor:
        """The open ReLU of each case to split, or -1.

        Of those whose relaxation costs the bound most, the one whose worse half has the highest bound before any step
        (filtered smart branching: De Palma et al. 2021, arXiv 2104.06718).
        """
        cost = self._gather(self._by_place(at_relu)).abs() * room(self.low, self.high)
        worst, places = cost.masked_fill(cases.signs != 0, -1.0).topk(min(TRIED, self.open), dim=1)
        tried = torch.arange(len(cases), device=places.device).repeat_interleave(places.shape[1])
        trials = replace(cases.take(tried), split=places.flatten())
        ends = torch.stack(self._quick_bounds(self._halves(trials)).chunk(2)).unflatten(1, places.shape)
        gain = (ends.amin(0) + 1e-3 * ends.amax(0)).masked_fill(worst < 0, -torch.inf)
        return torch.where(worst[:, 0] < 0, -1, places.gather(1, gain.argmax(1, keepdim=True))[:, 0])

    @torch.no_grad()
    def _quick_bounds(self, cases: _Cases) -> Tensor:
        """Bounds in float32 without a step."""
        found = []
        for rows in torch.arange(len(cases), device=cases.split.device).split(4 * SIZE):
            part = cases.take(rows)
            signs = {place: value.float() for place, value in self._spread(part.signs).items()}
            bounds = in_float32(self._bounds(signs))
            slopes, multipliers = (self._by_relu(self._spread(value)) for value in (part.slopes, part.multipliers))
            start = {len(self.graph.nodes) - 1: self.short_row.expand(len(part), 1, -1)}
            shifts = shifts_of(self.quick, multipliers, signs)
            found.append(evaluated(self.quick, self.short_ball, start, bounds, slopes, shifts)[:, 0])
        return torch.cat(found)
