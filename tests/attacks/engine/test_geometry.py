"""Distances and projections by property: inside the set, identity inside, idempotent, nearest, safe at zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize

from core.attacks.engine import geometry

SMALL = settings(max_examples=60)
SHAPE = (3, 1, 2, 3)
deltas = arrays(np.float64, SHAPE, elements=st.one_of(st.just(0.0), st.floats(-2, 2, allow_subnormal=False)))
images = arrays(np.float64, SHAPE, elements=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)))
budgets = arrays(np.float64, (3,), elements=st.one_of(st.just(0.0), st.floats(1e-6, 4)))

BALLS = {"linf": geometry.project_linf, "l2": geometry.project_l2, "l1": geometry.project_l1}
BOXED = {"linf": geometry.project_linf_box, "l2": geometry.project_l2_box, "l1": geometry.project_l1_box}
ORDER = {"linf": np.inf, "l2": 2, "l1": 1}


def size(delta: torch.Tensor, norm: str) -> torch.Tensor:
    """Norm of each perturbation."""
    return torch.linalg.vector_norm(delta.flatten(1), ord=ORDER[norm], dim=1)


@pytest.mark.parametrize("norm", BALLS)
@SMALL
@given(delta=deltas, eps=budgets)
def test_ball_projection_is_inside_and_idempotent(norm: str, delta: np.ndarray, eps: np.ndarray) -> None:
    """The result is in the ball, points inside stay where they are, and projecting twice changes nothing."""
    before, budget = torch.from_numpy(delta), torch.from_numpy(eps)
    after = BALLS[norm](before, budget)
    assert torch.isfinite(after).all()
    assert (size(after, norm) <= budget + 1e-9).all()
    inside = size(before, norm) <= budget
    assert torch.equal(after[inside], before[inside])
    torch.testing.assert_close(BALLS[norm](after, budget), after, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("norm", BOXED)
@SMALL
@given(delta=deltas, x=images, eps=budgets)
def test_boxed_projection_is_inside_ball_and_box(norm: str, delta: np.ndarray, x: np.ndarray, eps: np.ndarray) -> None:
    """The result is in ball and box, points inside both stay, and projecting twice changes nothing."""
    before, image, budget = torch.from_numpy(delta), torch.from_numpy(x), torch.from_numpy(eps)
    after = BOXED[norm](before, image, budget)
    moved = image + after
    assert ((moved >= -1e-12) & (moved <= 1 + 1e-12)).all()
    assert (size(after, norm) <= budget + 1e-9).all()
    inside = (size(before, norm) <= budget) & (((image + before) >= 0) & ((image + before) <= 1)).flatten(1).all(1)
    torch.testing.assert_close(after[inside], before[inside], rtol=0, atol=1e-15)
    torch.testing.assert_close(BOXED[norm](after, image, budget), after, rtol=1e-6, atol=1e-9)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("norm", ["l1", "l2"])
@SMALL
@given(data=st.data())
def test_projection_is_nearer_than_any_other_point(norm: str, boxed: bool, data: st.DataObject) -> None:
    """No point of the set is nearer: (z - p)·(q - p) <= 0 for every q of the set characterises the projection p."""
    delta, x, eps = (torch.from_numpy(data.draw(kind)) for kind in (deltas, images, budgets))
    project = (lambda d: BOXED[norm](d, x, eps)) if boxed else (lambda d: BALLS[norm](d, eps))
    nearest = project(delta)
    generator = torch.Generator().manual_seed(0)
    others = [
        torch.zeros_like(delta),
        *(project(3 * torch.randn(SHAPE, generator=generator).double()) for _ in range(30)),
    ]
    for axis in range(6):  # the corners of the l1 ball and points with one feature at its limit
        corner = torch.zeros_like(delta).flatten(1)
        corner[:, axis] = 2.0
        others += [project(corner.view_as(delta)), project(-corner.view_as(delta))]
    for other in others:
        assert ((delta - nearest) * (other - nearest)).flatten(1).sum(1).max() <= 1e-8


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_boxed_projection_equals_scipys_optimum(norm: str) -> None:
    """A general constrained optimiser finds the same point."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(12, 1, 1, 4, generator=generator).double()
    delta = 2 * torch.randn(12, 1, 1, 4, generator=generator).double()
    eps = torch.linspace(0.05, 1.5, 12).double()
    found = BOXED[norm](delta, x, eps).flatten(1).numpy()
    for row in range(12):
        z, image, budget = delta[row].flatten().numpy(), x[row].flatten().numpy(), float(eps[row])
        # split in positive and negative part, which makes the l1 norm smooth
        result = minimize(
            lambda p, z=z: np.sum((p[:4] - p[4:] - z) ** 2) + 1e-9 * p.sum(),
            np.full(8, 0.01),
            bounds=[*((0, 1 - v) for v in image), *((0, v) for v in image)],
            constraints={
                "type": "ineq",
                "fun": lambda p, b=budget: b - p.sum() if norm == "l1" else b**2 - np.sum((p[:4] - p[4:]) ** 2),
            },
            options={"maxiter": 500, "ftol": 1e-14},
        )
        best = result.x[:4] - result.x[4:]
        assert np.sum((found[row] - z) ** 2) <= np.sum((best - z) ** 2) + 1e-6
        np.testing.assert_allclose(found[row], best, atol=2e-3)


