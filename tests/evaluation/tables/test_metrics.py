"""The five metrics: their identity, their undefined cases, and exact intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.evaluation.tables.metrics import clopper_pearson, five_metrics

images = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(0.1, 1, allow_nan=False)), min_size=1, max_size=50
)


@given(images)
def test_confidence_is_the_mix_of_right_and_wrong(rows: list[tuple[int, int, float]]) -> None:
    """C = A·Cc + E·Ce to 1e-6, an empty part counting nothing (MATHEMATICS §7)."""
    y, pred, confidence = (np.array(column) for column in zip(*rows, strict=True))
    made = five_metrics(y, pred, confidence)
    parts = [
        share * value
        for share, value in ((made.accuracy, made.confidence_correct), (made.error, made.confidence_wrong))
        if share
    ]
    assert made.confidence == pytest.approx(sum(parts), abs=1e-6)
    assert made.accuracy + made.error == pytest.approx(1)
    assert made.low <= made.accuracy <= made.high


def test_undefined_confidences_are_nan_not_zero() -> None:
    """All right: the confidence when wrong is undefined; all wrong: the other one."""
    right = five_metrics(np.array([1, 2]), np.array([1, 2]), np.array([0.9, 0.8]))
    assert math.isnan(right.confidence_wrong)
    assert right.confidence_correct == pytest.approx(0.85)
    wrong = five_metrics(np.array([1, 2]), np.array([2, 1]), np.array([0.9, 0.8]))
    assert math.isnan(wrong.confidence_correct)
    assert wrong.calibration_gap == pytest.approx(0.85)


def test_bad_columns_are_refused() -> None:
    """No images, or columns of different lengths."""
    with pytest.raises(ValueError, match="equal lengths above 0, got 0, 0, 0"):
        five_metrics(np.array([]), np.array([]), np.array([]))
    with pytest.raises(ValueError, match="got 2, 1, 2"):
        five_metrics(np.array([1, 2]), np.array([1]), np.array([0.5, 0.5]))


def test_interval_has_the_known_values() -> None:
    """Textbook values, the ends, and nothing known of nothing."""
    low, high = clopper_pearson(5, 10)
    assert (low, high) == (pytest.approx(0.1871, abs=1e-4), pytest.approx(0.8129, abs=1e-4))
    assert clopper_pearson(0, 10) == (0.0, pytest.approx(1 - 0.025 ** (1 / 10)))
    assert clopper_pearson(10, 10) == (pytest.approx(0.025 ** (1 / 10)), 1.0)
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="hits: expected 0 to n = 3, got 4"):
        clopper_pearson(4, 3)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_interval_covers_as_often_as_it_says(share: float) -> None:
    """At least 95 % of samples have the true share inside (it is conservative)."""
    n = 40
    hits = np.random.default_rng(0).binomial(n, share, 4000)
    covered = [low <= share <= high for low, high in map(lambda k: clopper_pearson(int(k), n), hits)]
    assert np.mean(covered) >= 0.945
