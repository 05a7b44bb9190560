"""SimBA: what its basis can do on linear models, and what it asks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from core.attacks import simba
from core.attacks.black_box.simba import _direction, _waves

Batch = tuple[Tensor, Tensor]
Maker = Callable[[Tensor, float], nn.Module]


@pytest.mark.parametrize("share", [None, 0.5, 1.0])
def test_simba_basis_is_orthonormal(share: float | None) -> None:
    """All directions of two channels: unit length, at right angles; whole, they span every image."""
    like = torch.zeros(1, dtype=torch.float64)
    waves = [_waves(side, share, like) for side in (6, 5)]
    count = 2 * len(waves[0]) * len(waves[1])
    made = _direction(torch.arange(count), waves, 2, "l2").flatten(1)
    torch.testing.assert_close(made @ made.T, torch.eye(count, dtype=torch.float64))
    assert count == (2 * 3 * 3 if share == 0.5 else 60)
    tall = _direction(torch.arange(count), waves, 2, "linf").flatten(1)
    torch.testing.assert_close(tall.abs().amax(1), torch.ones(count, dtype=torch.float64))


def test_simba_reaches_the_optimum_of_a_linear_model_in_linf(
    scalar_linear: Maker, linear_optimum: Callable[..., Tensor]
) -> None:
    """One turn through all pixels moves each to the end that helps: as good as any perturbation of the ball."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(30, generator=generator, dtype=torch.float64)
    x = torch.rand(40, 1, 5, 6, generator=generator, dtype=torch.float64)
    model = scalar_linear(weight, 0.0)
    reach = linear_optimum(weight, x, torch.full((40,), 0.1, dtype=torch.float64), "linf") @ weight.abs()
    model.threshold += model.score(x).median().detach() + reach.median()
    y = torch.zeros(40, dtype=torch.int64)
    gap = (model.threshold - model.score(x)).detach()
    result = simba(model, x, y, eps=0.1, norm="linf", queries=1000)
    assert torch.equal(result.success, gap < reach)
    assert 5 < (result.success & (gap > 0)).sum() < 35
    stood = ~result.success
    best = (model.threshold - model.score(result.x_adv)).detach()
    torch.testing.assert_close(best[stood], (gap - reach)[stood])
    assert (result.forwards[stood] <= 2 + 2 * 60).all()  # two turns, up and down: a third would ask the same again


def test_simba_asks_only_what_would_change_the_image(scalar_linear: Maker) -> None:
    """Black pixels cannot go down, so a black image with a helpless model costs one query a pixel."""
    model = scalar_linear(torch.ones(12), 100.0)
    model.weight.data.neg_()
    result = simba(model, torch.zeros(1, 1, 3, 4), torch.tensor([0]), eps=0.5, norm="linf")
    assert not result.success.any()
    assert result.forwards.item() == 1 + 12


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_simba_keeps_to_its_budget(net: nn.Module, few: Batch, norm: str) -> None:
    """Queries, first look and verification together; too little is refused; more than the need changes nothing."""
    for budget in (3, 20, 60):
        result = simba(net, *few, eps=0.1, norm=norm, budget=budget)
        assert budget - 1 <= result.forwards.max() <= budget
        assert (result.backwards == 0).all()
    free = simba(net, *few, eps=0.1, norm=norm, queries=50)
    assert torch.equal(free.x_adv, simba(net, *few, eps=0.1, norm=norm, queries=50, budget=500).x_adv)
    with pytest.raises(ValueError, match="budget: expected at least 3, got 2"):
        simba(net, *few, eps=0.1, norm=norm, budget=2)
