"""The image that is attacked, and what is known of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Picture:
    """The image that is attacked.

    Attributes:
        x: (C, H, W) float32 in [0, 1].
        label: its true class; None where nobody knows it.
        name: what it is, such as `test image 42`.
        stream: the number that an attack's random numbers are drawn from.
        guess: the class that the model is known to predict, from its test table; None where it is not known.
        confidence: with which probability.
    """

    x: np.ndarray
    label: int | None
    name: str
    stream: int = 0
    guess: int | None = None
    confidence: float = 0.0

    @cached_property
    def digest(self) -> str:
        """A short name of its pixels."""
        return hashlib.sha256(self.x.tobytes() + str(self.x.shape).encode()).hexdigest()[:16]
