"""Masks: the model behind one is the model, its gradient ends at the mask."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from core.attacks import pgd, sparse_rs
from core.attacks.engine.engine import confine, frozen, gradient_step
from core.attacks.engine.losses import Goal
from core.attacks.engine.masks import Masked
from core.attacks.sparse.jacobian import jacobian

Batch = tuple[Tensor, Tensor]


def test_masked_model_is_the_model_with_a_gradient_that_ends_at_the_mask(net: nn.Module, few: Batch) -> None:
    """Logits, and the gradient inside, to the last bit; 0 outside, even where the gradient itself is not finite."""
    x, y = few
    mask = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    model = copy.deepcopy(net).eval()
    masked = Masked(model, mask)
    with frozen(masked):
        logits, gradient = gradient_step(masked, x, Goal(y, False), "ce")
        plain_logits, plain = gradient_step(model, x, Goal(y, False), "ce")
    assert torch.equal(logits, plain_logits)
    assert torch.equal(gradient, torch.where(mask, plain, 0))
    assert masked.state_dict().keys() == {f"model.{key}" for key in model.state_dict()}


def test_masked_model_keeps_what_a_scalar_network_is(
    few: Batch, scalar_linear: Callable[[Tensor, float], nn.Module]
) -> None:
    """`scalar` and `score` go through, the score's gradient ends at the mask too."""
    weight = torch.linspace(-1, 1, 64)
    mask = torch.zeros(8, 8)
    mask[:4] = 1
    masked = Masked(scalar_linear(weight, 0.3), mask)
    assert masked.scalar
    x = few[0][:3]
    torch.testing.assert_close(masked.score(x), x.flatten(1) @ weight)
    assert torch.equal(jacobian(masked, x, "score")[0].flatten(), torch.where(mask.flatten() > 0, weight, 0))


def test_masked_model_is_attacked_at_its_optimum(
    few: Batch, scalar_linear: Callable[[Tensor, float], nn.Module]
) -> None:
    """On a linear model, inside the mask, one linf step is the best there is: every feature of it at ± eps."""
    weight = torch.linspace(-1, 1, 64) + 0.01
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:5, 1:7] = 1
    x = 0.3 + 0.4 * few[0][:6]
    y = torch.ones(6, dtype=torch.int64)
    model = scalar_linear(weight, -1000.0)  # never fooled, so that the attack goes on to the end
    result = pgd(Masked(model, mask), x, y, eps=0.1)
    torch.testing.assert_close(result.x_adv - x, (-0.1 * weight.sign()).view(1, 8, 8).expand_as(x) * mask)


def test_confine_leaves_a_point_alone_without_a_mask(net: nn.Module, few: Batch) -> None:
    """No mask, no change; with one, `x` outside."""
    x, point = few[0], few[0].flip(0)
    mask = torch.eye(8, dtype=torch.bool)
    assert confine(net, point, x) is point
    assert torch.equal(confine(Masked(net, mask), point, x), torch.where(mask, point, x))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(8), r"mask: expected a tensor \(H, W\), .* got \(8,\)"),
        (torch.full((8, 8), 0.5), "mask: expected 0 and 1 only, got 0.5 to 0.5"),
        (torch.zeros(8, 8), "mask: expected at least one pixel to change, got none"),
    ],
)
def test_masked_model_refuses_a_bad_mask(net: nn.Module, mask: Tensor, message: str) -> None:
    """By its name, with what came."""
    with pytest.raises(ValueError, match=message):
        Masked(net, mask)


def test_masked_model_refuses_images_of_another_size(net: nn.Module, few: Batch) -> None:
    """The message names both shapes."""
    with pytest.raises(ValueError, match=r"mask: expected \(1, 8, 8\) or \(1, 8, 8\), as the images, got \(1, 7, 8\)"):
        pgd(Masked(net, torch.ones(7, 8)), *few, eps=0.1)


def test_mask_in_a_mask_is_where_both_let_an_image_change(net: nn.Module, few: Batch) -> None:
    """One model and one mask come of it, so nothing outside either moves, by a gradient or by a draw."""
    left, top = torch.zeros(1, 8, 8, dtype=torch.bool), torch.zeros(1, 8, 8, dtype=torch.bool)
    left[:, :, :5], top[:, :5] = True, True
    model = Masked(Masked(net, left), top)
    assert model.model is net
    assert torch.equal(model.mask, left & top)
    x, y = few
    outside = ~(left & top).expand_as(x)
    for attack in (pgd, sparse_rs):
        result = attack(model, x, y, eps=10 if attack is sparse_rs else 0.4)
        assert torch.equal(result.x_adv[outside], x[outside])
        assert not torch.equal(result.x_adv, x)
    with pytest.raises(ValueError, match="mask: expected at least one pixel"):
        Masked(Masked(net, left), ~left)
    with pytest.raises(ValueError, match="mask: expected the size of the model's own"):
        Masked(Masked(net, left), torch.ones(1, 7, 8))


def test_confine_asks_for_a_masked_model_and_not_for_a_name(few: Batch) -> None:
    """A model may have a buffer called mask that means something else."""

    class Other(nn.Module):
        mask = torch.zeros(1, 8, 8, dtype=torch.bool)

    x = few[0]
    assert torch.equal(confine(Other(), 1 - x, x), 1 - x)
