"""The linear programme: primal equals dual, one image is the dense formula, contradictions are named and proven."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from core.attacks.engine import masks
from core.attacks.engine.engine import admitted, frozen, predict
from core.attacks.sparse.jacobian import jacobian_dense
from core.attacks.universal.programme import Programme
from core.attacks.universal.universal_lp import universal_lp

Linear = Callable[[Tensor, float], nn.Module]


def _images(seed: int, count: int, features: int = 12, low: float = 0.0, high: float = 1.0) -> Tensor:
    x = torch.rand(count, 1, 1, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return low + (high - low) * x


def _weights(seed: int) -> Tensor:
    """They sum to 0, so a score w·x has both signs on images around a mean grey."""
    weight = _images(seed, 1).flatten()
    return weight - weight.mean()


def _of_class(model: nn.Module, x: Tensor, label: int) -> Tensor:
    with frozen(model):
        return x[predict(model, x).argmax(1) == label]


@settings(max_examples=60)
@given(st.integers(0, 2**31 - 1), st.integers(1, 6), st.integers(1, 10))
def test_primal_equals_dual_and_any_weights_are_a_bound(seed: int, rows: int, features: int) -> None:
    """Strong duality with the solver's weights; weak duality, with any others; the solution is feasible."""
    rng = np.random.default_rng(seed)
    low, high = -rng.uniform(0, 1, features), rng.uniform(0, 1, features)
    programme = Programme(rng.normal(size=(rows, features)), rng.normal(size=rows), low, high)
    answer = programme.solve()
    if answer is None:
        s, missing, weights = programme.nearest()
        assert missing > 0
        assert (programme.rows @ s + missing >= programme.need - 1e-7).all()
        assert programme.bound(weights) == np.inf
        return
    s, weights = answer
    level = np.abs(s).max()
    assert (programme.rows @ s >= programme.need - 1e-7).all()
    assert ((low - 1e-9 <= s) & (s <= high + 1e-9)).all()
    assert programme.bound(weights) == pytest.approx(level, abs=1e-6)
    for _ in range(20):
        assert programme.bound(rng.exponential(size=rows)) <= level + 1e-6


def test_bound_without_a_box_is_the_quotient() -> None:
    """Where there is room, the bound is c·λ / ||Σ λ_i d_i J_i||_1; a negative weight is refused."""
    rng = np.random.default_rng(0)
    rows, weights = rng.normal(size=(3, 8)), np.array([0.2, 1.0, 0.0])
    programme = Programme(rows, np.array([0.5, 0.3, 9.0]), -np.ones(8), np.ones(8))
    assert programme.bound(weights) == pytest.approx((0.2 * 0.5 + 0.3) / np.abs(weights @ rows).sum())
    with pytest.raises(ValueError, match="weights: expected"):
        programme.bound(np.array([1.0, -1.0, 0.0]))


@pytest.mark.parametrize("boxed", [False, True])
def test_one_image_is_the_dense_formula(scalar_linear: Linear, boxed: bool) -> None:
    """For one image of a linear score: eps* = gap / ||J||_1, in the box the water level (MATHEMATICS section 4)."""
    model = scalar_linear(_weights(1), 0.0)
    for x in _of_class(model, _images(2, 30), 1)[:5].split(1):
        y = torch.ones(1, dtype=torch.int64)
        made = universal_lp(model, x, y, boxed=boxed, kappa=0.0, clipped=False)
        star = jacobian_dense(model, x, y, boxed=boxed).trace["eps_star"].item()
        assert made.trace["first"].item() == pytest.approx(star, rel=1e-6)
        assert made.trace["bound"].item() == pytest.approx(star, rel=1e-6)


def test_one_class_of_a_linear_model(scalar_linear: Linear) -> None:
    """All of one class: eps = max_i m_i / ||w||_1, and the weights name the image that is hardest to fool."""
    weight = _weights(3)
    model = scalar_linear(weight, 0.0)
    x = _of_class(model, _images(4, 40, low=0.4, high=0.6), 1)[:8]
    y = torch.ones(len(x), dtype=torch.int64)
    margins = x.flatten(1) @ weight
    kappa = 1e-6
    made = universal_lp(model, x, y, boxed=False, kappa=kappa)
    assert made.success.all()
    assert made.trace["stage"] == 1
    assert not made.trace["contradiction"]
    assert made.delta.abs().max().item() == pytest.approx(
        ((margins.max() + kappa) / weight.abs().sum()).item(), rel=1e-5
    )
    assert made.trace["weights"].argmax() == margins.argmax()
    assert made.trace["weights"].sum().item() == pytest.approx(1)


def test_both_classes_of_a_linear_model_contradict(scalar_linear: Linear) -> None:
    """The rows are w and -w: impossible without clipping, whatever the images, with one image of each class named."""
    model = scalar_linear(_weights(5), 0.0)
    pool = _images(6, 60)
    x = torch.cat([_of_class(model, pool, k)[:3] for k in (0, 1)])
    y = torch.tensor([0, 0, 0, 1, 1, 1])
    for boxed in (False, True):
        made = universal_lp(model, x, y, boxed=boxed, clipped=False)
        assert made.trace["contradiction"]
        assert made.trace["bound"] == float("inf")
        weights = made.trace["weights"]
        assert weights[:3].sum().item() == pytest.approx(0.5, abs=1e-6) or boxed
        assert weights[:3].sum() > 0
        assert weights[3:].sum() > 0
        assert not made.success.all()


