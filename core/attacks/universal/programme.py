"""A linear programme over one perturbation s, its dual bound, and the s that comes nearest to its constraints.

    minimise t   subject to   rows · s >= need,   |s_j| <= t,   low_j <= s_j <= high_j

Weak duality turns any weights of the rows into a lower bound, and weights that make it infinite prove that there is no
s (Farkas): they name the rows that contradict each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import linprog

from core.attacks.engine.geometry import water_level


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

    def within(self, centre: np.ndarray, reach: float) -> Programme:
        """The same programme with s at most `reach` from `centre` in every feature."""
        low, high = np.maximum(self.low, centre - reach), np.minimum(self.high, centre + reach)
        return Programme(self.rows, self.need, low, high)

    def solve(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The s (D,) of smallest linf norm and the weights (M,) that prove it; None where no s is feasible."""
        count, features = self.rows.shape
        one = sparse.eye_array(features)
        level = sparse.csr_array(-np.ones((features, 1)))
        matrix = sparse.block_array([[sparse.csr_array(-self.rows), None], [one, level], [-one, level]])
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
        """The s (D,) whose worst row misses its need by the least, by how much, and the weights that prove it."""
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
