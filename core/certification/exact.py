"""Complete verification of ReLU networks: proven, fooled (with the image), or unknown when time is up.

Bounds of rising strength first (`proof`), then an attack, then branch and bound: a ReLU whose input may have both signs
is split into two cases, many cases are bounded at once, and the cases that are not proven are split on (Bunel et al.
2020, arXiv 1909.06588; Wang et al. 2021, arXiv 2103.06624). A case without open ReLUs is a linear programme; with half
of the time gone, an image with few open ReLUs goes to mixed-integer programming as a whole (`milp`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.attacks.engine import Streams, default_streams, frozen, predict
from core.attacks.geometry import into_ball, linf_bounds
from core.attacks.pgd import pgd
from core.certification.alpha import Choice, first_choice, optimized, shifts_of
from core.certification.ball import Ball
from core.certification.crown import Known, crown_bounds, interval_bounds, margin_rows
from core.certification.graph import Graph, intervals, lower, rounding
from core.certification.milp import decide, program
from core.certification.proof import TINY, certified_margins, evaluated, sloped_margins
from core.progress import Progress

PROVEN, FOOLED, UNKNOWN = "proven", "fooled", "unknown"
CASES = 64
"""Cases split at once."""
STEPS = 8
"""Gradient steps for each case."""
FEW = 500
"""Open ReLUs up to which an image goes to mixed-integer programming."""
TOLERANCE = 1e-5
"""What linear programmes may be wrong by: a margin below it is not proven by them."""


@dataclass(frozen=True)
class Verdicts:
    """One answer an image.

    Attributes:
        verdict: (N,) "proven", "fooled" or "unknown".
        found_by: (N,) what gave the answer: "clean", "ibp", "alpha_crown", "pgd", "branch and bound", "milp", or "".
        x_adv: (N, C, H, W): the image that fools, where there is one, read wrongly again by the model; else `x`.
        seconds: (N,) spent on each image alone, beyond what the batch shared.
        cases: (N,) int64, cases bounded.
    """

    verdict: np.ndarray
    found_by: np.ndarray
    x_adv: Tensor
    seconds: np.ndarray
    cases: np.ndarray


def verify(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    eps: float | Float[Tensor, " n"],
    *,
    norm: str = "linf",
    time_limit: float = 30.0,
    streams: Streams | None = None,
    on_progress: Progress | None = None,
) -> Verdicts:
    """Decide for each image whether any image of the ball is read as another class.

    A time limit ends in "unknown", never in a wrong answer: every "fooled" comes with its image, read wrongly by the
    model in its own dtype and inside the ball; every "proven" allows for float32's rounding (`graph.rounding`), and
    where a linear programme took part, for its tolerance.

    Args:
        model: pixels to logits, of layers that `graph.RULES` names.
        x: (N, C, H, W) in [0, 1].
        y: (N,) classes.
        eps: radius, one or (N,).
        norm: "linf", "l2" or "l1"; l2 without linear programming.
        time_limit: seconds for each image, beyond the bounds and the attack that all share.
        streams: of the attack's random starts.
        on_progress: images done.

    Raises:
        ValueError: as `proof.certified_margins`, or a time limit that is not positive.
    """
    if not time_limit > 0:
        raise ValueError(f"time_limit: expected more than 0 seconds, got {time_limit!r}")
    eps = torch.as_tensor(eps, dtype=torch.float64, device=x.device).expand(len(x))
    streams = default_streams(streams, x)
    verdict, found_by = np.full(len(x), UNKNOWN, dtype=object), np.full(len(x), "", dtype=object)
    seconds, cases, x_adv = np.zeros(len(x)), np.zeros(len(x), dtype=np.int64), x.clone()

    def settle(rows: Tensor, what: str, by: str) -> None:
        verdict[rows.cpu().numpy()], found_by[rows.cpu().numpy()] = what, by

    def open_rows() -> Tensor:
        return torch.from_numpy(np.flatnonzero(verdict == UNKNOWN)).to(x.device)

    with frozen(model):
        settle((predict(model, x).argmax(1) != y).nonzero()[:, 0], FOOLED, "clean")
    rows = open_rows()
    if len(rows):
        sure = certified_margins(model, x[rows], y[rows], eps[rows], norm=norm, method="ibp") > TINY
        settle(rows[sure], PROVEN, "ibp")
    rows = open_rows()
    if len(rows):
        kind: Any = norm
        attack = pgd(
            model,
            x[rows],
            y[rows],
            eps=_at_most(eps[rows], x.dtype),
            norm=kind,
            steps=40,
            restarts=2,
            streams=streams.take(rows),
        )
        x_adv[rows[attack.success]] = attack.x_adv[attack.success]
        settle(rows[attack.success], FOOLED, "pgd")
    graph = lower(model, tuple(x.shape[1:]), torch.float64)
    quick = lower(model, tuple(x.shape[1:]), torch.float32)
    rows = open_rows()
    for done, row in enumerate(rows.tolist()):
        start = time.perf_counter()
        one = torch.tensor([row], device=x.device)
        ball = Ball.around(x[one], eps[one], norm, torch.float64)
        search = _Search(model, graph, quick, x[one], y[one], ball, eps[one])
        verdict[row], found_by[row], adversarial = search.run(start + time_limit)
        if adversarial is not None:
            x_adv[row] = adversarial
        seconds[row], cases[row] = time.perf_counter() - start, search.cases
        if on_progress:
            on_progress(done + 1, len(rows), phase="branch and bound", unknown=float((verdict == UNKNOWN).sum()))
    return Verdicts(verdict.astype(str), found_by.astype(str), x_adv, seconds, cases)


@dataclass
class _Cases:
    """Cases that wait: which margin, the signs of the open ReLUs (U of them), slopes, multipliers, the next split."""

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


class _Search:
    """Branch and bound on one image."""

    def __init__(
        self, model: nn.Module, graph: Graph, quick: Graph, x: Tensor, y: Tensor, ball: Ball, eps: Tensor
    ) -> None:
        self.model, self.graph, self.quick, self.x, self.y, self.ball = model, graph, quick, x, y, ball
        self.eps = torch.minimum(eps, ball.eps)  # as asked for: the ball's radius is rounded up
        self.cases = 0

    def run(self, deadline: float) -> tuple[str, str, Tensor | None]:
        """Verdict, what gave it, and the image that fools."""
        classes = self.graph.nodes[-1].shape[0]
        with torch.no_grad():
            for bounds_of in (interval_bounds, crown_bounds):
                self.known = bounds_of(self.graph, self.ball)
                margins = sloped_margins(self.model, self.graph, self.quick, self.ball, self.y, self.known)
                left = ~(margins[0] > TINY)
                left[self.y] = False
                if not left.any():
                    return PROVEN, "alpha_crown", None
            self.rows = margin_rows(classes, self.y, self.ball.x)[0]
            errors = rounding(self.graph, intervals(self.graph, self.ball.low, self.ball.high, self.known))
            self.less = self.rows.abs() @ errors[0]
        self._index()
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

    def _bounds(self, signs: dict[int, Tensor]) -> Known:
        made = {}
        for place, (low, high) in self.known.items():
            sign = signs[place]
            made[place] = torch.where(sign > 0, low.clamp(min=0), low), torch.where(sign < 0, high.clamp(max=0), high)
        return made

    def _by_relu(self, values: dict[int, Tensor]) -> dict[int, Tensor]:
        return {relu: values[self.graph.nodes[relu].parents[0]][:, None] for relu in self.graph.relus}

    def _by_place(self, values: dict[int, Tensor]) -> dict[int, Tensor]:
        return {self.graph.nodes[relu].parents[0]: value for relu, value in values.items()}

    # ------------------------------------------------------------ branch and bound

    def _branch(self, rows: Tensor, deadline: float) -> tuple[str, str, Tensor | None] | None:
        slopes = self._gather(self._by_place({k: v[:, 0] for k, v in first_choice(self.graph, self.known).items()}))
        count = len(rows)
        nothing = torch.zeros(count, self.open, dtype=torch.float32, device=rows.device)
        first = _Cases(rows, nothing.to(torch.int8), slopes.float().expand(count, -1), nothing, rows.new_zeros(count))
        waiting, adversarial = self._bounded(first, 2 * STEPS)
        while adversarial is None and len(waiting):
            if time.perf_counter() > deadline:
                return None
            size = min(CASES, len(waiting))
            part, waiting = waiting.take(slice(len(waiting) - size, None)), waiting.take(slice(len(waiting) - size))
            closed = part.split < 0
            for case in range(len(part)):
                if closed[case]:
                    verdict = self._leaf(part.take(slice(case, case + 1)), deadline)
                    if verdict is None or verdict[0] == FOOLED:
                        return verdict
            part = part.take(~closed)
            if len(part):
                children, adversarial = self._bounded(self._halves(part), STEPS)
                waiting = _Cases.join(waiting, children)
        if adversarial is not None:
            return FOOLED, "branch and bound", adversarial
        return PROVEN, "branch and bound", None

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
                goal=float(self.less.max()) + 1e-3,
            )
        less = self.less[part.row]
        left = torch.ones(len(part), dtype=torch.bool, device=part.row.device)
        likely = (choice.value.double() > less).nonzero()[:, 0]
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
                )
            left[likely[found - less[likely] > TINY]] = False
        slopes, multipliers = (
            self._gather(self._by_place({relu: value[:, 0] for relu, value in values.items()}), len(part))
            for values in (choice.slopes, choice.multipliers)
        )
        made = _Cases(part.row, part.signs, slopes, multipliers, self._splits(choice, part.signs))
        return made.take(left), self._fools(choice.point[left])

    def _splits(self, choice: Choice, signs: Tensor) -> Tensor:
        """The open ReLU whose relaxation costs the bound most, or -1."""
        if not self.open:
            return torch.full((len(signs),), -1, device=signs.device)
        weight = self._gather(self._by_place(choice.at_relu)).abs()
        low = self._gather({place: low for place, (low, _) in self.known.items()})
        high = self._gather({place: high for place, (_, high) in self.known.items()})
        cost = (weight * (-low * high / (high - low))).masked_fill(signs != 0, -1.0)
        worst, place = cost.max(1)
        return torch.where(worst < 0, -1, place)

    def _leaf(self, case: _Cases, deadline: float) -> tuple[str, str, Tensor | None] | None:
        """A case whose every ReLU has a sign."""
        if self.ball.norm == "l2":
            return None
        signs = {place: value.double() for place, value in self._spread(case.signs).items()}
        return self._program(self._bounds(signs), case.row, deadline)

    # ------------------------------------------------------------ linear programmes

    def _program(self, known: Known, rows: Tensor, deadline: float) -> tuple[str, str, Tensor | None] | None:
        made = program(self.graph, self.ball, known)
        for row in rows.tolist():
            for minimize in (False, True):
                sure, pixels = decide(
                    made,
                    self.rows[row],
                    float(self.less[row]) + TOLERANCE,
                    time_limit=deadline - time.perf_counter(),
                    minimize=minimize,
                )
                if sure:
                    break
                if pixels is None:
                    return None
                adversarial = self._fools(torch.from_numpy(pixels).view_as(self.x))
                if adversarial is not None:
                    return FOOLED, "milp", adversarial
            if not sure:  # the lowest image is read rightly, but by less than rounding and tolerance
                return None
        return PROVEN, "milp", None

    def _fools(self, points: Tensor) -> Tensor | None:
        """The first of these images that the model reads wrongly, once it is in its dtype and inside the ball."""
        if not len(points):
            return None
        x = self.x.expand(len(points), -1, -1, -1)
        eps = _at_most(self.eps, x.dtype).expand(len(points))
        images = points.to(x.device, x.dtype).clamp(0, 1)
        if self.ball.norm == "linf":
            low, high = linf_bounds(x, eps)
            images = torch.minimum(torch.maximum(images, low), high)
        else:
            images = into_ball(images, x, eps, self.ball.norm)
        with frozen(self.model):
            wrong = (predict(self.model, images).argmax(1) != self.y).nonzero()[:, 0]
            for row in wrong.tolist():  # again, alone: a verdict must not hang on how a batch was cut
                if bool((predict(self.model, images[row : row + 1]).argmax(1) != self.y).all()):
                    return images[row]
        return None


def _at_most(eps: Tensor, dtype: torch.dtype) -> Tensor:
    """The next number of a dtype at or below each radius."""
    near = eps.to(dtype)
    return torch.where(near.to(eps.dtype) > eps, torch.nextafter(near, torch.zeros_like(near)), near)


def exact_radius(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    norm: str = "linf",
    high: float = 0.5,
    tolerance: float = 1e-3,
    time_limit: float = 30.0,
    on_progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """Between which radii each image's smallest adversarial perturbation lies, by bisection.

    Ends where the two are `tolerance` apart, or where an image's answer is unknown.

    Args:
        model: as in `verify`.
        x: as in `verify`.
        y: as in `verify`.
        norm: as in `verify`.
        high: the largest radius to ask for.
        tolerance: width of the interval, more than 0.
        time_limit: seconds for each image and question.
        on_progress: rounds done.

    Returns:
        Proven radius and smallest radius at which an image was fooled (inf where none was), (N,) float64.
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance: expected more than 0, got {tolerance!r}")
    safe = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    fooled = torch.full_like(safe, torch.inf)
    ask = torch.full_like(safe, high)
    left = torch.arange(len(x), device=x.device)
    rounds = max(1, int(np.ceil(np.log2(high / tolerance))) + 1)
    for turn in range(rounds + 1):
        if not len(left):
            break
        answer = verify(model, x[left], y[left], ask[left], norm=norm, time_limit=time_limit)
        sure = torch.from_numpy(answer.verdict == PROVEN).to(x.device)
        lost = torch.from_numpy(answer.verdict == FOOLED).to(x.device)
        clean = torch.from_numpy(answer.found_by == "clean").to(x.device)
        safe[left[sure]] = ask[left[sure]]
        # the image that fools may be nearer than the radius that was asked for
        order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
        near = torch.linalg.vector_norm((answer.x_adv - x[left]).double().flatten(1), order, dim=1)
        fooled[left[lost]] = near[lost]
        left = left[(sure | lost) & ~clean]
        left = left[fooled[left] - safe[left] > tolerance]
        left = left[~((safe[left] >= high) & fooled[left].isinf())]
        ask[left] = (safe[left] + fooled[left]) / 2
        if on_progress:
            on_progress(turn + 1, rounds + 1, phase="bisection")
    return safe, fooled
