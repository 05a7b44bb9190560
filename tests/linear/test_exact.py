"""Linear models: every closed form against brute force, and against the attacks, which may never do better."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor, nn

from core.attacks import fgsm, pgd
from core.attacks.minimal.minimum import minimum
from core.linear.exact import AffineModel, affine_model, frontier, largest, robust, smallest
from core.networks.catalogue import build
from core.specs.methods.base import NORMS

SHAPE = (1, 2, 3)


def small(seed: int, classes: int = 3, n: int = 6) -> tuple[AffineModel, Tensor, Tensor]:
    """A random linear model on six pixels, and images that it reads as it does."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, 6, dtype=torch.float64, generator=generator)
    model = AffineModel(weight, 0.3 * torch.randn(classes, dtype=torch.float64, generator=generator))
    x = torch.rand(n, *SHAPE, dtype=torch.float64, generator=generator)
    return model, x, model.logits(x).argmax(1)


def brute(model: AffineModel, x: Tensor, y: int, norm: str, box: bool) -> float:
    """The distance of one image by general solvers, rival by rival."""
    point, best = x.flatten().numpy(), np.inf
    low, high = (-point, 1 - point) if box else (np.full(6, -1e3), np.full(6, 1e3))
    for other in set(range(len(model.bias))) - {y}:
        v = (model.weight[y] - model.weight[other]).numpy()
        need = float(v @ point + model.bias[y] - model.bias[other])
        if norm == "l2":
            start = np.clip(-v * 10, low, high)
            if -v @ start < need:
                continue
            # from the far corner, so that the first point is feasible
            found = minimize(
                lambda d: d @ d,
                start,
                jac=lambda d: 2 * d,
                bounds=list(zip(low, high, strict=True)),
                constraints={"type": "ineq", "fun": lambda d, v=v, need=need: -v @ d - need, "jac": lambda d, v=v: -v},
                method="SLSQP",
                options={"maxiter": 500, "ftol": 1e-12},
            )
            best = min(best, float(np.sqrt(found.fun)))
        elif norm == "l0":
            gain = np.where(v > 0, v * -low, -v * high)
            for k in range(1, 7):
                if any(sum(gain[list(part)]) > need for part in itertools.combinations(range(6), k)):
                    best = min(best, k)
                    break
        else:
            # delta = p - q; linf has one more variable, the largest
            cost = np.ones(12) if norm == "l1" else np.r_[np.zeros(12), 1]
            rows, right = [np.r_[v, -v]], [-need]
            if norm == "linf":
                rows = [np.r_[rows[0], 0]]
                rows += [np.r_[np.eye(12)[j], -1] for j in range(12)]
                right += [0.0] * 12
            bounds = [(0, h) for h in high] + [(0, -a) for a in low] + [(0, None)] * (norm == "linf")
            found = linprog(cost, A_ub=np.array(rows), b_ub=np.array(right), bounds=bounds)
            if found.status == 0:
                best = min(best, found.fun)
    return best


