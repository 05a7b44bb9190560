"""The five metrics of exercise set 3 and the intervals that belong to every share. NumPy only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv


@dataclass(frozen=True)
class FiveMetrics:
    """Accuracy A, error E, mean confidence C, and mean confidence when correct and when wrong (NaN when there is none).

    C = A·confidence_correct + E·confidence_wrong. `low` and `high` bound the accuracy (Clopper–Pearson, 95 %).
    """

    n: int
    accuracy: float
    low: float
    high: float
    error: float
    confidence: float
    confidence_correct: float
    confidence_wrong: float

    @property
    def calibration_gap(self) -> float:
        """Mean confidence minus accuracy: positive is overconfident."""
        return self.confidence - self.accuracy

    def row(self) -> dict[str, float]:
        """The metrics as a row of a table."""
        return {**vars(self), "calibration_gap": self.calibration_gap}


def five_metrics(y: np.ndarray, pred: np.ndarray, confidence: np.ndarray) -> FiveMetrics:
    """The five metrics over n images.

    Args:
        y: true classes (n,).
        pred: predicted classes (n,).
        confidence: the largest softmax probability of each image (n,), in [0, 1].

    Raises:
        ValueError: no images, or arrays of different lengths.
    """
    if not len(y) == len(pred) == len(confidence) or len(y) == 0:
        raise ValueError(
            f"y, pred, confidence: expected equal lengths above 0, got {len(y)}, {len(pred)}, {len(confidence)}"
        )
    correct = np.asarray(y) == np.asarray(pred)
    hits, n = int(correct.sum()), len(correct)
    low, high = clopper_pearson(hits, n)
    p = np.asarray(confidence, dtype=np.float64)
    return FiveMetrics(
        n=n,
        accuracy=hits / n,
        low=low,
        high=high,
        error=1 - hits / n,
        confidence=float(p.mean()),
        confidence_correct=float(p[correct].mean()) if hits else math.nan,
        confidence_wrong=float(p[~correct].mean()) if hits < n else math.nan,
    )


def clopper_pearson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a share, hits of n, at a confidence level in (0, 1) (Clopper and Pearson 1934).

    (0, 1) when n is 0. Raises ValueError unless 0 ≤ hits ≤ n.
    """
    if not 0 <= hits <= n:
        raise ValueError(f"hits: expected 0 to n = {n}, got {hits}")
    low, high = intervals(np.array([hits]), n, level)
    return float(low[0]), float(high[0])


def intervals(hits: np.ndarray, n: int, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of `clopper_pearson` for many counts `hits` of the same n at once."""
    hits = np.asarray(hits, dtype=np.float64)
    if n == 0:
        return np.zeros(hits.shape), np.ones(hits.shape)
    tail = (1 - level) / 2
    # one end is open where there are no hits, or nothing else: there the quantile has no meaning
    low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), n - hits + 1, tail), 0.0)
    high = np.where(hits < n, betaincinv(hits + 1, np.maximum(n - hits, 1), 1 - tail), 1.0)
    return low, high
