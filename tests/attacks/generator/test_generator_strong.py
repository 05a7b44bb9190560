"""The generator's strong mode: known optima of linear models, no worse than DDN, rounds that tell what happened."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.attacks import ddn
from core.attacks.generator.generator import generator_attack
from core.attacks.generator.generator_strong import generator_strong

Batch = tuple[Tensor, Tensor]
Triple = tuple[Tensor, Tensor, Tensor]


@pytest.fixture
def pairs(net: nn.Module, few: Batch) -> Triple:
    """Six correctly classified images by every other class: x, y, y_target."""
    x, y = few
    right = (copy.deepcopy(net).eval()(x).argmax(1) == y).nonzero()[:6, 0].repeat_interleave(10)
    target = torch.arange(10).repeat(6)
    wrong = target != y[right]
    return x[right[wrong]], y[right[wrong]], target[wrong]


@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_strong_finds_the_optimum_of_a_linear_model_in_the_box(
    scalar_linear: Callable[[Tensor, float], nn.Module], linear_optimum: Callable[..., Tensor], loss: str
) -> None:
    """Within 1 % of the exact distance and never below it, with a third of the pixels at 0 or 1."""
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(24, generator=generator, dtype=torch.float64)
    x = (torch.rand(30, 1, 4, 6, generator=generator, dtype=torch.float64) * 2 - 0.5).clamp(0, 1)
    model = scalar_linear(weight, 8.0)
    gap = 8.0 - model.score(x).detach()
    assert (gap > 0).all()
    low, high = torch.zeros_like(gap), torch.full_like(gap, 4.0)
    for _ in range(60):  # the smallest ball in which w·x can rise by the gap
        middle = (low + high) / 2
        enough = linear_optimum(weight, x, middle, "l2") @ weight.abs() >= gap
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    possible = high < 3.99
    assert possible.sum() > 20
    result = generator_strong(model, x, torch.zeros(30, dtype=torch.int64), loss=loss, rounds=200)
    ratio = (result.distance["l2"] / high)[possible]
    assert result.success[possible].all()
    assert ratio.min() >= 1 - 1e-9
    assert ratio.max() <= 1.01


def test_strong_moves_pixels_that_sit_at_the_ends(scalar_linear: Callable[[Tensor, float], nn.Module]) -> None:
    """All pixels exactly 0 or 1, where a sigmoid has no gradient."""
    model = scalar_linear(torch.tensor([1.0] * 4 + [-1.0] * 4), 1.0)
    x = torch.tensor([0.0] * 4 + [1.0] * 4).view(1, 1, 2, 4)
    result = generator_strong(model, x, torch.tensor([0]))
    assert result.success.all()  # from score -4 up to 1: every pixel moves by 5/8
    assert result.distance["l2"].item() == pytest.approx(5 / 8**0.5, rel=0.01)


@pytest.mark.slow
def test_strong_is_not_worse_than_ddn_and_much_better_than_literal(net: nn.Module, pairs: Triple) -> None:
    """Towards every class, at equal passes: every pair fooled, mean l2 within 2 % of DDN's, far below the literal's."""
    x, y, target = pairs
    strong = generator_strong(net, x, y, y_target=target, budget=203)
    walk = ddn(net, x, y, y_target=target, budget=203)
    literal = generator_attack(net, x, y, y_target=target, loss="ce", shared_adam=True)
    assert strong.success.all()
    assert walk.success.all()
    both = literal.success
    assert both.sum() > 20
    assert strong.distance["l2"].mean() <= 1.02 * walk.distance["l2"].mean()
    assert strong.distance["l2"][both].mean() < 0.8 * literal.distance["l2"][both].mean()


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_strong_does_not_hang_on_the_scale_of_the_logits(net: nn.Module, pairs: Triple, scale: float) -> None:
    """Logits times any number describe the same classifier: the same distances."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = copy.deepcopy(net)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.net(x) * scale
            return logits

    x, y, target = pairs
    plain = generator_strong(net, x, y, y_target=target, rounds=30)
    scaled = generator_strong(Scaled(), x, y, y_target=target, rounds=30)
    torch.testing.assert_close(plain.distance["l2"], scaled.distance["l2"], rtol=0.02, atol=0)


def test_strong_traces_its_rounds(net: nn.Module, pairs: Triple) -> None:
    """Distance and confidence of each round's iterate; no fooling iterate is nearer than what comes back."""
    x, y, target = pairs
    made = generator_strong(net, x, y, y_target=target, rounds=20)
    assert made.trace["l2"].shape == made.trace["confidence"].shape == (20, len(x))
    sure = made.trace["confidence"] > 0.5  # then the target is predicted
    assert sure.any(0).sum() > 20
    nearest = torch.where(sure, made.trace["l2"], torch.inf).amin(0)
    assert (made.distance["l2"] <= nearest + 1e-5).all()
    assert (made.trace["l2"][0] > 0).all()
    own = generator_strong(net, x[:3], y[:3], y_target=y[:3], rounds=20)
    assert (own.trace["l2"] == 0).all()
    assert (own.trace["confidence"] == own.trace["confidence"][0]).all()
    assert own.trace["confidence"].max() > 0.5


def test_strong_reports_pictures(net: nn.Module, pairs: Triple) -> None:
    """Progress rises to its total and carries the pictures, the mean distance and the share fooled."""
    seen: list[tuple[int, int, dict[str, Any]]] = []
    x, y, target = pairs
    generator_strong(
        net,
        x,
        y,
        y_target=target,
        rounds=40,
        batch=30,
        on_progress=lambda done, total, **more: seen.append((done, total, more)),
    )
    assert [done for done, _, _ in seen] == sorted({done for done, _, _ in seen})
    assert seen[-1][:2] == (80, 80)
    assert seen[-1][2]["snapshot"]["x_adv"].shape == tuple(x.shape)
    assert not np.array_equal(seen[0][2]["snapshot"]["x_adv"], seen[-1][2]["snapshot"]["x_adv"])
    assert seen[-1][2]["success"] == 1
    assert seen[-1][2]["l2"] > 0


def test_strong_keeps_to_its_budget(net: nn.Module, pairs: Triple) -> None:
    """No image costs more; most of it is spent; more than the need changes nothing; less than a round is refused."""
    x, y, target = pairs
    free = generator_strong(net, x, y, y_target=target, rounds=20)
    assert torch.equal(free.x_adv, generator_strong(net, x, y, y_target=target, rounds=20, budget=1000).x_adv)
    for budget in (5, 6, 20, 50):
        spent = generator_strong(net, x, y, y_target=target, budget=budget)
        assert (spent.forwards + spent.backwards).max() <= budget
        assert (spent.forwards + spent.backwards).max() >= budget - 2
    with pytest.raises(ValueError, match="budget: expected at least 5, got 4"):
        generator_strong(net, x, y, y_target=target, budget=4)
