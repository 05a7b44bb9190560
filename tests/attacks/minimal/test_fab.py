"""FAB: its projection from either side of a boundary, one class after the other, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.attacks import fab
from core.attacks.engine.geometry import norm_of
from core.attacks.minimal.deepfool import crossing_step
from tests.attacks.engine.test_smallest import exact_distance, linear_case

Batch = tuple[Tensor, Tensor]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_projection_onto_a_boundary_is_exact_from_either_side(norm: str) -> None:
    """The nearest point of the box where the function is 0, from above and from below; else as far as the box goes."""
    generator = torch.Generator().manual_seed(6)
    slope = torch.randn(60, 1, 3, 4, generator=generator, dtype=torch.float64)
    point = (torch.rand(60, 1, 3, 4, generator=generator, dtype=torch.float64) * 2 - 0.5).clamp(0, 1)
    value = 2 * torch.randn(60, generator=generator, dtype=torch.float64)
    move, size = crossing_step(slope, value, point, norm)
    assert ((point + move >= 0) & (point + move <= 1)).all()
    downhill = value.sign()[:, None] * slope.flatten(1)
    exact = exact_distance(downhill, value.abs(), point.flatten(1), norm)
    able = exact.isfinite()
    assert 0 < able.sum() < len(able)
    after = value + (slope * move).flatten(1).sum(1)
    assert after[able].abs().max() < 1e-9
    assert (after[~able].abs() < value[~able].abs()).all()
    torch.testing.assert_close(norm_of(move, norm)[able], exact[able])
    assert torch.equal(size, torch.where(able, norm_of(move, norm), torch.inf))


def test_fab_towards_each_class_finds_the_nearest_of_a_linear_model() -> None:
    """As many runs as other classes: within 2 % of the optimum, for one backward pass a step and run."""
    model, x, y, exact = linear_case(5)
    result = fab(model, x, y, norm="l2", targets=4, steps=10)
    possible = exact["l2"].isfinite()
    assert torch.equal(result.success, possible)
    assert (result.distance["l2"] / exact["l2"])[possible].max() <= 1.02
    assert result.backwards.max() == 40


def test_fab_gains_from_more_classes(exactly: tuple[nn.Module, Tensor, Tensor]) -> None:
    """Runs towards three classes are never worse than the first of them alone, and better somewhere."""
    one, three = (fab(*exactly, norm="linf", targets=targets, steps=15) for targets in (1, 3))
    assert (three.distance["linf"] <= one.distance["linf"] * 1.01).all()
    assert (three.distance["linf"] < 0.99 * one.distance["linf"]).any()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_fab_ends_where_enough_is_found(norm: Any, exactly: tuple[nn.Module, Tensor, Tensor]) -> None:
    """The same images fall within a distance that is enough, for fewer passes; the others are searched to the end."""
    net, *few = exactly
    full = fab(net, *few, norm=norm, targets=2, steps=15)
    enough = full.distance[norm][full.distance[norm] > 0].median().item()
    part = fab(net, *few, norm=norm, targets=2, steps=15, enough=enough)
    within = part.distance[norm] <= enough
    assert torch.equal(within, full.distance[norm] <= enough)
    torch.testing.assert_close(part.x_adv[~within], full.x_adv[~within], rtol=0, atol=1e-9)
    assert (part.backwards <= full.backwards).all()
    assert part.backwards[within].sum() < 0.7 * full.backwards[within].sum()
    with pytest.raises(ValueError, match="enough: expected finite budgets of 0 or more, got -1"):
        fab(net, *few, enough=-1.0)


def test_fab_leaves_the_strongest_classes_out(exactly: tuple[nn.Module, Tensor, Tensor]) -> None:
    """The first class, and the two after it: the nearer of both is what runs towards all three find."""
    net, *few = exactly
    plans = ((1, 0), (2, 1), (3, 0))
    runs = [fab(net, *few, norm="l2", targets=targets, skip=skip, steps=15) for targets, skip in plans]
    first, others, all_three = (run.distance["l2"] for run in runs)
    assert (others < 0.99 * first).any()
    assert (first < 0.99 * others).any()
    torch.testing.assert_close(all_three, torch.minimum(first, others), rtol=0.01, atol=0)
    assert torch.equal(runs[0].backwards + runs[1].backwards, runs[2].backwards)
    with pytest.raises(ValueError, match="skip: expected 0 or more, got -1"):
        fab(net, *few, targets=1, skip=-1)
    with pytest.raises(ValueError, match="skip: expected at most 8 of 9 other classes, got 9"):
        fab(net, *few, targets=1, skip=9)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_fab_goes_no_farther_than_its_reach(norm: Any, net: nn.Module, few: Batch) -> None:
    """The first step ends within it, where one without it fools farther off; what follows may lie a little farther."""
    far = fab(net, *few, norm=norm, targets=1, steps=1, eta=1.9)
    reach = far.distance[norm][far.success].median().item()
    near = fab(net, *few, norm=norm, targets=1, steps=1, eta=1.9, reach=torch.full((len(few[0]),), reach))
    assert (far.distance[norm] > reach).any()
    assert near.distance[norm].max() <= reach * 1.0001
    later = fab(net, *few, norm=norm, targets=1, steps=8, eta=1.9, reach=reach)
    assert later.success.float().mean() > near.success.float().mean()
    for bad, said in ((0.0, "positive distances, got 0"), (torch.ones(2), r"shape \(")):
        with pytest.raises(ValueError, match=f"reach: expected .*{said}"):
            fab(net, *few, norm=norm, reach=bad)


def test_fab_refuses_runs_towards_other_classes_than_the_target(net: nn.Module, few: Batch) -> None:
    """A target says which class; `targets` says how many others."""
    with pytest.raises(ValueError, match="targets: expected 0 where y_target is given, got 2"):
        fab(net, *few, targets=2, y_target=(few[1] + 1) % 10)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_fab_passes_over_a_gap_that_nothing_moves(norm: str) -> None:
    """The strongest other class keeps its distance wherever the image goes: the step is to the next one."""

    class Parallel(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = x.flatten(1).sum(1)
            return torch.stack([score, score - 0.1, 2 * score - 4], 1)

    x = torch.full((3, 1, 3, 3), 0.3, dtype=torch.float64)
    result = fab(Parallel(), x, torch.zeros(3, dtype=torch.int64), norm=norm, steps=10, candidates=2)
    assert result.success.all()
    # 9 features of 0.3 sum to 2.7, and 4 is on the boundary
    wanted = {"linf": 1.3 / 9, "l2": 1.3 / 3, "l1": 1.3}[norm]
    assert (result.distance[norm] - wanted).abs().max() < 0.01 * wanted
