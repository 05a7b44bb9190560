"""One image by branch and bound, and by mixed-integer programming where that is quicker.

Margins that are easily proven are, by splitting cases with the bounds of the whole ball (`cases`). The others are
proven in one tree of regions (`region`). In each the bounds of what ReLUs read are tightened as long as that pays, with
searches that begin where those of the region around it ended, and the region is split in two: of the values that are
worth most (`worth`) at the one whose halves have the best bounds (`lookahead`).

What is left is the images where one of the margins fails. There the mean of all margins is at most the highest upper
bound of what the mean has beyond a margin, so a region is tightened for all margins at once, by one linear function.
Where bounds are too loose for that level to say anything, the easiest margin is tried on its own, on the images where
it fails; as soon as it is proven quickly, each margin that is left is proven in a tree of such regions, the hardest
first, and by splitting cases with a region's bounds, if no end is far.

A case without open ReLUs is convex: a linear programme decides it, in l2 its Lagrangian. After half of the time, an
image with few open ReLUs goes to mixed-integer programming as a whole (`milp`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from core import epsilon
from core.attacks.engine.engine import frozen, predict
from core.attacks.engine.geometry import distances
from core.attacks.engine.losses import Goal
from core.attacks.fixed_budget.pgd import pgd
from core.certification.ball import Ball, at_most, inside
from core.certification.bounds import Known, intervals, margin_rows, noises, roundings
from core.certification.cases import MANY, STEPS, Outcome, Search
from core.certification.crown import crown_bounds, interval_bounds
from core.certification.lookahead import best_split
from core.certification.milp import IntegerProgram, decide, program
from core.certification.proof import TINY, Graphs, sloped_margins
from core.certification.region import Region, margins, shrink, tightened

PROVEN, FOOLED, UNKNOWN = "proven", "fooled", "unknown"
WORTH = 0.02
"""The share of the bounds' width that tightening must take off to be done again."""
LOOKS = 1
"""How often the bounds of the easiest margin's own region are tightened before all margins' region is split instead."""
FIRST = 3
"""How deep a tree the easiest margin may need, at most, for no region to be shared."""
NEARER = 0.5
"""Where cases did not decide a region, the part of its gap that a region inside it must be left with to be tried so."""
WORK = 2
"""Cases for each open ReLU that a margin's region is searched with, `cases.MANY` at least: about the work of tightening
its bounds once."""
FEW = 100
"""Open ReLUs up to which an image goes to mixed-integer programming; beyond, branching is quicker."""
RIVALS = 9
"""Classes that an attack is directed at."""
TOLERANCE = 1e-5
"""What linear programmes may be wrong by: a margin below it is not proven by them."""

Answer = tuple[str, str, Tensor | None]
"""Verdict, what gave it, and the image that fools."""


@dataclass(frozen=True)
class _Open:
    """A region and the margins (numbers of classes) that are not proven there; its own where it has one.

    Attributes:
        region: with its bounds.
        rows: the numbers, that of the lowest bound first.
        gap: how far below 0 that bound was.
        split: the open value that is worth splitting most, by node and flat place.
        searched: the gap at which cases did not decide a region around it, of one margin.
        adversarial: an image that fools, if one turned up.
    """

    region: Region
    rows: Tensor
    gap: float = torch.inf
    split: tuple[int, int] | None = None
    searched: float = torch.inf
    adversarial: Tensor | None = None

    @property
    def end(self) -> Outcome | None:
        """None: something is left to be proven."""
        if self.adversarial is None and len(self.rows):
            return None
        return Outcome(empty=self.adversarial is None, adversarial=self.adversarial)

    def parts(self, searched: float) -> list[_Open]:
        """The two regions that it is split into."""
        assert self.split is not None
        return [_Open(self.region.split(*self.split, sign), self.rows, searched=searched) for sign in (-1, 1)]


