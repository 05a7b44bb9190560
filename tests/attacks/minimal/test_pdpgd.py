"""PDPGD: its proximal step is the exact minimum, and it needs fewer passes than a trade-off that starts far away."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from core.attacks import pdpgd
from core.attacks.engine.geometry import norm_of
from core.attacks.minimal.pdpgd import shrink

Batch = tuple[Tensor, Tensor]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_proximal_step_is_the_minimum(norm: str) -> None:
    """No other point is better: random ones near and far, each feature left out, all of them, none."""
    generator = torch.Generator().manual_seed(0)
    delta = torch.randn(40, 1, 1, 6, generator=generator, dtype=torch.float64)
    metric = torch.rand(40, 1, 1, 6, generator=generator, dtype=torch.float64) + 0.1
    if norm == "l2":
        metric = metric[..., :1].expand_as(metric).clone()
    weight = torch.rand(40, generator=generator, dtype=torch.float64)

    def objective(z: Tensor) -> Tensor:
        return (metric / 2 * (z - delta).square()).flatten(1).sum(1) + weight * norm_of(z, norm)

    made = shrink(delta, metric, weight, norm)
    value = objective(made)
    assert (made.abs() <= delta.abs()).all()
    assert (made * delta >= 0).all()
    others = [torch.zeros_like(delta), delta]
    for scale in (1e-3, 1e-2, 0.1, 1.0):
        noise = torch.randn(50, *delta.shape, generator=generator, dtype=torch.float64)
        others += [*(made + scale * noise), *(made + scale * noise * (made != 0))]
    for j in range(6):
        keep = torch.arange(6) != j
        others += [made * keep, torch.where(keep, made, delta)]
    for other in others:
        assert (objective(other) >= value - 1e-12).all()
    assert torch.equal(shrink(delta, metric, torch.zeros_like(weight), norm), delta)
    assert not shrink(delta, metric, weight + 1e6, norm).any()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_pdpgd_gains_from_a_trade_off_that_starts_near_its_balance(norm: str, net: nn.Module, few: Batch) -> None:
    """In 60 steps: a smaller mean distance than from the authors' start of a hundredth (which 100 steps halve)."""
    near, far = (pdpgd(net, *few, norm=norm, steps=60, dual_start=start) for start in (0.1, 1e-3))
    assert near.success.all()
    assert near.distance[norm].double().mean() < far.distance[norm].double().mean()
