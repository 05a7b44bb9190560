"""Transfer: made on a surrogate, scored on the victim, which gives no gradient; MI, DI and TI each do what they say."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from core.attacks import transfer
from core.attacks.engine.engine import admitted
from core.attacks.engine.masks import Masked
from core.attacks.engine.streams import Streams
from core.attacks.fixed_budget.iterative import bim, mifgsm
from core.attacks.fixed_budget.transfer import _diverse, _gaussian
from tests.fixtures import network

Batch = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def other() -> nn.Module:
    """A dense network trained on the same digits as `net`, in eval mode."""
    return network("dense")


@pytest.fixture
def many(digits: Batch) -> Batch:
    """150 images that neither network was trained on."""
    return digits[0][1400:1550], digits[1][1400:1550]


def test_transfer_fools_more_victims_than_bim(net: nn.Module, other: nn.Module, many: Batch) -> None:
    """Momentum, diverse inputs and smooth gradients against BIM's images, at the same ε, both ways."""
    x, y = many
    ours, plain = 0.0, 0.0
    for victim, surrogate in ((net, other), (other, net)):
        victim = copy.deepcopy(victim).eval()
        result = transfer(victim, x, y, surrogate=surrogate, eps=0.2, kernel=3)
        assert torch.equal(result.success, victim(result.x_adv).argmax(1) != y)
        assert (result.trace["surrogate_margin"] < 0).float().mean() > 0.8
        ours += result.success.float().mean().item()
        plain += (
            (victim(bim(surrogate, x, y, eps=0.2, steps=20, relative_step=0.1).x_adv).argmax(1) != y)
            .float()
            .mean()
            .item()
        )
    assert ours > 1.2 * plain
    assert ours > 0.5


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.15), ("l2", 0.9)])
def test_transfer_without_diversity_and_kernel_is_mifgsm(
    net: nn.Module, other: nn.Module, many: Batch, norm: str, eps: float
) -> None:
    """The same image after as many steps, where MI-FGSM on the surrogate goes on until then."""
    x, y = many
    right = copy.deepcopy(net).eval()(x).argmax(1) == y
    compared = 0
    for steps in (1, 2, 3, 4):
        theirs = mifgsm(other, x, y, eps=eps, norm=norm, steps=steps, relative_step=0.3)
        ours = transfer(
            net, x, y, surrogate=other, eps=eps, norm=norm, steps=steps, relative_step=0.3, diversity=0.0, kernel=1
        )
        last = right & theirs.success & (theirs.forwards == steps + 3)  # first look, last look, verification
        torch.testing.assert_close(ours.x_adv[last], theirs.x_adv[last])
        compared += int(last.sum())
    assert compared > 30


def test_transfer_never_differentiates_the_victim(net: nn.Module, other: nn.Module, many: Batch) -> None:
    """Its forward pass runs with gradients off, twice an image and once more for a success."""
    looks = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = copy.deepcopy(net)

        def forward(self, x: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            looks.append(len(x))
            logits: Tensor = self.net(x)
            return logits

    x, y = many[0][:30], many[1][:30]
    watched = Watched()
    with admitted(watched, x, gradients=False):  # the look at what the model bears comes before
        looks.clear()
        result = transfer(watched, x, y, surrogate=other, eps=0.2, steps=5, kernel=3)
    wrong_before = copy.deepcopy(net).eval()(x).argmax(1) != y
    asked = 30 + int((~wrong_before).sum()) + int(result.success.sum())
    assert sum(looks) == asked + 2  # and one image for each check of the input
    assert (result.backwards == torch.where(wrong_before, 0, 5)).all()
    assert (result.forwards == 2 + torch.where(wrong_before, 0, 6) + result.success).all()


def test_transfer_diverse_inputs_are_the_image_made_smaller() -> None:
    """Never, always; a shrunk white image is a white rectangle on black; gradients reach every pixel of the image."""
    streams = Streams.of(0, torch.arange(50))
    x = torch.ones(50, 2, 12, 12, dtype=torch.float64, requires_grad=True)
    assert _diverse(x, streams, 0.0, 0.5) is x
    made = _diverse(x, streams, 1.0, 0.5)
    share = made.detach()[:, 0].mean((1, 2)).sqrt()
    assert ((share > 0.49) & (share < 1.01)).all()
    assert share.min() < 0.6
    assert share.max() > 0.9
    middle = made.detach()[:, 0].sum(1).argmax(1)
    assert middle.unique().numel() > 3  # at different places
    half = _diverse(x, streams, 0.5, 0.5)
    assert 10 < (half.detach() == x.detach()).flatten(1).all(1).sum() < 40
    made.sum().backward()
    assert (x.grad > 0).all()


def test_transfer_kernel_is_a_gaussian() -> None:
    """It sums to 1, is symmetric, falls from the middle, and side 1 is no smoothing."""
    like = torch.zeros(1, 3, 8, 8)
    kernel = _gaussian(7, like)
    assert kernel.shape == (3, 1, 7, 7)
    torch.testing.assert_close(kernel.sum((1, 2, 3)), torch.ones(3))
    assert torch.equal(kernel, kernel.flip(2))
    assert torch.equal(kernel, kernel.transpose(2, 3))
    assert (kernel[0, 0, 3, 3:].diff() < 0).all()
    torch.testing.assert_close(kernel[0, 0, 3, 4] / kernel[0, 0, 3, 3], torch.tensor(0.5).neg().exp())
    assert torch.equal(_gaussian(1, like), torch.ones(3, 1, 1, 1))


def test_transfer_keeps_to_its_budget(net: nn.Module, other: nn.Module, many: Batch) -> None:
    """Passes through both models together; too little is refused."""
    for budget in (6, 7, 30):
        result = transfer(net, *many, surrogate=other, eps=0.2, budget=budget)
        assert budget - 1 <= (result.forwards + result.backwards).max() <= budget
    with pytest.raises(ValueError, match="budget: expected at least 6, got 5"):
        transfer(net, *many, surrogate=other, eps=0.2, budget=5)


def test_transfer_refuses_bad_settings(
    net: nn.Module, other: nn.Module, many: Batch, scalar_linear: Callable[[Tensor, float], nn.Module]
) -> None:
    """By the argument's name, with what was expected and what came."""
    for change, message in (
        ({"kernel": 4}, "kernel: expected an odd number of 1 or more, got 4"),
        ({"surrogate": scalar_linear(torch.ones(64), 0.0)}, "surrogate: expected a model of 10 classes, .* one of 2"),
        ({"surrogate": scalar_linear(torch.ones(9), 0.0)}, "surrogate: expected a model of images"),
    ):
        with pytest.raises(ValueError, match=message):
            transfer(net, *many, **{"surrogate": other, "eps": 0.1, **change})


def test_smoothed_gradient_ends_at_the_mask(net: nn.Module, few: Batch) -> None:
    """No part of a step's length is spent outside the mask, where it would be lost."""
    x, y = few[0] * 0 + 0.5, few[1]
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, 2:6, 2:6] = True
    made = transfer(Masked(net, mask), x, y, surrogate=net, eps=1.0, norm="l2", steps=1, relative_step=0.2, kernel=5)
    moved = made.distance["l2"] > 0  # the others fool already
    assert moved.any()
    torch.testing.assert_close(made.distance["l2"][moved], torch.full_like(made.distance["l2"][moved], 0.2))
