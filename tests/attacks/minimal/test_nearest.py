"""The last step of a walk: exact on linear models, never harmful, at the price that it tells."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import core.attacks
from core.attacks.engine.engine import frozen
from core.attacks.engine.losses import Goal
from core.attacks.engine.smallest import Smallest
from core.attacks.minimal.nearest import CANDIDATES, LOOK, UNITS, boundary_outside_box, nearest_within, onto_nearest
from tests.attacks.engine.test_smallest import linear_case

Batch = tuple[Tensor, Tensor]
WALKS = ("carlini_wagner", "ddn", "ead", "fmn", "pdpgd")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_last_step_goes_from_a_far_boundary_to_the_nearest(norm: str) -> None:
    """Five linear classes, from a corner of the box: the exact distance, at 8 passes."""
    model, x, y, exact = linear_case(5)
    with frozen(model):
        best = Smallest.start(model, x, Goal.of(y, None), norm, 128, None)
        for shift in (1, 2, 3, 4):  # the corner of the box that is most of another class
            corner = (model.weight[(y + shift) % 5] > model.weight[y]).view_as(x).to(x.dtype)
            best.look(torch.arange(len(x)), corner)
        far = best.size.clone()
        rows = (far < torch.inf).nonzero()[:, 0]
        assert len(rows) > 30
        before = best.forwards + best.backwards
        onto_nearest(best, rows, nearest_within(None))
        spent = best.forwards + best.backwards - before
        assert (far[rows] > 1.3 * exact[norm][rows]).double().mean() > 0.9
        assert ((best.size / exact[norm])[rows] - 1).abs().max() < 1e-9
        assert (spent[rows] == 1 + CANDIDATES + len(UNITS)).all()
        result = best.result()
    assert torch.equal(result.success.nonzero()[:, 0], rows)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", WALKS)
def test_last_step_only_helps(name: str, net: nn.Module, few: Batch) -> None:
    """After the same walk: no distance grows, some shrink, for at most 8 passes more; 0 boundaries are none."""
    x, y = few
    norm = {"ead": "l1"}.get(name, "l2")
    settings: dict[str, Any] = {"steps": 20} | ({"searches": 2} if name in ("ead", "carlini_wagner") else {})
    attack = getattr(core.attacks, name)
    without, with_it = attack(net, x, y, candidates=0, **settings), attack(net, x, y, **settings)
    assert torch.equal(with_it.success, without.success)
    assert (with_it.distance[norm] <= without.distance[norm]).all()
    assert (with_it.distance[norm] < without.distance[norm]).any()
    extra = with_it.forwards + with_it.backwards - without.forwards - without.backwards
    assert extra.max() == nearest_within(None)
    with pytest.raises(ValueError, match="candidates: expected 0 or more, got -1"):
        attack(net, x, y, candidates=-1)


def test_last_step_is_left_out_of_a_short_budget() -> None:
    """It takes one pass in eight at most."""
    assert nearest_within(None) == 1 + CANDIDATES + len(UNITS)
    assert nearest_within(8 * nearest_within(None) - 1) == 0
    assert nearest_within(8 * nearest_within(None)) == nearest_within(None)
    assert nearest_within(1000, 0) == 0


@pytest.mark.sampled(2)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_boundary_outside_box_is_what_a_linear_model_cannot_reach(norm: str) -> None:
    """Five linear classes: exactly those whose strongest other class nothing in the box reaches, at two passes each."""
    model, x, _, _ = linear_case(5)
    model.weight.data /= torch.tensor([[1.0], [2.0], [4.0], [8.0], [16.0]])
    model.bias.data += torch.tensor([-3.0, -2.0, 0.0, 1.0, 2.0])
    order = model(x).detach().argsort(1, descending=True)
    y, other = order[:, 0], order[:, 1]
    slope = (model.weight[y] - model.weight[other]).detach()
    end = model((slope < 0).to(x.dtype)).detach()
    reached = end.gather(1, y[:, None])[:, 0] <= end.gather(1, other[:, None])[:, 0]
    assert 5 < reached[:30].sum() < 25
    with frozen(model):
        best = Smallest.start(model, x, Goal.of(y, None), norm, 128, None)
        rows = torch.arange(30)
        assert torch.equal(boundary_outside_box(best, rows), ~reached[:30])
        assert ((best.forwards + best.backwards)[:30] == 1 + LOOK).all()
        assert ((best.forwards + best.backwards)[30:] == 1).all()
        assert len(boundary_outside_box(best, rows[:0])) == 0
