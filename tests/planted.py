"""What a planted card has for an artifact to be read by this version, where a test does not care what is in it."""

from __future__ import annotations

from typing import Any

CARD: dict[str, Any] = {
    "class_names": [str(digit) for digit in range(10)],
    "shape": [1, 8, 8],
    "metrics": {"test_accuracy": 0.5, "test_low": 0.4, "test_high": 0.6, "test_n": 100},
    "data": {},
    "network": {"parameters": 1},
    "timing": {"seconds": 1.0},
    "history": [],
    "device": "cpu",
    "framing": {},
    "found": [],
    "rows": [],
}
"""Of any task."""
