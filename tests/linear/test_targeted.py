"""Targeted distances of linear models: against a general solver, the untargeted ones, and attacks."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from core.linear.exact import AffineModel, smallest
from core.linear.targeted import smallest_to
from core.specs.methods.base import NORMS

ORDERS = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}
SMOOTH = [norm for norm in NORMS if norm != "l0"]


def small(seed: int, classes: int = 5, features: int = 8) -> tuple[AffineModel, torch.Tensor]:
    """A random model, and images."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, features, dtype=torch.float64, generator=generator)
    model = AffineModel(weight, 0.2 * torch.randn(classes, dtype=torch.float64, generator=generator))
    return model, torch.rand(12, 1, 2, features // 2, dtype=torch.float64, generator=generator)


def searched(model: AffineModel, x: torch.Tensor, target: int, norm: str, box: bool) -> float:
    """SLSQP on δ and, for linf and l1, on the slacks that make the norm smooth; inf where it ends infeasible."""
    point, d = x.flatten().numpy(), x.numel()
    others = np.arange(len(model.bias)) != target
    slopes = (model.weight[target] - model.weight[others]).numpy()
    need = -(slopes @ point + (model.bias[target] - model.bias[others]).numpy())
    low, high = (-point, 1 - point) if box else (np.full(d, -50.0), np.full(d, 50.0))
    extra = {"l2": 0, "linf": 1, "l1": d}[norm]

    def value(z: np.ndarray) -> float:
        return float(z[:d] @ z[:d]) if norm == "l2" else float(z[d:].sum())

    rules = [{"type": "ineq", "fun": lambda z: slopes @ z[:d] - need}]
    if extra:
        rules.append({"type": "ineq", "fun": lambda z: np.r_[z[d:] - z[:d], z[d:] + z[:d]]})
    best = np.inf
    for seed in range(4):
        start = np.random.default_rng(seed).uniform(np.maximum(low, -1), np.minimum(high, 1))
        begin = np.r_[start, np.full(extra, 1.0)]
        bounds = [*zip(low, high, strict=True), *[(0, None)] * extra]
        found = minimize(
            value, begin, bounds=bounds, constraints=rules, method="SLSQP", options={"maxiter": 800, "ftol": 1e-13}
        )
        if (slopes @ found.x[:d] >= need - 1e-7).all():
            best = min(best, float(np.linalg.norm(found.x[:d], ORDERS[norm])))
    return best


@pytest.mark.sampled(5)
@pytest.mark.parametrize("box", [True, False])
@pytest.mark.parametrize("norm", SMOOTH)
def test_smallest_to_is_what_a_general_solver_finds(norm: str, box: bool) -> None:
    """Five classes, eight features, every target; where the box has none, so it is said."""
    seen = set()
    for seed in range(2):
        model, x = small(seed)
        for target in range(5):
            found = smallest_to(model, x[:4], torch.full((4,), target), norm=norm, box=box)
            for row in range(4):
                expected = searched(model, x[row], target, norm, box)
                assert float(found.distance[row]) == pytest.approx(expected, rel=1e-4, abs=1e-6)
                seen.add(np.isfinite(expected))
    assert True in seen


@pytest.mark.parametrize("norm", NORMS)
def test_smallest_to_is_no_nearer_than_the_nearest_class(norm: str) -> None:
    """Never below the untargeted distance, equal for the best target; the delta is that long, in the box, and wins."""
    model, x = small(7, classes=4, features=10)
    y = model.logits(x).argmax(1)
    near = smallest(model, x, y, norm=norm).distance
    best = torch.full_like(near, torch.inf)
    for target in range(4):
        found = smallest_to(model, x, torch.full((len(x),), target), norm=norm)
        able = found.distance.isfinite()
        assert (found.distance[y == target] == 0).all()
        assert (found.rival[able] == target).all()
        assert (found.rival[~able] == -1).all()
        moved = x + found.delta
        assert (moved >= -1e-9).all()
        assert (moved <= 1 + 1e-9).all()
        logits = model.logits(moved)[able]
        assert (logits[:, target] >= logits.amax(1) - 1e-5).all()
        rows = y != target
        assert (found.distance[rows] >= near[rows] - 1e-6).all()
        best = torch.where(rows, torch.minimum(best, found.distance), best)
    assert torch.allclose(best, near, rtol=1e-5, atol=1e-6)


def test_unreachable_targets_and_bad_input() -> None:
    """A class that never wins is infinitely far; norms, shapes and targets are checked."""
    model = AffineModel(torch.tensor([[1.0, 0], [0, 1], [0, 0]]).double(), torch.tensor([1.0, 1.0, 0.0]).double())
    x = torch.rand(3, 1, 1, 2)
    for norm in NORMS:
        found = smallest_to(model, x, torch.tensor([2, 2, 2]), norm=norm)
        assert found.distance.isinf().all()
        assert not found.delta.any()
    with pytest.raises(ValueError, match="norm: expected one of linf, l2, l1, l0, got 'l3'"):
        smallest_to(model, x, torch.tensor([2, 2, 2]), norm="l3")
    with pytest.raises(ValueError, match="box: expected True in l0, got False"):
        smallest_to(model, x, torch.tensor([2, 2, 2]), norm="l0", box=False)
    with pytest.raises(ValueError, match="y_target: expected 3 classes from 0 to 2"):
        smallest_to(model, x, torch.tensor([2, 2, 3]), norm="l2")
    with pytest.raises(ValueError, match="x: expected images of 2 features"):
        smallest_to(model, torch.rand(3, 1, 2, 2), torch.tensor([2, 2, 2]), norm="l2")


@pytest.mark.slow
def test_fewest_features_to_a_target_are_those_of_trying_all_sets() -> None:
    """Every set of features, smallest first, by a linear programme each; what comes back reaches the target."""
    for seed in range(3):
        model, x = small(seed)
        for target in range(5):
            y_target = torch.full((3,), target)
            found = smallest_to(model, x[:3], y_target, norm="l0")
            for row in range(3):
                assert found.distance[row] == fewest_by_trying(model, x[row], target)
            logits = model.logits(x[:3] + found.delta)
            reached = found.distance.isfinite()
            assert (logits.gather(1, y_target[:, None])[:, 0] >= logits.amax(1) - 1e-6)[reached].all()
            assert ((found.delta != 0).flatten(1).sum(1).double() == found.distance)[reached].all()


def fewest_by_trying(model: AffineModel, x: torch.Tensor, target: int) -> float:
    """The size of the smallest set of features that can be moved so that the target wins; inf where none can."""
    point = x.flatten().numpy()
    others = np.arange(len(model.bias)) != target
    slopes = (model.weight[target] - model.weight[others]).numpy()
    need = -(slopes @ point + (model.bias[target] - model.bias[others]).numpy())
    for size in range(len(point) + 1):
        for features in combinations(range(len(point)), size):
            some = list(features)
            if not some:
                able = (need <= 0).all()
            else:
                bounds = list(zip(-point[some], 1 - point[some], strict=True))
                able = linprog(np.zeros(size), A_ub=-slopes[:, some], b_ub=-need, bounds=bounds).status == 0
            if able:
                return float(size)
    return float("inf")