@pytest.mark.parametrize("box", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_smallest_is_what_general_solvers_find(norm: str, box: bool) -> None:
    """Three classes, six pixels: linear programmes, quadratic programmes and enumeration agree."""
    for seed in range(4):
        model, x, y = small(seed)
        found = smallest(model, x, y, norm=norm, box=box)
        by_force = [brute(model, image, int(label), norm, box) for image, label in zip(x, y, strict=True)]
        assert np.allclose(found.distance.numpy(), by_force, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("box", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_smallest_delta_has_that_length_and_reaches_the_boundary(norm: str, box: bool) -> None:
    """Inside the box where asked; a hair further crosses, a hair less does not."""
    model, x, y = small(11, classes=4, n=50)
    found = smallest(model, x, y, norm=norm, box=box)
    able = found.distance.isfinite()
    assert able.any()
    delta = found.delta.flatten(1)[able]
    order = {"linf": torch.inf, "l2": 2, "l1": 1, "l0": 0}[norm]
    assert torch.allclose(torch.linalg.vector_norm(delta, order, dim=1), found.distance[able])
    moved = x[able] + found.delta[able]
    if box:
        assert (moved >= -1e-12).all()
        assert (moved <= 1 + 1e-12).all()
    logits = model.logits(moved)
    gap = logits.gather(1, y[able, None]) - logits.gather(1, found.rival[able, None])
    assert (gap <= 1e-9).all()
    if norm != "l0":
        short = model.logits(x[able] + 0.999 * found.delta[able])
        assert (short.argmax(1) == y[able]).all()


@pytest.mark.parametrize("norm", NORMS)
def test_largest_damage_is_zero_margin_at_the_distance(norm: str) -> None:
    """And it falls with eps, is reached by its delta, and is below what any random point of the ball does."""
    model, x, y = small(5, classes=4, n=40)
    found = smallest(model, x, y, norm=norm)
    generator = torch.Generator().manual_seed(0)
    last = torch.full((40,), torch.inf, dtype=torch.float64)
    for eps in (0.0, 0.05, 0.2, 0.7, 1.0, 2.0):
        margin, delta = largest(model, x, y, eps=eps, norm=norm)
        assert (margin <= last + 1e-12).all()
        last = margin
        logits = model.logits(x + delta)
        others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
        assert torch.allclose(logits.gather(1, y[:, None])[:, 0] - others, margin)
        assert torch.equal(margin > 1e-9, found.distance > eps + 1e-9)
        for _ in range(50):
            other = delta[torch.randperm(40, generator=generator)]  # as long, elsewhere
            point = (x + other).clamp(0, 1)
            logits = model.logits(point)
            rest = logits.gather(1, y[:, None])[:, 0] - logits.scatter(1, y[:, None], -torch.inf).amax(1)
            assert (rest >= margin - 1e-9).all()


def test_l2_in_the_box_is_not_the_unboxed_solution_clipped() -> None:
    """The worked example: w = (3, 1, .5), x = (.05, .5, .5), eps = .4: .594 lost, not .306."""
    model = AffineModel(
        torch.tensor([[3, 1, 0.5], [0, 0, 0]], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    )
    x, y = torch.tensor([[[[0.05, 0.5, 0.5]]]], dtype=torch.float64), torch.tensor([0])
    clean = float(model.logits(x)[0, 0])
    margin, _delta = largest(model, x, y, eps=0.4, norm="l2")
    assert clean - float(margin) == pytest.approx(0.594, abs=5e-4)
    step = 0.4 * model.weight[0] / model.weight[0].norm()
    clipped = (x.flatten() - step).clamp(0, 1)
    assert clean - float(model.logits(clipped[None])[0, 0]) == pytest.approx(0.306, abs=5e-4)


def test_wrong_images_have_distance_zero_and_unreachable_ones_infinity() -> None:
    """Nothing to do, and nothing that can be done."""
    model = AffineModel(torch.tensor([[0.1, 0.1], [0.0, 0.0]], dtype=torch.float64), torch.tensor([1.0, 0.0]).double())
    x = torch.rand(2, 1, 1, 2)
    found = smallest(model, x, torch.tensor([1, 0]), norm="linf")
    assert found.distance.tolist() == [0, torch.inf]
    assert found.rival.tolist()[1] == -1
    assert not found.delta.any()
    assert frontier(model, x, torch.tensor([1, 0]), (0.1, 1.0)).tolist() == [[0, 0], [-1, -1]]


def test_frontier_falls_with_the_cap_and_ends_at_the_sparse_distance() -> None:
    """At cap 1 it is the l0 distance; at the linf distance all features are just enough."""
    model, x, y = small(3, classes=4, n=30)
    caps = (0.05, 0.2, 0.5, 1.0)
    counts = frontier(model, x, y, caps)
    known = torch.where(counts < 0, 99, counts)
    assert (known.diff(dim=1) <= 0).all()
    sparse = smallest(model, x, y, norm="l0").distance
    assert torch.equal(counts[:, -1].double(), torch.where(sparse.isinf(), -1, sparse))
    dense = smallest(model, x, y, norm="linf").distance
    for column, cap in enumerate(caps):
        assert torch.equal(counts[:, column] >= 0, dense < cap)


def test_attacks_are_never_below_exact_and_fgsm_is_exact_for_two_classes() -> None:
    """FGSM overestimates what is left for ten classes; for two it is the maximiser."""
    torch.manual_seed(0)
    model = build("linear", (1, 8, 8), 10).eval()
    with torch.no_grad():
        model[-1].weight.mul_(4)
    x = torch.rand(60, 1, 8, 8)
    found = affine_model(model, (1, 8, 8))
    y = model(x).argmax(1)
    for eps in (0.02, 0.05):
        safe = robust(found, x, y, eps=eps, norm="linf")
        assert not (pgd(model, x, y, eps=eps, steps=20).success & safe).any()
        assert not (fgsm(model, x, y, eps=eps).success & safe).any()
    for norm in ("linf", "l2", "l1"):
        attacked = minimum(model, x[:20], y[:20], norm=norm, budget=200).distance[norm].double()
        assert (attacked >= smallest(found, x[:20], y[:20], norm=norm).distance * (1 - 1e-5)).all()
    two = AffineModel(found.weight[:2], found.bias[:2])
    pair = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
    with torch.no_grad():
        pair[1].weight.copy_(two.weight)
        pair[1].bias.copy_(two.bias)
    label = pair(x).argmax(1)
    distance = smallest(two, x, label, norm="linf").distance
    for eps in (0.01, 0.05, 0.2):
        clear = (distance - eps).abs() > 1e-5
        assert torch.equal(fgsm(pair, x, label, eps=eps).success[clear], (distance < eps)[clear])


def test_affine_reads_a_scalar_network_and_refuses_others() -> None:
    """Logits (0, N - tau) are affine; a hidden layer is not, and the refusal says by how much."""
    torch.manual_seed(1)
    scalar = build("linear", (1, 8, 8), 2, scalar=True)
    x = torch.rand(5, 1, 8, 8)
    assert torch.allclose(affine_model(scalar, (1, 8, 8)).logits(x).float(), scalar(x), atol=1e-5)
    with pytest.raises(ValueError, match="affine in the pixels, got some that are off by"):
        affine_model(build("mlp", (1, 8, 8), 3), (1, 8, 8))


def test_bad_input_is_named() -> None:
    """Norm, shape, labels, budget."""
    model, x, y = small(0)
    with pytest.raises(ValueError, match="norm: expected one of linf, l2, l1, l0, got 'l3'"):
        smallest(model, x, y, norm="l3")
    with pytest.raises(ValueError, match="expected images of 6 features"):
        smallest(model, x[..., :2], y, norm="l2")
    with pytest.raises(ValueError, match="classes from 0 to 2"):
        smallest(model, x, y + 3, norm="l2")
    with pytest.raises(ValueError, match="eps: expected a finite number"):
        largest(model, x, y, eps=float("nan"), norm="l2")
