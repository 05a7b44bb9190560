"""The logistic toy: every constant of the exercise, gradients against autograd, the steps to the flip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.linear import toy


def test_constants_of_the_exercise() -> None:
    """Output and slope at both points, and θ is the minimiser that it is said to be."""
    assert toy.output(toy.X_A) == pytest.approx(0.11920, abs=5e-6)
    assert toy.output(toy.X_B) == pytest.approx(0.88080, abs=5e-6)
    assert toy.slope(toy.X_A) == pytest.approx(0.10499, abs=5e-6)
    assert toy.slope(toy.X_B) == pytest.approx(0.10499, abs=5e-6)
    theta = torch.tensor(toy.THETA, requires_grad=True)
    a, b = torch.tensor(toy.X_A) @ theta, torch.tensor(toy.X_B) @ theta
    loss = torch.nn.functional.softplus(a) + torch.nn.functional.softplus(-b) + toy.DECAY / 2 * theta @ theta
    (slope,) = torch.autograd.grad(loss, theta)
    assert torch.allclose(slope, torch.zeros(6, dtype=torch.float64), atol=1e-12)


def test_gradients_are_those_of_autograd() -> None:
    """Of f by θ and by x, at random points."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, theta = rng.normal(size=6), rng.normal(size=6)
        leaves = [torch.tensor(v, requires_grad=True) for v in (x, theta)]
        by_x, by_theta = torch.autograd.grad(torch.sigmoid(leaves[0] @ leaves[1]), leaves)
        assert np.allclose(toy.gradient_x(x, theta), by_x.numpy())
        assert np.allclose(toy.gradient_theta(x, theta), by_theta.numpy())


@pytest.mark.parametrize(
    ("objective", "rate", "steps"),
    [("loss", 0.1, 7), ("loss", 0.01, 72), ("loss", 1.0, 1), ("output", 0.1, 29), ("output", 0.01, 282)],
)
def test_steps_to_flip(objective: str, rate: float, steps: int) -> None:
    """As counted for the exercise; from x_B it is the same, by symmetry."""
    for start in (toy.X_A, toy.X_B):
        assert toy.steps_to_flip(start, rate=rate, objective=objective) == steps
    assert toy.input_path(toy.X_A, rate=rate, steps=steps - 1, objective=objective).flip is None


def test_walk_is_autograds_and_stays_on_the_line() -> None:
    """Each step is the gradient's; every point is x_A + cθ; features 5 and 6 never move; c = 1 is x_B."""
    path = toy.input_path(toy.X_A, rate=0.3, steps=10)
    for here, after in zip(path.points[:-1], path.points[1:], strict=True):
        leaf = torch.tensor(here, requires_grad=True)
        loss = torch.nn.functional.softplus(-(leaf @ torch.tensor(toy.THETA)))
        (slope,) = torch.autograd.grad(loss, leaf)
        assert np.allclose(after, here - 0.3 * slope.numpy())
    c = (path.points - toy.X_A) @ toy.THETA / 4
    assert np.allclose(path.points, toy.X_A + c[:, None] * toy.THETA)
    assert (path.points[:, 4:] == 0).all()
    assert np.allclose(toy.X_A + toy.THETA, toy.X_B)
    assert toy.output(toy.X_A + toy.THETA / 2) == 0.5
    assert toy.input_path(toy.X_A, rate=1.0, steps=1).f[-1] == pytest.approx(0.821, abs=5e-4)


def test_smallest_changes_of_the_toy() -> None:
    """l2 = 1, linf = ½, l1 = 2 to the boundary; in the box two features tie and three flip."""
    from core.linear.exact import AffineModel, smallest

    model = AffineModel(
        torch.stack([torch.zeros(6, dtype=torch.float64), torch.tensor(toy.THETA)]), torch.zeros(2).double()
    )
    x, y = torch.tensor(toy.X_A).view(1, 1, 1, 6), torch.tensor([0])
    for norm, size in (("l2", 1), ("linf", 0.5), ("l1", 2), ("l0", 3)):
        assert float(smallest(model, x, y, norm=norm).distance) == pytest.approx(size)
    tie = toy.X_A.copy()
    tie[:2] = toy.X_B[:2]
    assert toy.output(tie) == 0.5


def test_bad_input_is_named() -> None:
    """Objective, rate, steps."""
    with pytest.raises(ValueError, match="objective: expected one of loss, output"):
        toy.input_path(toy.X_A, rate=1, steps=1, objective="mse")
    with pytest.raises(ValueError, match="rate: expected a finite number"):
        toy.input_path(toy.X_A, rate=float("nan"), steps=1)
    with pytest.raises(ValueError, match="steps: expected 0 or more"):
        toy.input_path(toy.X_A, rate=1, steps=-1)