@pytest.mark.slow
def test_clipping_makes_the_impossible_possible(scalar_linear: Linear) -> None:
    """(1, .5) is above x1 + x2 = 1.4, (.2, .8) below: no sum swaps them, but s = (.8, -.2) does, clipped."""
    model = scalar_linear(torch.tensor([1.0, 1.0]), 1.4)
    x, y = torch.tensor([[[[1.0, 0.5]]], [[[0.2, 0.8]]]]), torch.tensor([1, 0])
    alone = universal_lp(model, x, y, boxed=False, clipped=False)
    assert alone.trace["contradiction"]
    assert not alone.success.all()
    made = universal_lp(model, x, y, boxed=False)
    assert made.trace["contradiction"]
    assert made.trace["stage"] == 2
    assert made.trace["clips"]
    assert made.success.all()
    assert made.delta.abs().max() <= 1


@pytest.mark.sampled(3)
@pytest.mark.parametrize("boxed", [False, True])
def test_network_every_image_is_fooled(net: nn.Module, few: tuple[Tensor, Tensor], boxed: bool) -> None:
    """A curved network of ten classes: any wrong class, and one target for all; smaller than by first order or near."""
    with frozen(net):
        x, y = (part[predict(net, few[0]).argmax(1) == few[1]] for part in few)
    zeros = y == 0
    made = universal_lp(net, x[zeros], y[zeros], boxed=boxed)
    assert made.success.all()
    assert made.trace["stage"] == 1
    moved = x[zeros] + made.delta
    assert not boxed or ((moved >= -1e-6) & (moved <= 1 + 1e-6)).all()
    assert made.delta.abs().max() <= 1.5 * made.trace["bound"]
    aimed = universal_lp(net, x[zeros], y[zeros], y_target=torch.full_like(y[zeros], 5), boxed=boxed)
    with frozen(net):
        after = (x[zeros] + aimed.delta).clamp(0, 1) if aimed.trace["clips"] else x[zeros] + aimed.delta
        assert (predict(net, after).argmax(1)[aimed.success] == 5).all()
    assert aimed.success.all()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("spare", [2, 3, 12, 20, 40, 150])
def test_budget_is_hard(net: nn.Module, few: tuple[Tensor, Tensor], spare: int) -> None:
    """No image gets more passes, in either stage; a look and the verification are the least there is."""
    x, y = few
    with frozen(net):  # every test shares it
        classes = net(x).shape[1]
    found = universal_lp(net, x, y, budget=classes + spare, y_target=(y + 1) % classes)
    assert (found.forwards + found.backwards).max() <= classes + spare
    assert (found.backwards >= classes).all()
    with pytest.raises(ValueError, match=f"budget: expected at least {classes + 2}, got {classes + 1}"):
        universal_lp(net, x, y, budget=classes + 1)


@pytest.mark.slow
def test_budget_shortens_the_second_stage(scalar_linear: Linear) -> None:
    """A contradiction leads to clipping, where gradient steps leave passes for programmes."""
    model = scalar_linear(_weights(7), 0.0)
    x = _images(8, 40)
    x = torch.cat([_of_class(model, x, 0)[:3], _of_class(model, x, 1)[:3]])
    with frozen(model):
        y = predict(model, x).argmax(1)
    free = universal_lp(model, x, y)
    assert free.trace["stage"] == 2
    for budget in (8, 14, 30, 60):
        found = universal_lp(model, x, y, budget=budget)
        assert (found.forwards + found.backwards).max() <= budget < (free.forwards + free.backwards).max()
    assert universal_lp(model, x, y, budget=100_000).trace["stage"] == 2


@pytest.mark.slow
def test_counts_mask_and_broken_models(net: nn.Module, few: tuple[Tensor, Tensor]) -> None:
    """Passes are counted, a mask holds, NaN and constant logits fail honestly, bad input is refused by name."""
    x, y = few[0][:4], few[1][:4]
    seen = []
    with admitted(net, x):  # the look at what the model bears comes before
        handle = net.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
        made = universal_lp(net, x, y, rounds=4, clipped=False)
        handle.remove()
    assert sum(seen) == made.forwards.sum().item() + 1  # the check of the arguments looks at one image
    assert (made.backwards == 10 * (made.forwards - 1)).all()

    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :4] = True
    assert (universal_lp(masks.Masked(net, mask), x, y).delta[~mask] == 0).all()

    class Constant(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def forward(self, x: Tensor) -> Tensor:
            return torch.eye(10)[torch.zeros(len(x), dtype=torch.long)] * self.value

    for value in (1.0, float("nan")):
        broken = universal_lp(Constant(value), x, torch.zeros_like(y))
        assert (broken.success == (value != 1)).all()  # who answers NaN has no image right
        assert broken.delta.isfinite().all()
    for bad, match in (({"kappa": -1.0}, "kappa: expected"), ({"rounds": 0}, "rounds: expected")):
        with pytest.raises(ValueError, match=match):
            universal_lp(net, x, y, **bad)
