"""What batches of another size, which add in another order, may make of numbers."""

from __future__ import annotations

import numpy as np

ROUNDING = {"rtol": 1e-3, "atol": 1e-4}


def assert_arrays_alike(one: np.ndarray, other: np.ndarray, what: str) -> None:
    """Steps of an attack may enlarge what a value in a hundred is rounded by; another draw changes most of them."""
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-2, err_msg=what)
    apart = ~np.isclose(one, other, **ROUNDING, equal_nan=True)
    assert apart.sum() <= apart.size // 100, f"{what}: {apart.sum()} of {apart.size} values differ"
