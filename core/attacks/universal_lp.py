"""The smallest perturbation s, the same for every image of a set, by linear programming.

    minimise t   subject to   rows · s >= need,   |s_j| <= t,   low_j <= s_j <= high_j

A row is minus the gradient of a margin of one image, its need what that margin must fall by (MATHEMATICS section 6: for
a scalar network d_i J_i and c_i). Exact where the logits are linear in the image; else the programme is set up again at
each point, inside a trust region. Weak duality turns any weights of the rows into a lower bound, and weights that make
it infinite prove that there is no s (Farkas): they name the images that contradict each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from scipy.optimize import linprog
from torch import Tensor, nn

from core.attacks.engine import Streams, check, confine, frozen, leaf_of, logits_of_leaf
from core.attacks.geometry import water_level
from core.attacks.jacobian import class_gradients
from core.attacks.losses import Goal
from core.attacks.universal import Universal, shifted, universal_gradient, verified
from core.progress import Progress

FIRST_RADIUS = 0.02
"""Of the trust region, in units of a pixel's range."""
LAST_RADIUS = 1e-4
LP_BATCH = 64
"""Images in one pass; each has K gradients alive at once."""
SETTLED = 1e-6
"""A programme that hopes for less than this, in linf of s, ends the search."""
STARTS = 4
CLIPPED_STEPS = 300
"""Of the second stage: starts that are tried, and the gradient steps that lead to the first one."""
LEAST_DRIVEN = 4
"""Passes that one such step and what goes with it need."""


