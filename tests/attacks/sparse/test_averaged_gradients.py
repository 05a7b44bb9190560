"""Averaged gradients: exact for two classes of a linear model, the count of passes, the contract of an attack."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from core.attacks.engine.geometry import shortest_prefix
from core.attacks.sparse.averaged_gradients import averaged_gradients
from tests.attacks.engine.test_smallest import linear_case

Batch = tuple[Tensor, Tensor]


def test_averaged_gradients_is_the_smallest_count_of_a_linear_model() -> None:
    """With one slope everywhere only the count is searched for."""
    model, x, y, _ = linear_case(2)
    logits = model(x).detach()
    slope = model.weight[y] - model.weight[1 - y]
    gains = slope.abs() * torch.where(slope > 0, x.flatten(1), 1 - x.flatten(1))
    need = logits.gather(1, y[:, None])[:, 0] - logits.gather(1, 1 - y[:, None])[:, 0]
    exact, _ = shortest_prefix(gains.detach(), need)
    result = averaged_gradients(model, x, y, steps=60)
    assert torch.equal(result.success, exact >= 0)
    assert torch.equal(result.distance["l0"][exact >= 0], exact[exact >= 0])


@pytest.mark.parametrize("targeted", [False, True])
def test_averaged_gradients_changes_whole_features_at_its_price(net: nn.Module, few: Batch, targeted: bool) -> None:
    """Each changed feature is at an end; two passes a step, three besides, and the verification of a success."""
    x, y = few
    y_target = (y + 1) % 10 if targeted else None
    result = averaged_gradients(net, x, y, steps=12, max_features=30, y_target=y_target)
    logits = copy.deepcopy(net).eval()(result.x_adv)
    fooled = logits.argmax(1) == y_target if targeted else logits.argmax(1) != y
    assert torch.equal(result.success, fooled)
    assert result.success.any()
    changed = result.x_adv != x
    assert ((result.x_adv == 0) | (result.x_adv == 1))[changed].all()
    moved = result.backwards > 0
    assert (result.backwards[moved] == 13).all()
    assert torch.equal(result.forwards[moved], 14 + result.success[moved])
    aims = None if y_target is None else y_target[:3]
    alone = averaged_gradients(net, x[:3], y[:3], steps=12, max_features=30, y_target=aims)
    assert torch.equal(alone.distance["l0"], result.distance["l0"][:3])


@pytest.mark.parametrize("name", ["steps", "max_features", "batch"])
def test_averaged_gradients_refuses_bad_settings(net: nn.Module, few: Batch, name: str) -> None:
    """By the argument's name."""
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
        averaged_gradients(net, *few, **{name: 0})
