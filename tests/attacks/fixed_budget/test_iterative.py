"""R+FGSM, BIM and MI-FGSM: what their steps are, checked on linear models, and what tells them from PGD."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.attacks import fgsm, pgd
from core.attacks.engine.streams import Streams
from core.attacks.fixed_budget.iterative import bim, mifgsm, rfgsm

Batch = tuple[Tensor, Tensor]
Maker = Callable[[Tensor, float], nn.Module]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("attack", [bim, mifgsm])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_iterative_reaches_the_optimum_of_a_linear_model(
    scalar_linear: Maker, linear_optimum: Callable[..., Tensor], attack: Any, norm: str
) -> None:
    """With the box, to a fraction of a percent: the gradient never changes, so momentum does no harm."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, generator=generator, dtype=torch.float64)
    x = torch.rand(20, 1, 2, 4, generator=generator, dtype=torch.float64)
    model = scalar_linear(weight, 100.0)
    eps = torch.linspace(0.1, 0.9, 20, dtype=torch.float64)
    y = torch.zeros(20, dtype=torch.int64)
    result = attack(model, x, y, eps=eps, norm=norm, steps=80, relative_step=0.5)
    most = (linear_optimum(weight, x, eps, norm) * weight.abs()).sum(1)
    gain = model.score(result.x_adv) - model.score(x)
    assert (gain <= most + 1e-9).all()
    assert (gain >= 0.999 * most).all()


def test_bim_of_one_full_step_is_fgsm(net: nn.Module, few: Batch) -> None:
    """The same image wherever FGSM succeeds."""
    one, many = fgsm(net, *few, eps=0.2), bim(net, *few, eps=0.2, steps=1, relative_step=1.0)
    assert torch.equal(one.success, many.success)
    assert torch.equal(one.x_adv[one.success], many.x_adv[one.success])


def test_mifgsm_without_momentum_is_bim(net: nn.Module, few: Batch) -> None:
    """Normalising the gradient changes no sign; a momentum of 1 does change the way."""
    options: dict[str, Any] = {"eps": 0.1, "steps": 6, "relative_step": 0.4}
    plain = bim(net, *few, **options)
    assert torch.equal(mifgsm(net, *few, momentum=0.0, **options).x_adv, plain.x_adv)
    assert not torch.equal(mifgsm(net, *few, momentum=1.0, **options).x_adv, plain.x_adv)


def test_bim_takes_no_random_start_and_a_constant_step(net: nn.Module, few: Batch) -> None:
    """After one step every feature has moved by exactly the step, or to the end of the box."""
    x, y = few
    result = bim(net, x, y, eps=0.1, steps=1, relative_step=0.25)
    moved = (result.x_adv - x).abs()
    ends = (result.x_adv == 0) | (result.x_adv == 1)
    assert ((moved - 0.025).abs() < 1e-6).logical_or(moved == 0).logical_or(ends).all()


def test_rfgsm_is_a_random_corner_and_a_step(scalar_linear: Maker) -> None:
    """On a linear model: +-offset at random, then the rest of eps along the gradient; far from the box's ends."""
    weight = torch.linspace(1, 2, 64, dtype=torch.float64)
    x, y = torch.full((3, 1, 8, 8), 0.5, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    model = scalar_linear(weight, 1e3)
    streams = Streams.of(3, torch.arange(3))
    result = rfgsm(model, x, y, eps=0.2, offset=0.25, streams=streams)
    moved = (result.x_adv - x).flatten(1)
    # 0.25 * 0.2 up or down, then 0.75 * 0.2 up; the budget comes in float32
    assert ((moved - 0.2).abs() < 1e-8).logical_or((moved - 0.1).abs() < 1e-8).all()
    assert 0.3 < (moved > 0.15).double().mean() < 0.7
    assert not torch.equal(moved[0], moved[1])
    again = rfgsm(model, x, y, eps=0.2, offset=0.25, streams=streams)
    assert torch.equal(again.x_adv, result.x_adv)


def test_rfgsm_costs_two_passes_and_one_gradient(net: nn.Module, few: Batch) -> None:
    """For an image that stands: the look, the random point with its gradient, the verdict."""
    x, y = few
    result = rfgsm(net, x, y, eps=0.05)
    right = copy.deepcopy(net).eval()(x).argmax(1) == y
    stood = right & ~result.success
    assert stood.any()
    assert (result.forwards[stood] == 3).all()
    assert (result.backwards[stood] == 1).all()


def test_iterative_attacks_are_no_stronger_than_pgd(net: nn.Module, digits: Batch) -> None:
    """On 200 images, at many more steps for PGD: the order that the papers tell."""
    x, y = digits[0][1400:1600], digits[1][1400:1600]
    strong = pgd(net, x, y, eps=0.15, steps=40, restarts=2).success.sum()
    for attack in (bim, mifgsm, rfgsm):
        assert 0 < attack(net, x, y, eps=0.15).success.sum() <= strong