@dataclass(frozen=True)
class Programme:
    """One linear programme over s: `rows @ s >= need` and `low <= s <= high`, with the smallest linf norm.

    Attributes:
        rows: (M, D) float64.
        need: (M,) float64.
        low: (D,) float64, finite, 0 or less.
        high: (D,) float64, finite, 0 or more.
    """

    rows: np.ndarray
    need: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def bound(self, weights: np.ndarray) -> float:
        """What non-negative weights (M,) of the rows prove: no feasible s has a smaller linf norm; inf: there is none.

        With v = weights @ rows, every feasible s has v · s >= weights @ need, and |s_j| <= t gives no more than
        sum_j |v_j| min(t, room_j). The bound is the t at which that is enough; with room for it everywhere,
        weights @ need / ||v||_1.

        Raises:
            ValueError: a negative weight.
        """
        if (weights < 0).any():
            raise ValueError(f"weights: expected numbers of 0 or more, got {weights.min():g}")
        slope = weights @ self.rows
        room = np.where(slope > 0, self.high, -self.low)
        need = torch.tensor([weights @ self.need])
        return float(water_level(torch.from_numpy(slope)[None], torch.from_numpy(room)[None], need))

    def within(self, centre: np.ndarray, radius: float) -> Programme:
        """The same programme with s at most `radius` from `centre` in every feature."""
        low, high = np.maximum(self.low, centre - radius), np.minimum(self.high, centre + radius)
        return Programme(self.rows, self.need, low, high)

    def solve(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The s (D,) of smallest linf norm and the weights (M,) that prove it; None where no s is feasible."""
        count, features = self.rows.shape
        one = sparse.eye_array(features)
        least = -np.ones((features, 1))
        matrix = sparse.block_array(
            [[sparse.csr_array(-self.rows), None], [one, sparse.csr_array(least)], [-one, sparse.csr_array(least)]]
        )
        found = linprog(
            np.append(np.zeros(features), 1.0),
            A_ub=matrix.tocsc(),
            b_ub=np.concatenate([-self.need, np.zeros(2 * features)]),
            bounds=np.column_stack([np.append(self.low, 0), np.append(self.high, np.inf)]),
            method="highs",
        )
        if found.status != 0:
            return None
        return found.x[:-1], np.maximum(0, -found.ineqlin.marginals[:count])

    def nearest(self) -> tuple[np.ndarray, float, np.ndarray]:
        """The s that misses the needs by least: s (D,), by how much the worst row misses, the weights that prove it."""
        count, features = self.rows.shape
        found = linprog(
            np.append(np.zeros(features), 1.0),
            A_ub=np.column_stack([-self.rows, -np.ones(count)]),
            b_ub=-self.need,
            bounds=np.column_stack([np.append(self.low, 0), np.append(self.high, np.inf)]),
            method="highs",
        )
        if found.status != 0:
            raise ArithmeticError(f"the linear programme could not be solved: {found.message}")
        return found.x[:-1], float(found.x[-1]), np.maximum(0, -found.ineqlin.marginals)


def universal_lp(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    boxed: bool = True,
    kappa: float = 0.01,
    rounds: int = 30,
    clipped: bool = True,
    y_target: Int[Tensor, " n"] | None = None,
    budget: int | None = None,
    batch: int = LP_BATCH,
    on_progress: Progress | None = None,
) -> Universal:
    """Find the smallest s in linf that fools every one of these images at once, or say why there is none.

    The rows of an image: towards a target, one for each other class, which must all fall below the target; else one,
    towards the class that is nearest by first order (of two classes, the other one). So the programme is the whole
    truth for linear models that are targeted or have two classes.

    Stage 1: programmes at the images themselves, which give `bound`, `first` and the contradiction if there is one, and
    then again at each point reached, inside a trust region that follows how well the rows predict. No image is clipped:
    with `boxed` s leaves every image in [0, 1], without it images may leave. Stage 2, where stage 1 finds no s that
    fools all and `clipped` is on: images plus s are clipped to [0, 1], which lets even sets have one whose rows
    contradict each other. Gradient steps on the whole set at |s_j| <= 1 (`universal_gradient`) give a start, random
    points up to three more, and programmes go on from there. What is found is an upper bound in both stages.

    Args:
        model: pixels to logits; left untouched. With a mask, s is 0 outside it.
        x: (N, C, H, W) in [0, 1]: the set S. Tens of images; a hundred take a while.
        y: (N,) int64 true classes.
        boxed: keep x + s in [0, 1] for all images of the set; off, |s_j| <= 1 is the only limit.
        kappa: margin, in logits, by which each image is to be fooled; 0 or more (0 ends at ties).
        rounds: linear programmes at most, at least 1.
        clipped: try the second stage where the first fails.
        y_target: (N,) int64; given, the images are to be read as these classes.
        budget: most passes an image, verification included: no programme is set up that would exceed it, which takes a
            forward pass and a backward pass a class, and gradient steps get at most half of what is left. At least the
            number of classes and 2. None: no limit.
        batch: images in one pass.
        on_progress: called each round with rounds done, all, and `success`, `linf` of s.

    Returns:
        Where no s fools all, the one that fools the most. `trace`: `bound`, the dual lower bound of the first programme
        (inf: impossible), for linear models a proof, else true to first order at the images; `first`, its optimum
        (nan: impossible); `weights` (N,) its multipliers, those of an image summed, which sum to 1: the images that
        the bound rests on; `contradiction`, 1 if these weights prove that the first programme has no solution;
        `here`, the dual bound of the programme where the search ended, which is linf of s where that is a smooth local
        optimum; `rounds` (R, 3): after each programme linf of s, share fooled, radius; `stage`, 1 or 2; `clips`,
        whether images are cut to [0, 1].

    Raises:
        ValueError: bad input, naming the argument.
    """
    for name, count in (("rounds", rounds), ("batch", batch)):
        if count < 1:
            raise ValueError(f"{name}: expected at least 1, got {count}")
    if not 0 <= kappa < math.inf:
        raise ValueError(f"kappa: expected a number of 0 or more, got {kappa}")
    check(model, x, y, y_target=y_target)
    goal = Goal.of(y, y_target)
    with frozen(model):
        search = _Search(model, x, goal, "box" if boxed else "free", kappa, batch, budget)
        start = search.look(np.zeros(x[0].numel()))
        trace = search.first(start)
        best, here, history = _descend(search, start, rounds, on_progress)
        stage = 1
        if clipped and best.fooled < 1 and start.sound and search.affords(LEAST_DRIVEN):
            stage, search = 2, _Search(model, x, goal, "clip", kappa, batch, budget, search)
            for number in range(STARTS):
                if number and not search.affords():
                    break
                first = _drawn(search, number) if number else _driven(search, y, y_target)
                found, last, more = _descend(search, first, rounds, on_progress)
                history += more
                if number == 0 or found.worth() > best.worth():
                    best, here = found, last
                if best.fooled == 1:
                    break
        trace |= {
            "here": torch.tensor(here.bound()),
            "rounds": torch.tensor(history, dtype=torch.float64).view(-1, 3),
            "stage": torch.tensor(stage),
            "clips": torch.tensor(search.clips),
        }
        return verified(
            model,
            x,
            goal,
            search.image(best.s),
            torch.full_like(y, search.forwards),
            torch.full_like(y, search.backwards),
            trace,
            clip=search.clips,
            batch=batch,
        )


def _descend(
    search: _Search, here: _Point, rounds: int, on_progress: Progress | None
) -> tuple[_Point, _Point, list[list[float]]]:
    """Programme after programme from a point: the best point seen, the last one, and (linf, share fooled, radius)."""
    best, price, radius, history = here, 1.0, FIRST_RADIUS, []
    for turn in range(rounds if here.sound else 0):
        if not search.affords():
            break
        step, missing, price = _next(here, radius, price)
        there = search.look(step)
        hoped = here.merit(price) - (float(np.abs(step).max()) + price * missing)
        gained = here.merit(price) - there.merit(price)
        best = max(best, there, key=_Point.worth)
        history.append([there.size, there.fooled, radius])
        if on_progress:
            on_progress(turn + 1, rounds, phase=search.phase, success=best.fooled, linf=best.size)
        if not there.sound or hoped < SETTLED:
            break
        if gained > 0.1 * hoped:
            here = there
        radius = min(1.0, 2 * radius) if gained > 0.7 * hoped else radius / (1 if gained > 0.3 * hoped else 3)
        if radius < LAST_RADIUS:
            break
    return best, here, history


def _driven(search: _Search, y: Tensor, y_target: Tensor | None) -> _Point:
    """Where the second stage starts: the best that gradient steps on the set, with clipping, reach at eps 1."""
    left = search.left()
    found = universal_gradient(
        search.model,
        search.x,
        y,
        eps=1.0,
        epochs=CLIPPED_STEPS,
        minibatch=len(y),
        relative_step=0.05,
        kappa=search.kappa,
        validation=0.0,
        y_target=y_target,
        budget=None if left is None else max(LEAST_DRIVEN, left // 2),
        batch=search.batch,
    )
    search.forwards += int(found.forwards.max())
    search.backwards += int(found.backwards.max())
    return search.look(found.delta.flatten().double().cpu().numpy())


def _drawn(search: _Search, number: int) -> _Point:
    """Another start: a random s inside the limits. What it clips breaks the ties that hold other starts back."""
    drawn = Streams.of(0, torch.tensor([number])).uniform(0, 1, search.low.shape, torch.float64)[0].numpy()
    return search.look(search.low + drawn * (search.high - search.low))


@dataclass(frozen=True)
class _Point:
    """A perturbation, what it does, and the programme set up there.

    Attributes:
        s: (D,) float64.
        programme: the rows at the images plus s, their needs counted from s = 0.
        missing: by how much the worst image misses its margin; 0 or less: none does.
        fooled: share of the images.
    """

    s: np.ndarray
    programme: Programme
    missing: float
    fooled: float

    @property
    def size(self) -> float:
        return float(np.abs(self.s).max())

    @property
    def sound(self) -> bool:
        """Whether there are numbers to go on."""
        return bool(np.isfinite(self.programme.rows).all() and np.isfinite(self.programme.need).all())

    def merit(self, price: float) -> float:
        return self.size + price * max(0.0, self.missing)

    def worth(self) -> tuple[float, float]:
        return self.fooled, -self.size

    def bound(self) -> float:
        """The dual bound of the programme set up here; nan where there are no numbers."""
        if not self.sound:
            return math.nan
        answer = self.programme.solve()
        return self.programme.bound(self.programme.nearest()[2] if answer is None else answer[1])


def _next(here: _Point, radius: float, price: float) -> tuple[np.ndarray, float, float]:
    """The programme's answer inside the trust region, by how much it misses there, and what a miss costs by now."""
    local = here.programme.within(here.s, radius)
    answer = local.solve()
    if answer is None:
        step, missing, _ = local.nearest()
        idle = here.s
        price = max(price, 2 * radius / max(here.missing - missing, 1e-9))
    else:
        (step, weights), missing = answer, 0.0
        level = np.abs(step).max()
        idle = here.s.clip(-level, level)
        price = max(price, 2 * float(weights.sum()))
    # a feature that no row depends on stays, inside the new size: the solver may have put it anywhere
    return np.where((local.rows != 0).any(0), step, idle), missing, price


class _Search:
    """The set of images, and how the programme is set up at a point."""

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        goal: Goal,
        limits: Literal["box", "free", "clip"],
        kappa: float,
        batch: int,
        budget: int | None,
        before: _Search | None = None,
    ) -> None:
        self.model, self.x, self.goal, self.limits, self.kappa, self.batch = model, x, goal, limits, kappa, batch
        self.budget = budget
        self.forwards: int = before.forwards if before else 0
        self.backwards: int = before.backwards if before else 0
        self.classes: int = before.classes if before else 0  # known after the first look
        self.clips = limits != "free"
        self.phase = "with clipping" if limits == "clip" else "linear programmes"
        inside = confine(model, torch.ones_like(x[:1]), torch.zeros_like(x[:1])).flatten().double().cpu().numpy()
        flat = x.flatten(1).double().cpu().numpy()
        boxed = limits == "box"
        self.low = -inside * (flat.min(0) if boxed else 1.0)
        self.high = inside * (1 - flat.max(0) if boxed else 1.0)
        self.owner = np.zeros(0, dtype=np.int64)  # the image of each row

    def left(self) -> int | None:
        """Passes left for each image when one more look and the verification are kept back; None: no limit."""
        return None if self.budget is None else self.budget - self.forwards - self.backwards - self.classes - 2

    def affords(self, passes: int = 0) -> bool:
        """Whether there is enough for so many passes, and a look after them."""
        left = self.left()
        return left is None or left >= passes

    def image(self, s: np.ndarray) -> Tensor:
        """(C, H, W) in the images' dtype."""
        return torch.from_numpy(s).to(self.x.device, self.x.dtype).view_as(self.x[0])

    def look(self, s: np.ndarray) -> _Point:
        """One forward pass, and one backward pass a class, of all images plus s."""
        rows, needs, margins, fooled = [], [], [], 0
        for start in range(0, len(self.x), self.batch):
            part = slice(start, start + self.batch)
            goal = self.goal.take(part)
            delta = self.image(s)
            leaf = leaf_of(shifted(self.model, self.x[part], delta, clip=self.clips))
            logits = logits_of_leaf(self.model, leaf)
            slopes = class_gradients(logits, leaf)
            if self.limits == "clip":  # what is cut off already moves nothing
                moved = self.x[part] + delta
                slopes = torch.where(((moved < 0) | (moved > 1))[:, None], 0, slopes)
            found, need = _rows(logits.detach(), slopes.flatten(2), goal)
            rows.append(found.double().cpu().numpy())
            needs.append(need.double().cpu().numpy() + self.kappa)
            margins.append(goal.margin(logits).detach().max().item() + self.kappa)
            fooled += int(goal.reached(logits).sum())
        self.classes = logits.shape[1]
        if not self.affords():
            raise ValueError(f"budget: expected at least {self.classes + 2}, got {self.budget}")
        self.forwards += 1
        self.backwards += self.classes
        matrix, needed = np.concatenate(rows), np.concatenate(needs)
        self.owner = np.arange(len(matrix)) // (len(matrix) // len(self.x))
        programme = Programme(matrix, needed + matrix @ s, self.low, self.high)
        return _Point(s, programme, max(margins), fooled / len(self.x))

    def first(self, point: _Point) -> dict[str, Tensor]:
        """What the programme at the images themselves says: see `trace`."""
        optimum, bound, weights, contradiction = math.nan, math.nan, np.zeros(len(self.owner)), False
        if point.sound:
            answer = point.programme.solve()
            if answer is None:
                weights = point.programme.nearest()[2]
            else:
                optimum, weights = float(np.abs(answer[0]).max()), answer[1]
            bound = point.programme.bound(weights)
            contradiction = bound == math.inf
        share = np.bincount(self.owner, weights, len(self.x))
        share = share / share.sum() if share.sum() > 0 else share
        return {
            "first": torch.tensor(optimum),
            "bound": torch.tensor(bound),
            "weights": torch.from_numpy(share),
            "contradiction": torch.tensor(contradiction),
        }


def _rows(logits: Tensor, slopes: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
    """Rows (M, D) and needs (M,), image by image: for a target K - 1 each, else 1, towards the nearest class."""
    own = goal.label[:, None]
    others = torch.arange(logits.shape[1] - 1, device=logits.device).expand(len(logits), -1)
    others = others + (others >= own)  # every class but the label
    every = torch.arange(len(logits), device=logits.device)[:, None]
    sign = 1 if goal.targeted else -1
    need = sign * (logits[every, others] - logits[every, own])
    row = sign * (slopes[every, own] - slopes[every, others])
    if goal.targeted:
        return row.flatten(0, 1), need.flatten()
    reach = need / row.abs().sum(2)  # nan where neither matters
    nearest = reach.nan_to_num(0.0, torch.inf, -torch.inf).argmin(1)
    return row[every[:, 0], nearest], need[every[:, 0], nearest]
