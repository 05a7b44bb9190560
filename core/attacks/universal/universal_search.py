"""What one perturbation s does to a set of images, and the linear programme (`programme`) that is set up there.

A row is minus the gradient of a margin of one image, its need what that margin must fall by (MATHEMATICS section 6: for
a scalar network d_i J_i and c_i).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from core.attacks.engine.engine import confine, input_gradient, leaf_of, logits_of_leaf
from core.attacks.engine.losses import Goal
from core.attacks.universal.programme import Programme
from core.attacks.universal.universal import shifted

Limits = Literal["box", "free", "clip"]
"""What limits s: every image stays in [0, 1]; only |s_j| <= 1; the same, and images are clipped to [0, 1]."""


@dataclass(frozen=True)
class Point:
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
        """Its linf norm."""
        return float(np.abs(self.s).max())

    @property
    def sound(self) -> bool:
        """Whether the programme is finite, so that the search can continue."""
        return bool(np.isfinite(self.programme.rows).all() and np.isfinite(self.programme.need).all())

    def merit(self, price: float) -> float:
        """What the search minimises: the size plus the worst miss times its price."""
        return self.size + price * max(0.0, self.missing)

    def worth(self) -> tuple[float, float]:
        """For comparing: more images fooled first, then the smaller size."""
        return self.fooled, -self.size

    def bound(self) -> float:
        """The dual bound of the programme set up here; nan where there are no numbers."""
        if not self.sound:
            return math.nan
        answer = self.programme.solve()
        return self.programme.bound(self.programme.nearest()[2] if answer is None else answer[1])


class Search:
    """The set of images, and how the programme is set up at a point."""

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        goal: Goal,
        limits: Limits,
        kappa: float,
        batch: int,
        budget: int | None,
        before: Search | None = None,
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
        """Model evaluations left per image, without those of one more look and the verification; None: no limit."""
        return None if self.budget is None else self.budget - self.forwards - self.backwards - self.classes - 2

    def affords(self, evaluations: int = 0) -> bool:
        """Whether the budget allows this many model evaluations, and a look after them."""
        left = self.left()
        return left is None or left >= evaluations

    def image(self, s: np.ndarray) -> Tensor:
        """(C, H, W) in the images' dtype."""
        return torch.from_numpy(s).to(self.x.device, self.x.dtype).view_as(self.x[0])

    def look(self, s: np.ndarray) -> Point:
        """Query all images plus s: one forward pass, and one backward pass per class."""
        rows, needs, margins, fooled = [], [], [], 0
        for start in range(0, len(self.x), self.batch):
            part = slice(start, start + self.batch)
            goal = self.goal.take(part)
            delta = self.image(s)
            leaf = leaf_of(shifted(self.model, self.x[part], delta, clip=self.clips))
            logits = logits_of_leaf(self.model, leaf)
            moved = self.x[part] + delta
            # a pixel that is clipped already has no slope
            cut = ((moved < 0) | (moved > 1)) if self.limits == "clip" else torch.zeros_like(moved, dtype=torch.bool)
            found, need = _rows(logits, leaf, goal, cut)
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
        return Point(s, programme, max(margins), fooled / len(self.x))

    def first(self, point: Point) -> dict[str, Tensor]:
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


def _rows(logits: Tensor, leaf: Tensor, goal: Goal, cut: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (M, D) and needs (M,), image by image: for a target K - 1 each, else 1, towards the nearest class.

    The slopes of the K logits come one after the other; more are kept only where all of them are wanted. Features of
    `cut` (N, C, H, W) have none.
    """
    classes, own = logits.shape[1], goal.label[:, None]
    sign = 1 if goal.targeted else -1

    def slope(which: Tensor, last: bool = False) -> Tensor:
        found = input_gradient(logits.gather(1, which).sum(), leaf, retain_graph=not last)
        return torch.where(cut, 0, found).flatten(1)

    held, value = slope(own), logits.detach()
    rows, needs = [], []
    nearest, row, need = None, torch.zeros_like(held), torch.zeros_like(value[:, 0])
    for rank in range(classes - 1):
        other = rank + (rank >= own).long()  # every class but the label
        now = sign * (held - slope(other, rank + 2 == classes))
        gap = sign * (value.gather(1, other) - value.gather(1, own))[:, 0]
        if goal.targeted:
            rows.append(now)
            needs.append(gap)
            continue
        reach = (gap / now.abs().sum(1)).nan_to_num(0.0, torch.inf, -torch.inf)  # nan where neither matters
        nearer = torch.ones_like(reach, dtype=torch.bool) if nearest is None else reach < nearest
        nearest = reach if nearest is None else torch.where(nearer, reach, nearest)
        row, need = torch.where(nearer[:, None], now, row), torch.where(nearer, gap, need)
    if goal.targeted:
        return torch.stack(rows, 1).flatten(0, 1), torch.stack(needs, 1).flatten()
    return row, need
