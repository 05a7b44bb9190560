"""Branch and bound on one image, and mixed-integer programming where that is quicker.

A ReLU whose input may have both signs (an open one) is split into two cases, many cases are bounded at once, and the
cases that are not proven are split again (Bunel et al. 2020, arXiv 1909.06588; Wang et al. 2021, arXiv 2103.06624). A
case without open ReLUs is convex: a linear programme decides it, in l2 its Lagrangian. After half of the time, an image
with few open ReLUs goes to mixed-integer programming as a whole (`milp`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core import epsilon
from core.attacks.engine.engine import frozen, predict
from core.attacks.engine.geometry import distances
from core.attacks.engine.losses import Goal
from core.certification.alpha import first_choice, optimized, shifts_of
from core.certification.ball import Ball, inside
from core.certification.bounds import Known, intervals, margin_rows, noises, roundings
from core.certification.crown import backward, crown_bounds, interval_bounds
from core.certification.milp import IntegerProgram, decide, program
from core.certification.proof import TINY, Graphs, evaluated, sloped_margins, tightened

PROVEN, FOOLED, UNKNOWN = "proven", "fooled", "unknown"
CASES = 64
"""Cases split at once."""
STEPS = 8
"""Gradient steps for each case."""
LEAF_STEPS = 100
"""Gradient steps on the multipliers of a case that cannot be split any more, in l2."""
TRIED = 8
"""Open ReLUs whose splitting is tried out for each case."""
MANY = 256
"""Cases after which the bounds that all of them start from are tightened, once."""
FEW = 100
"""Open ReLUs up to which an image goes to mixed-integer programming; beyond, branching is quicker."""
TOLERANCE = 1e-5
"""What linear programmes may be wrong by: a margin below it is not proven by them."""

Answer = tuple[str, str, Tensor | None]
"""Verdict, what gave it, and the image that fools."""


@dataclass
class _Cases:
    """Undecided cases: which margin, the signs of the open ReLUs (U of them), slopes, multipliers, the next split."""

    row: Tensor
    signs: Tensor
    slopes: Tensor
    multipliers: Tensor
    split: Tensor

    def take(self, rows: Tensor | slice) -> _Cases:
        return _Cases(*(value[rows] for value in vars(self).values()))

    def __len__(self) -> int:
        return len(self.row)

    @staticmethod
    def join(first: _Cases, second: _Cases) -> _Cases:
        return _Cases(*(torch.cat(pair) for pair in zip(vars(first).values(), vars(second).values(), strict=True)))


class BranchAndBound:
    """Branch and bound on one image."""

    def __init__(self, graphs: Graphs, x: Tensor, y: Tensor, ball: Ball, eps: Tensor) -> None:
        """`x` (1, C, H, W), `y` (1,), the ball around it, and the ε (1,) that the ball's is rounded up from."""
        self.graphs, self.x, self.y, self.ball = graphs, x, y, ball
        self.model, self.graph, self.quick = graphs.model, graphs.exact, graphs.quick
        self.eps = torch.minimum(eps, ball.eps)
        self.cases = 0

    def run(self, deadline: float) -> Answer:
        """The answer; "unknown" when the time is up."""
        classes = self.graphs.classes
        with torch.no_grad():
            for bounds_of in (interval_bounds, crown_bounds):
                self.known = bounds_of(self.graph, self.ball)
                margins = sloped_margins(self.graphs, self.ball, self.y, self.known)
                left = ~(margins[0] > TINY)
                left[self.y] = False
                if not left.any():
                    return PROVEN, "alpha_crown", None
            self.rows = margin_rows(classes, self.y, self.ball.x)[0]
            made = intervals(self.graph, self.ball.low, self.ball.high, self.known)
            self.noise = noises(self.graph, made)
            self.short_noise = [value.float() for value in self.noise]
            self.errors = roundings(self.graph, made)  # of programmes, which know no rounding
            self.less = self.rows.abs() @ self.errors[-1][0]
        self._index()
        if not all(bool(end.isfinite().all()) for bound in self.known.values() for end in bound):
            return UNKNOWN, "", None  # NaN has no sign: a case would be left out
        if not all(bool(value.isfinite().all()) for value in self.noise):
            return UNKNOWN, "", None
        begun = time.perf_counter()
        if begun > deadline:
            return UNKNOWN, "", None
        few = self.ball.norm != "l2" and self.open <= FEW
        answer = self._branch(left.nonzero()[:, 0], begun + (deadline - begun) / 2 if few else deadline)
        if answer is None and few:
            answer = self._program(self.known, left.nonzero()[:, 0], deadline)
        return answer or (UNKNOWN, "", None)

    # ------------------------------------------------------------ open ReLUs as one vector

    def _index(self) -> None:
        self.where: dict[int, Tensor] = {}
        start, self.span = 0, {}
        for place, (low, high) in self.known.items():
            self.where[place] = ((low < 0) & (high > 0)).flatten().nonzero()[:, 0]
            self.span[place] = slice(start, start + len(self.where[place]))
            start += len(self.where[place])
        self.open = start

    def _spread(self, values: Tensor, fill: float = 0.0) -> dict[int, Tensor]:
        """(B, U) as what each ReLU's place has: (B, *shape)."""
        made = {}
        for place, where in self.where.items():
            shape = self.graph.nodes[place].shape
            flat = values.new_full((len(values), torch.Size(shape).numel()), fill)
            flat[:, where] = values[:, self.span[place]]
            made[place] = flat.unflatten(1, shape)
        return made

    def _gather(self, values: dict[int, Tensor], count: int = 1) -> Tensor:
        """The inverse of `_spread`; keys are places of what ReLUs read, `count` is B."""
        parts = [values[place].flatten(1)[:, where] for place, where in self.where.items()]
        return torch.cat(parts, 1) if parts else torch.zeros(count, 0, device=self.x.device)

    def _bounds(self, signs: dict[int, Tensor], errors: list[Tensor] | None = None) -> Known:
        """Bounds of a case. Its signs are those that float32 gives: exact values may lie beyond 0 by `errors`."""
        made = {}
        for place, (low, high) in self.known.items():
            sign, room = signs[place], 0.0 if errors is None else errors[place]
            bottom, top = torch.clamp(low, min=-room), torch.clamp(high, max=room)
            made[place] = torch.where(sign > 0, bottom, low), torch.where(sign < 0, top, high)
        return made

    def _by_relu(self, values: dict[int, Tensor]) -> dict[int, Tensor]:
        return {relu: values[self.graph.nodes[relu].parents[0]][:, None] for relu in self.graph.relus}

    def _by_place(self, values: dict[int, Tensor]) -> dict[int, Tensor]:
        return {self.graph.nodes[relu].parents[0]: value for relu, value in values.items()}

    # ------------------------------------------------------------ branch and bound

    def _branch(self, rows: Tensor, deadline: float) -> Answer | None:
        """None: time is up, or a case without open ReLUs stays undecided and no other gives an image that fools."""
        slopes = self._gather(self._by_place({k: v[:, 0] for k, v in first_choice(self.graph, self.known).items()}))
        count = len(rows)
        nothing = torch.zeros(count, self.open, dtype=torch.float32, device=rows.device)
        first = _Cases(rows, nothing.to(torch.int8), slopes.float().expand(count, -1), nothing, rows.new_zeros(count))
        waiting, adversarial = self._bounded(first, 2 * STEPS)
        undecided, tight = False, False
        while adversarial is None and len(waiting):
            if time.perf_counter() > deadline:
                return None
            if self.cases > MANY and not tight:
                self.known, tight = tightened(self.graphs, self.ball, self.known), True
            size = min(CASES, len(waiting))
            part, waiting = waiting.take(slice(len(waiting) - size, None)), waiting.take(slice(len(waiting) - size))
            leaves, part = part.take(part.split < 0), part.take(part.split >= 0)
            for case in range(len(leaves)):
                answer = self._leaf(leaves.take(slice(case, case + 1)), deadline)
                if answer is not None and answer[0] == FOOLED:
                    return answer
                undecided |= answer is None
            if len(part):
                children, adversarial = self._bounded(self._halves(part), STEPS)
                waiting = _Cases.join(waiting, children)
        if adversarial is not None:
            return FOOLED, "branch and bound", adversarial
        return None if undecided else (PROVEN, "branch and bound", None)

    def _halves(self, part: _Cases) -> _Cases:
        made = []
        for sign in (-1, 1):
            signs = part.signs.clone()
            signs[torch.arange(len(part)), part.split] = sign
            made.append(replace(part, signs=signs))
        return _Cases.join(*made)

    def _bounded(self, part: _Cases, steps: int) -> tuple[_Cases, Tensor | None]:
        """Bound cases; those that are not proven with their next split, and an image that fools, if one turned up."""
        self.cases += len(part)
        count = torch.zeros(len(part), dtype=torch.int64, device=part.row.device)
        signs = {place: value.double() for place, value in self._spread(part.signs).items()}
        bounds = self._bounds(signs)
        ball, rows = self.ball.take(count), self.rows[part.row][:, None]
        short = {place: (low.float(), high.float()) for place, (low, high) in bounds.items()}
        short_signs = {place: value.float() for place, value in signs.items()}
        with frozen(self.model):
            choice = optimized(
                self.quick,
                ball.to(torch.float32),
                rows.float(),
                short,
                steps=steps,
                signs=short_signs,
                slopes=self._by_relu(self._spread(part.slopes)),
                multipliers=self._by_relu(self._spread(part.multipliers)),
                goal=1e-3,
                noise=self.short_noise,
            )
        left = torch.ones(len(part), dtype=torch.bool, device=part.row.device)
        likely = (choice.value.double() > 0).nonzero()[:, 0]
        if len(likely):
            with torch.no_grad():
                shifts = shifts_of(self.quick, choice.multipliers, short_signs)
                found = evaluated(
                    self.graph,
                    ball.take(likely),
                    rows[likely],
                    {place: (low[likely], high[likely]) for place, (low, high) in bounds.items()},
                    {relu: value[likely] for relu, value in choice.slopes.items()},
                    {relu: value[likely] for relu, value in shifts.items()},
                    noise=self.noise,
                )
            left[likely[found > TINY]] = False
        slopes, multipliers = (
            self._gather(self._by_place({relu: value[:, 0] for relu, value in values.items()}), len(part))
            for values in (choice.slopes, choice.multipliers)
        )
        made = _Cases(part.row, part.signs, slopes, multipliers, torch.full_like(part.row, -1)).take(left)
        adversarial = self._fools(choice.point[left])
        if adversarial is None and len(made) and self.open:
            made.split.copy_(self._splits({place: value[left] for place, value in choice.at_relu.items()}, made))
        return made, adversarial

    def _splits(self, at_relu: dict[int, Tensor], cases: _Cases) -> Tensor:
        """The open ReLU of each case to split, or -1.

        Of those whose relaxation costs the bound most, the one whose worse half has the highest bound before any step
        (filtered smart branching: De Palma et al. 2021, arXiv 2104.06718).
        """
        low = self._gather({place: low for place, (low, _) in self.known.items()})
        high = self._gather({place: high for place, (_, high) in self.known.items()})
        cost = self._gather(self._by_place(at_relu)).abs() * (-low * high / (high - low))
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
        for rows in torch.arange(len(cases), device=cases.row.device).split(4 * CASES):
            part = cases.take(rows)
            signs = {place: value.float() for place, value in self._spread(part.signs).items()}
            bounds = {place: (low.float(), high.float()) for place, (low, high) in self._bounds(signs).items()}
            slopes, multipliers = (self._by_relu(self._spread(value)) for value in (part.slopes, part.multipliers))
            start = {len(self.graph.nodes) - 1: self.rows[part.row][:, None].float()}
            made = backward(self.quick, start, bounds, slopes=slopes, shifts=shifts_of(self.quick, multipliers, signs))
            ball = self.ball.take(torch.zeros_like(rows)).to(torch.float32)
            found.append((ball.lowest(made.coefficients) + made.constant)[:, 0])
        return torch.cat(found)

    def _leaf(self, case: _Cases, deadline: float) -> Answer | None:
        """A case whose every ReLU has a sign."""
        if self.ball.norm == "l2":
            left, adversarial = self._bounded(case, LEAF_STEPS)
            if adversarial is not None:
                return FOOLED, "branch and bound", adversarial
            return None if len(left) else (PROVEN, "branch and bound", None)
        signs = {place: value.double() for place, value in self._spread(case.signs).items()}
        return self._program(self._bounds(signs, self.errors), case.row, deadline)

    # ------------------------------------------------------------ linear programmes

    def _program(self, known: Known, rows: Tensor, deadline: float) -> Answer | None:
        """Decide each margin in its share of the time that is left; the others also where one stays undecided."""
        made, undecided = program(self.graph, self.ball, known), False
        for done, row in enumerate(rows.tolist()):
            end = time.perf_counter() + (deadline - time.perf_counter()) / (len(rows) - done)
            answer = self._margin(made, row, end)
            if answer is not None and answer[0] == FOOLED:
                return answer
            undecided |= answer is None
        return None if undecided else (PROVEN, "milp", None)

    def _margin(self, made: IntegerProgram, row: int, deadline: float) -> Answer | None:
        """None also where the lowest image is correctly classified, but by less than rounding and tolerance."""
        floor = float(self.less[row]) + TOLERANCE
        for minimize in (False, True):
            left = deadline - time.perf_counter()
            sure, pixels = decide(made, self.rows[row], floor, time_limit=left, minimize=minimize)
            if sure:
                return PROVEN, "milp", None
            if pixels is None:
                return None
            adversarial = self._fools(torch.from_numpy(pixels).view_as(self.x))
            if adversarial is not None:
                return FOOLED, "milp", adversarial
        return None

    def _fools(self, points: Tensor) -> Tensor | None:
        """The first of these images that the model misclassifies, once it is in its dtype and inside the ball."""
        if not len(points):
            return None
        x = self.x.expand(len(points), -1, -1, -1)
        images = inside(points, x, self.eps.expand(len(points)), self.ball.norm)
        within = epsilon.within(distances(images.double(), x.double())[self.ball.norm], self.eps)
        with frozen(self.model):
            goal = Goal.of(self.y.expand(len(points)), None)
            for row in (goal.reached(predict(self.model, images)) & within).nonzero()[:, 0].tolist():
                # again, alone: a verdict must not hang on how a batch was cut
                if bool(goal.take(slice(row, row + 1)).reached(predict(self.model, images[row : row + 1])).all()):
                    return images[row]
        return None
