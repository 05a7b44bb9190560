"""The logistic toy of exercise set 4: six features, one weight vector, gradient steps on the input.

f(x) = σ(θ·x). Every step on the input is along θ, so every iterate from x_A is x_A + cθ: c = ½ is the boundary, c = 1
is x_B, and features 5 and 6, whose weight is 0, never move. numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.checks import check_choice

THETA = np.array([-1.0, 1.0, -1.0, 1.0, 0.0, 0.0])
X_A = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 0.0])
"""Class 0: f = σ(-2)."""
X_B = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 0.0])
"""Class 1: f = σ(2)."""
DECAY = 1 / (1 + np.exp(2.0))
"""λ = σ(-2): θ minimises the summed log loss of (x_A, 0) and (x_B, 1) plus λ/2 ‖θ‖²."""
OBJECTIVES = ("loss", "output")


@dataclass(frozen=True)
class InputPath:
    """Gradient steps on the input: points (steps + 1, 6), f at each (steps + 1,), and the class they start from.

    Attributes:
        flip: the first step whose f is strictly across ½; None where none is.
    """

    points: np.ndarray
    f: np.ndarray
    label: int

    @property
    def flip(self) -> int | None:
        """The first step that is classified as the other class."""
        across = self.f > 0.5 if self.label == 0 else self.f < 0.5
        return int(across.argmax()) if across.any() else None


def output(x: np.ndarray, theta: np.ndarray = THETA) -> np.ndarray:
    """f(x) = σ(θ·x) in (0, 1), of one point (6,) or of many (n, 6)."""
    return 1 / (1 + np.exp(-(x @ theta)))


def slope(x: np.ndarray, theta: np.ndarray = THETA) -> np.ndarray:
    """f(1 - f): the derivative of σ at θ·x."""
    f = output(x, theta)
    return f * (1 - f)


def gradient_theta(x: np.ndarray, theta: np.ndarray = THETA) -> np.ndarray:
    """∇_θ f = f(1 - f) x: along the input."""
    return slope(x, theta) * x


def gradient_x(x: np.ndarray, theta: np.ndarray = THETA) -> np.ndarray:
    """∇ₓ f = f(1 - f) θ: along the weights, whatever the input."""
    return slope(x, theta) * theta


def input_path(start: np.ndarray, *, rate: float, steps: int, objective: str = "loss") -> InputPath:
    """Move the input towards the other class by gradient steps.

    Args:
        start: (6,).
        rate: η, 0 or more.
        steps: 0 or more.
        objective: "loss" descends the cross-entropy of the other class: a step of η(1 - f)θ towards class 1, -ηfθ
            towards 0. "output" climbs or descends f itself: ±η f(1 - f) θ, slow where f is sure.

    Raises:
        ValueError: an unknown objective, a negative or infinite rate, negative steps.
    """
    check_choice("objective", objective, OBJECTIVES)
    if not 0 <= rate < np.inf:
        raise ValueError(f"rate: expected a finite number of 0 or more, got {rate}")
    if steps < 0:
        raise ValueError(f"steps: expected 0 or more, got {steps}")
    label = int(output(start) > 0.5)
    sign = 1 - 2 * label
    points = [np.asarray(start, dtype=float)]
    for _ in range(steps):
        f = output(points[-1])
        pull = (f if label else 1 - f) if objective == "loss" else f * (1 - f)
        points.append(points[-1] + sign * rate * pull * THETA)
    line = np.stack(points)
    return InputPath(line, output(line), label)


def steps_to_flip(start: np.ndarray, *, rate: float, objective: str = "loss", max_steps: int = 10_000) -> int | None:
    """The first step across the boundary, or None within `max_steps`."""
    return input_path(start, rate=rate, steps=max_steps, objective=objective).flip if rate > 0 else None
