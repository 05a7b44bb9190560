"""Whether a call draws random numbers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from core.networks.draws import drawn_by


@pytest.mark.parametrize(
    ("call", "drawn"),
    [
        (lambda: torch.rand(()), True),
        (lambda: torch.nn.functional.dropout(torch.ones(3), training=True), True),
        (lambda: torch.nn.functional.dropout(torch.ones(3), training=False), False),
        (lambda: np.random.rand(), True),  # noqa: NPY002
        (random.random, True),
        (lambda: torch.rand(3, generator=torch.Generator().manual_seed(0)), False),
        (lambda: torch.ones(3).sum(), False),
    ],
)
def test_a_draw_is_seen(call: Callable[[], Any], drawn: bool) -> None:
    """From each global generator; a generator of its own with a fixed seed is none."""
    assert drawn_by(call) is drawn
