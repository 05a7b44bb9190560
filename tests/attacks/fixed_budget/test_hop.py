"""Hops from the best point: never worse than where they begin, inside the ball, in any batch, nothing touched."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.attacks import basin_hopping, pgd
from core.attacks.engine.losses import margin
from core.attacks.engine.streams import Streams

Batch = tuple[Tensor, Tensor]
EPS = {"linf": 0.06, "l2": 0.4, "l1": 1.5}


@pytest.mark.parametrize("norm", EPS)
def test_hop_goes_on_from_the_best_point(norm: Any, net: nn.Module, few: Batch) -> None:
    """What a short walk left is fooled or comes lower; distances, verdicts and counts hold; the model is untouched."""
    x, y = few
    before = copy.deepcopy(net.state_dict())
    eps = EPS[norm]
    first = pgd(net, x, y, eps=eps, norm=norm, steps=3, loss="margin")
    stand = ~first.success
    x_init = first.x_adv[stand]
    result = basin_hopping(net, x[stand], y[stand], eps=eps, norm=norm, x_init=x_init, hops=6, steps=6)
    low, was = result.trace["margin"], first.trace["margin"][stand]
    assert (low <= was + 1e-5).all()
    assert (low < was - 1e-4).float().mean() > 0.5
    assert (result.distance[norm] <= eps).all()
    assert torch.equal(copy.deepcopy(net).eval()(result.x_adv).argmax(1) != y[stand], result.success)
    assert (result.forwards <= 2 + 6 * (2 + 6 + 1)).all()
    assert (result.backwards <= 6 * 6).all()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_hop_of_a_slice_is_the_slice(exactly: tuple[nn.Module, Tensor, Tensor]) -> None:
    """Draws belong to the image: alone it gets what it gets among all."""
    net, x, y = exactly
    streams = Streams.of(3, torch.arange(len(y)))
    whole = basin_hopping(net, x, y, eps=0.06, hops=3, chains=2, steps=4, streams=streams, batch=7)
    rows = torch.tensor([1, 9, 17])
    part = basin_hopping(net, x[rows], y[rows], eps=0.06, hops=3, chains=2, steps=4, streams=streams.take(rows))
    assert torch.allclose(part.x_adv, whole.x_adv[rows])
    assert torch.equal(part.forwards, whole.forwards[rows])


@pytest.mark.parametrize("norm", EPS)
def test_hop_without_disturbance_is_a_walk_down(norm: Any, net: nn.Module, few: Batch) -> None:
    """At share 0 nothing is drawn: whatever the streams, the same walk from the point itself, which ends lower."""
    x, y = few
    settings: dict[str, Any] = {"eps": EPS[norm], "norm": norm, "hops": 1, "chains": 1, "steps": 6, "share": 0.0}
    index = torch.arange(len(y))
    one, other = (basin_hopping(net, x, y, streams=Streams.of(seed, index), **settings) for seed in (0, 1))
    assert torch.equal(one.x_adv, other.x_adv)
    clean = margin(copy.deepcopy(net).eval()(x), y)
    right = clean > 0
    assert (one.trace["margin"] < clean)[right].all()


def test_hop_in_pieces_is_the_same(net: nn.Module, few: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many chains walk at once bounds the memory and changes nothing."""
    x, y = few
    whole = basin_hopping(net, x, y, eps=0.06, hops=4, chains=2, steps=4)
    monkeypatch.setattr(importlib.import_module("core.attacks.fixed_budget.hop"), "COPIES", 6)
    pieces = basin_hopping(net, x, y, eps=0.06, hops=4, chains=2, steps=4)
    assert torch.allclose(pieces.x_adv, whole.x_adv)
    assert torch.equal(pieces.forwards, whole.forwards)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"hops": 0}, "hops: expected at least 1"),
        ({"chains": 0}, "chains: expected at least 1"),
        ({"steps": 0}, "steps: expected at least 1"),
        ({"share": 1.5}, "share: expected a number from 0 to 1"),
        ({"share": -0.1}, "share: expected a number from 0 to 1"),
    ],
)
def test_hop_refuses_bad_settings(fields: dict[str, Any], said: str, net: nn.Module, few: Batch) -> None:
    """Counts, shares and starting points are checked."""
    with pytest.raises(ValueError, match=said):
        basin_hopping(net, *few, eps=0.1, **fields)
