"""FGSM: the exact optimum of two-class linear models, the literal formula, one gradient for every eps."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from core.attacks import fgsm
from core.attacks.engine.checks import check_eps
from core.attacks.engine.geometry import water_level
from core.attacks.engine.steps import fgsm_step
from core.attacks.fixed_budget.fgsm import fgsm_direction

Batch = tuple[Tensor, Tensor]


def linear_case(seed: int, size: int = 6, n: int = 50) -> tuple[Tensor, Tensor]:
    """Weights and images in float64."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(size, generator=generator, dtype=torch.float64)
    return weight, torch.rand(n, 1, 1, size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("eps", [0.03, 0.1, 0.3, 1.0])
def test_fgsm_is_optimal_for_two_class_linear_models(
    scalar_linear: Callable[[Tensor, float], nn.Module], eps: float
) -> None:
    """No corner of ball and box moves the score further; images fall exactly when eps passes their exact distance."""
    weight, x = linear_case(0)
    model = scalar_linear(weight, 0.2)
    y = model(x).argmax(1)
    result = fgsm(model, x, y, eps=eps)
    sign = 1 - 2 * y  # class 1 is attacked downwards
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 6)
    every = (x.flatten(1)[:, None] + eps * corners).clamp(0, 1)
    best = ((every @ weight) * sign[:, None]).max(1).values
    torch.testing.assert_close(model.score(result.x_adv) * sign, best)
    slope = -sign[:, None] * weight
    room = torch.where(slope > 0, x.flatten(1), 1 - x.flatten(1))
    exact = water_level(slope, room, (model.score(x) - 0.2).abs())
    assert torch.equal(result.success, exact < eps)


def test_fgsm_direction_is_the_sign_of_the_cross_entropys_gradient(net: nn.Module, few: Batch) -> None:
    """Where cross-entropy does not underflow, the direction is its gradient's; towards a target it descends."""
    x, y = few
    model = copy.deepcopy(net).double().eval()
    leaf = x.double().requires_grad_()
    (slope,) = torch.autograd.grad(nn.functional.cross_entropy(model(leaf), y, reduction="sum"), leaf)
    assert torch.equal(fgsm_direction(model, x.double(), y), slope.sign())
    (slope,) = torch.autograd.grad(nn.functional.cross_entropy(model(leaf), (y + 1) % 10, reduction="sum"), leaf)
    assert torch.equal(fgsm_direction(model, x.double(), y, (y + 1) % 10), -slope.sign())


def test_fgsm_uses_one_gradient_for_every_eps(net: nn.Module, few: Batch) -> None:
    """A step along the stored direction is the attack, at each eps, for images that were right before."""
    x, y = few
    right = copy.deepcopy(net).eval()(x).argmax(1) == y
    direction = fgsm_direction(net, x, y)
    for eps in (0.05, 0.2):
        result = fgsm(net, x, y, eps=eps)
        step = fgsm_step(x, direction, check_eps(eps, x))
        assert torch.equal(result.x_adv[right], step[right])
        assert (result.backwards == 1).all()


def test_fgsm_without_clipping_is_the_literal_formula(net: nn.Module, few: Batch) -> None:
    """The image x + eps * sign leaves [0, 1], and every pixel with a gradient moves by eps."""
    x, y = few
    result = fgsm(net, x, y, eps=0.25, clip=False)
    assert result.x_adv.min() < 0
    moved = (result.x_adv - x)[result.distance["linf"] > 0].abs()
    assert torch.isclose(moved, torch.tensor(0.25), atol=1e-6).logical_or(moved == 0).all()
    assert (result.distance["linf"] <= 0.25).all()


def test_fgsm_in_small_batches_is_the_same(net: nn.Module, few: Batch) -> None:
    """How the images are cut into batches changes nothing but rounding, and progress reaches the total."""
    seen: list[tuple[int, int]] = []
    whole = fgsm(net, *few, eps=0.2)
    parts = fgsm(net, *few, eps=0.2, batch=7, on_progress=lambda done, total, **_: seen.append((done, total)))
    assert torch.equal(whole.success, parts.success)
    assert (whole.x_adv != parts.x_adv).float().mean() < 0.01
    assert seen[-1] == (40, 40)
    assert len(seen) == 6
