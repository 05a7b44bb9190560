"""EAD: the elastic net's own optimum, sparser with a larger beta, and the two rules."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from core.attacks import ead
from tests.attacks.engine.test_smallest import Linear

Batch = tuple[Tensor, Tensor]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("beta", [1.0, 10.0])
def test_ead_finds_the_smallest_elastic_net_of_a_binary_linear_model(beta: float) -> None:
    """Its optimum is |delta_j| = min((t |w_j| - beta)_+ / 2, u_j), t where the boundary is reached; within 2 %."""
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(24, generator=generator, dtype=torch.float64)
    model = Linear(torch.stack([torch.zeros_like(weight), weight]), torch.zeros(2, dtype=torch.float64))
    x = (torch.rand(30, 1, 4, 6, generator=generator, dtype=torch.float64) * 2 - 0.5).clamp(0, 1)
    gap = model(x)[:, 1].detach()
    y = (gap > 0).long()
    slope = torch.where(gap > 0, 1.0, -1.0)[:, None] * weight
    room = torch.where(slope > 0, x.flatten(1), 1 - x.flatten(1))
    low, high = torch.zeros_like(gap), torch.full_like(gap, 1e4)
    for _ in range(100):
        middle = (low + high) / 2
        size = torch.minimum((middle[:, None] * slope.abs() - beta).clamp(min=0) / 2, room)
        enough = (size * slope.abs()).sum(1) >= gap.abs()
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    size = torch.minimum((high[:, None] * slope.abs() - beta).clamp(min=0) / 2, room)
    possible = (room * slope.abs()).sum(1) > gap.abs()
    result = ead(model, x, y, beta=beta, rule="en", searches=8)
    assert torch.equal(result.success, possible)
    exact = (beta * size + size.square()).sum(1)[possible]
    found = (beta * result.distance["l1"] + result.distance["l2"].square())[possible]
    assert (found / exact).min() >= 1 - 1e-9
    assert (found / exact).max() <= 1.02


def test_ead_keeps_what_its_rule_asks_for(net: nn.Module, few: Batch) -> None:
    """Of the same iterates, `l1` keeps the smallest l1, `en` the smallest elastic net."""
    by_l1, by_net = (ead(net, *few, rule=rule, beta=1.0, searches=3, steps=40) for rule in ("l1", "en"))
    assert (by_l1.distance["l1"] <= by_net.distance["l1"] * (1 + 1e-6)).all()
    net_of = [result.distance["l1"] + result.distance["l2"].square() for result in (by_l1, by_net)]
    assert net_of[1].mean() <= net_of[0].mean() * 1.005


@pytest.mark.slow
def test_ead_changes_fewer_features_with_a_larger_beta(net: nn.Module, few: Batch) -> None:
    """The l1 part is what makes changes few; on average."""
    counts = [ead(net, *few, beta=beta, searches=4).distance["l0"].double().mean() for beta in (0.1, 1.0, 30.0)]
    assert counts[0] > counts[1] > counts[2]