def test_l2_projection_with_box_beats_clipping() -> None:
    """Clipping the unboxed step wastes budget: .306 of score clipped, .594 optimal (MATHEMATICS section 1)."""
    w = torch.tensor([3.0, 1.0, 0.5]).view(1, 1, 1, 3).double()
    x = torch.tensor([0.05, 0.5, 0.5]).view(1, 1, 1, 3).double()
    eps = torch.tensor([0.4]).double()
    step = -w / w.norm() * eps
    assert -(geometry.project_box(step, x) * w).sum().item() == pytest.approx(0.306, abs=1e-3)
    far = geometry.project_l2_box(step * 1e6, x, eps)  # the linear maximiser is the projection of a far point
    assert -(far * w).sum().item() == pytest.approx(0.594, abs=1e-3)


@SMALL
@given(x=arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=32)), eps=st.floats(0, 1, width=32))
def test_linf_bounds_hold_to_the_last_bit(x: np.ndarray, eps: float) -> None:
    """Both bounds are within eps, computed in float32 and in float64, and in the box; a zero budget leaves x."""
    image = torch.from_numpy(x)
    budget = torch.full((3,), eps)
    low, high = geometry.linf_bounds(image, budget)
    for bound in (low, high):
        assert ((bound - image).abs() <= budget[0]).all()
        assert ((bound.double() - image.double()).abs() <= budget[0].double()).all()
        assert (geometry.distances(bound, image)["linf"] <= budget).all()
    assert (low >= 0).all()
    assert (high <= 1).all()
    assert (high - image >= torch.minimum(budget[0], 1 - image) - 1e-6).all()
    if eps == 0:
        assert torch.equal(low, image)
        assert torch.equal(high, image)


def test_linf_bounds_correct_a_rounding_that_really_happens() -> None:
    """The case is not empty: plain x ± eps leaves the ball for some float32 values."""
    x = torch.rand(1, 1, 100, 100, generator=torch.Generator().manual_seed(0))
    eps = torch.tensor([0.1])
    assert ((x + eps).double() - x.double()).max() > eps.double()
    assert geometry.distances(geometry.linf_bounds(x, eps)[1], x)["linf"] <= eps


@pytest.mark.parametrize("norm", ["l1", "l2"])
@SMALL
@given(
    delta=arrays(np.float32, SHAPE, elements=st.floats(-1, 1, width=32)),
    x=arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=32)),
    eps=arrays(np.float32, (3,), elements=st.floats(0, 3, width=32)),
)
def test_into_ball_is_exact(norm: str, delta: np.ndarray, x: np.ndarray, eps: np.ndarray) -> None:
    """After it the distance that is reported does not exceed eps by a single bit, and the image is in the box."""
    image, budget = torch.from_numpy(x), torch.from_numpy(eps)
    moved = (image + BOXED[norm](torch.from_numpy(delta), image, budget)).clamp(0, 1)
    after = geometry.into_ball(moved, image, budget, norm)
    assert (geometry.distances(after, image)[norm] <= budget).all()
    assert ((after >= 0) & (after <= 1)).all()
    assert (after - moved).abs().max() <= 1e-5


def test_distances_count_features_and_pixels() -> None:
    """A colour pixel has three features and counts once; the norms are numpy's."""
    x = torch.full((2, 3, 2, 2), 0.5)
    x_adv = x.clone()
    x_adv[0, :, 0, 0] = torch.tensor([0.6, 0.4, 0.5])
    x_adv[0, 2, 1, 1] = 1.0
    found = geometry.distances(x_adv, x)
    assert found["l0"].tolist() == [3, 0]
    assert found["pixels"].tolist() == [2, 0]
    delta = (x_adv - x)[0].flatten().numpy()
    for norm, order in ORDER.items():
        assert found[norm][0].item() == pytest.approx(np.linalg.norm(delta, order), rel=1e-6)
        assert found[norm][1] == 0


@SMALL
@given(
    weight=arrays(np.float64, (1, 6), elements=st.floats(-2, 2)),
    room=arrays(np.float64, (1, 6), elements=st.floats(0, 1)),
    share=st.floats(0.01, 0.99),
)
def test_water_level_solves_its_equation(weight: np.ndarray, room: np.ndarray, share: float) -> None:
    """The gain at the level is what was needed, and less at a lower level."""
    w, u = torch.from_numpy(weight), torch.from_numpy(room)
    most = (w.abs() * u).sum(1)
    if most < 1e-6:
        return
    level = geometry.water_level(w, u, most * share)
    assert 0 < level <= 1
    torch.testing.assert_close((w.abs() * torch.minimum(level[:, None], u)).sum(1), most * share)
    assert (w.abs() * torch.minimum(level[:, None] * 0.99, u)).sum(1) < most * share
    assert geometry.water_level(w, u, most * 1.01) == torch.inf
    assert geometry.water_level(w, u, -most) == 0


@SMALL
@given(gains=arrays(np.float64, (1, 5), elements=st.floats(0, 1)), need=st.floats(0, 3))
def test_shortest_prefix_equals_brute_force(gains: np.ndarray, need: float) -> None:
    """No smaller set of features gains more than what is needed."""
    count, order = geometry.shortest_prefix(torch.from_numpy(gains), torch.tensor([need], dtype=torch.float64))
    subsets = [[j for j in range(5) if bits >> j & 1] for bits in range(32)]
    sums = np.array([gains[0, chosen].sum() for chosen in subsets])
    assume((np.abs(sums - need) > 1e-12).all())  # sums in another order may round across a tie
    enough = [len(chosen) for chosen, total in zip(subsets, sums, strict=True) if total > need]
    assert count.item() == (min(enough) if enough else -1)
    assert sorted(order[0].tolist()) == list(range(5))