class BranchAndBound:
    """Branch and bound on one image."""

    def __init__(self, graphs: Graphs, x: Tensor, y: Tensor, ball: Ball, eps: Tensor) -> None:
        """`x` (1, C, H, W), `y` (1,), the ball around it, and the ε (1,) that the ball's is rounded up from."""
        self.graphs, self.x, self.y, self.ball = graphs, x, y, ball
        self.model, self.graph = graphs.model, graphs.exact
        self.eps = torch.minimum(eps, ball.eps)
        self.cases = 0

    def run(self, deadline: float) -> Answer:
        """The answer; "unknown" when the time is up."""
        with torch.no_grad():
            for bounds_of in (interval_bounds, crown_bounds):
                self.known = bounds_of(self.graph, self.ball)
                bound = sloped_margins(self.graphs, self.ball, self.y, self.known)[0]
                left = ~(bound > TINY)
                left[self.y] = False
                if not left.any():
                    return PROVEN, "alpha_crown", None
            self.rows = margin_rows(self.graphs.classes, self.y, self.ball.x)[0]
            made = intervals(self.graph, self.ball.low, self.ball.high, self.known)
            self.noise = noises(self.graph, made)
            self.errors = roundings(self.graph, made)  # of programmes, which know no rounding
            self.less = self.rows.abs() @ self.errors[-1][0]
        if not all(bool(end.isfinite().all()) for bound in self.known.values() for end in bound):
            return UNKNOWN, "", None  # NaN has no sign: a case would be left out
        if not all(bool(value.isfinite().all()) for value in self.noise):
            return UNKNOWN, "", None
        begun = time.perf_counter()
        if begun > deadline:
            return UNKNOWN, "", None
        adversarial = self._attacked(bound.masked_fill(~left, torch.inf))
        if adversarial is not None:
            return FOOLED, "pgd", adversarial
        few = self.ball.norm != "l2" and _open(self.known) <= FEW
        rows = bound.argsort(descending=True)  # the hardest last
        rows = rows[left[rows]]
        answer = self._branch(rows, begun + (deadline - begun) / 2 if few else deadline)
        if answer is None and few:
            answer = self._program(self.known, rows, deadline)
        return answer or (UNKNOWN, "", None)

    def _attacked(self, bound: Tensor) -> Tensor | None:
        """An attack towards each class whose margin may fail, those of the lowest bounds first."""
        rows = bound.argsort()[: min(RIVALS, int(bound.isfinite().sum()))]
        x, y = self.x.expand(len(rows), -1, -1, -1), self.y.expand(len(rows))
        norm: Any = self.ball.norm
        eps = at_most(self.eps, self.x.dtype).expand(len(rows))
        found = pgd(self.model, x, y, eps=eps, norm=norm, steps=100, restarts=5, y_target=rows)
        return self._fools(found.x_adv)

    def _branch(self, rows: Tensor, deadline: float) -> Answer | None:
        """None: time is up, or a case without open ReLUs stays undecided and no other gives an image that fools."""
        whole, stuck = Region(self.known), False
        for row in rows.tolist():
            end = self._cases(replace(whole, row=self.rows[row]), row, deadline)
            if end.adversarial is not None:
                return FOOLED, end.by, end.adversarial
            if not end.empty:
                break
            rows = rows[1:]
        if not len(rows):
            return PROVEN, "branch and bound", None
        waiting = [_Open(whole, rows)]
        while waiting:
            if time.perf_counter() > deadline:
                return None
            end, parts = self._shared(waiting.pop(), deadline)
            if end.adversarial is not None:
                return FOOLED, end.by, end.adversarial
            if not (parts or end.empty or end.stuck):
                return None
            stuck |= end.stuck
            waiting += parts
        return None if stuck else (PROVEN, "branch and bound", None)

    def _shared(self, given: _Open, deadline: float) -> tuple[Outcome, list[_Open]]:
        """Split a region for all margins; where nothing is known of their mean, prove each in its tree if that pays."""
        self.cases += 1
        tight, stuck = self._tight(given, deadline), False
        if tight.end is not None:
            return tight.end, []
        rows, searched = tight.rows.tolist(), given.searched
        if len(rows) > 1 and tight.split is not None and tight.region.row is not None:
            return Outcome(), tight.parts(searched)
        if len(rows) > 1 and tight.split is not None:
            easiest = self._tight(replace(tight, rows=tight.rows[-1:]), deadline, LOOKS)
            end = easiest.end
            if end is None and not given.region.depth:
                first = self._margin_tree(tight.region, rows[-1], deadline, FIRST)
                end = first if first.empty or first.adversarial is not None else None
            if end is None and easiest.gap < NEARER * searched:
                end, searched = self._cases(easiest.region, rows[-1], deadline), easiest.gap
            if end is not None and end.adversarial is not None:
                return end, []
            if end is None or not end.empty:
                return Outcome(), tight.parts(searched)
            rows = rows[:-1]
        for row in rows:
            end = self._margin_tree(tight.region, row, deadline)
            if end.adversarial is not None or not (end.empty or end.stuck):
                return end, []
            stuck |= end.stuck
        return Outcome(empty=not stuck, stuck=stuck), []

    def _margin_tree(self, region: Region, row: int, deadline: float, deepest: float = torch.inf) -> Outcome:
        """Prove a margin in its region, part by part: neither empty nor stuck where time is up or parts lie deeper."""
        waiting, stuck = [_Open(region, torch.tensor([row]))], False
        while waiting:
            if time.perf_counter() > deadline or waiting[-1].region.depth > deepest:
                return Outcome()
            end, parts = self._parted(waiting.pop(), deadline)
            if end.adversarial is not None or not (parts or end.empty or end.stuck):
                return end
            stuck |= end.stuck
            waiting += parts
        return Outcome(empty=not stuck, stuck=stuck)

    def _parted(self, given: _Open, deadline: float) -> tuple[Outcome, list[_Open]]:
        """Prove one margin in a region, or split the region; neither where time is up."""
        self.cases += 1
        tight, searched = self._tight(given, deadline), given.searched
        end = tight.end
        if end is None and (tight.split is None or tight.gap < NEARER * searched):
            end, searched = self._cases(tight.region, int(tight.rows[0]), deadline), tight.gap
        if end is not None and (end.adversarial is not None or end.empty or end.stuck):
            return end, []
        split = tight.split or (None if end is None else end.split)
        return Outcome(), [] if split is None else replace(tight, split=split).parts(searched)

    def _tight(self, given: _Open, deadline: float, rounds: float = torch.inf) -> _Open:
        """The region once tightening has brought its bounds as far as it pays, and what is not proven with them."""
        done = 0
        while True:
            part = shrink(self.graphs, given.region, self.noise)
            rows = self.rows[given.rows]
            mean = rows.mean(0)
            beside = torch.cat([rows - mean, mean[None], -mean[None]]) if len(rows) > 1 else None
            found, points, worth = margins(part, self.ball, rows, 2 * STEPS, beside)
            bound, known = found[: len(rows)], found[len(rows) :]
            order = bound.argsort()
            order = order[~(bound[order] > TINY)]
            given = replace(given, rows=given.rows[order], adversarial=self._fools(points))
            if given.end is not None or done == rounds:
                return given
            gap = max(-float(bound[order[0]]), TINY)
            if len(rows) == 1:
                part, unit = part.below(mean, 0.0), gap
            else:
                level, low, high = TINY - float(known[:-2].min()), float(known[-2]), -float(known[-1])
                part, unit = part.below(mean if level < high else None, level), max(level - low, TINY)
            region = tightened(part, self.ball, worth, gap=unit, deadline=deadline)
            if region is None:
                return replace(given, rows=given.rows[:0])
            pays = region.width < (1 - WORTH) * given.region.width
            given = replace(given, region=region, gap=gap)
            if not pays or time.perf_counter() > deadline:
                return replace(given, split=best_split(part, self.ball, region, worth, rows[order], order))
            done += 1

    def _cases(self, region: Region, row: int, deadline: float) -> Outcome:
        """Search one margin's region with the bounds that it has."""
        part = shrink(self.graphs, region, self.noise)

        def leaf(signs: dict[int, Tensor]) -> Outcome:
            off = {at: -torch.ones_like(low) for at, (low, _) in region.known.items()}  # what is not left
            return self._leaf(region, row, {at: part.put_back(at, off[at], signs[at]) for at in off}, deadline)

        search = Search(part, self.ball, fools=self._fools, leaf=leaf)
        end = search.begin() or search.run(deadline, max(MANY, WORK * search.open))
        self.cases += search.cases
        return end

    # ------------------------------------------------------------ linear programmes

    def _leaf(self, region: Region, row: int, signs: dict[int, Tensor], deadline: float) -> Outcome:
        """A case of a region whose every ReLU has a sign."""
        bounds = {}
        for place, (low, high) in region.known.items():
            # bounds and signs are those of float32: exact values may lie beyond them
            room, sign = self.errors[place], signs[place]
            low = torch.where(sign > 0, low.clamp(min=0), low) - room
            high = torch.where(sign < 0, high.clamp(max=0), high) + room
            bounds[place] = torch.maximum(low, self.known[place][0]), torch.minimum(high, self.known[place][1])
        answer = self._program(bounds, torch.tensor([row]), deadline)
        if answer is None:
            return Outcome(stuck=True)
        return Outcome(empty=answer[0] == PROVEN, adversarial=answer[2], by="milp")

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


def _open(known: Known) -> int:
    """Values whose sign is open."""
    return sum(int(((low < 0) & (high > 0)).sum()) for low, high in known.values())
