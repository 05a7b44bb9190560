"""The guided search: at most k features, each at an end; drawn where gradients point, elsewhere too; in any batch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.attacks import guided_search, minimum, sparse_rs
from core.attacks.engine.engine import frozen
from core.attacks.engine.losses import Goal
from core.attacks.engine.masks import Masked
from core.attacks.engine.smallest import Smallest
from core.attacks.engine.streams import Streams
from core.attacks.sparse.guided import count_down
from tests.attacks.no_slope import Deaf, Lock

Batch = tuple[Tensor, Tensor]


@pytest.mark.parametrize("targeted", [False, True])
def test_guided_search_changes_at_most_k_features(net: nn.Module, few: Batch, targeted: bool) -> None:
    """An image its own k; what changed is at an end; verdicts and counts hold; the model is untouched."""
    x, y = few
    before = copy.deepcopy(net.state_dict())
    eps = torch.linspace(0, 12.9, len(x))
    y_target = (y + 1) % 10 if targeted else None
    result = guided_search(net, x, y, eps=eps, queries=40, looks=4, y_target=y_target)
    logits = copy.deepcopy(net).eval()(result.x_adv)
    assert (result.distance["l0"] <= eps.floor()).all()
    changed = result.x_adv != x
    assert ((result.x_adv == 0) | (result.x_adv == 1))[changed].all()
    assert torch.equal(logits.argmax(1) == y_target if targeted else logits.argmax(1) != y, result.success)
    assert targeted or result.success.float().mean() > 0.2
    assert (result.backwards <= 4).all()
    assert (result.forwards <= 2 + 4 + 40).all()
    assert (result.backwards[eps < 1] == 0).all()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_guided_search_needs_fewer_queries_than_a_blind_one() -> None:
    """Of 400 pixels three matter, and have no slope at the image: draws find them at once, blind ones rarely."""

    class Three(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            heard = (x.flatten(1)[:, [17, 203, 388]] - 0.4).clamp(min=0).sum(1)
            return torch.stack([torch.full_like(heard, 1.5), heard], 1)

    x, y = torch.zeros(30, 1, 20, 20), torch.zeros(30, dtype=torch.int64)
    settings: dict[str, Any] = {"eps": 3, "queries": 100}
    assert guided_search(Three(), x, y, looks=24, **settings).success.float().mean() > 0.9
    assert sparse_rs(Three(), x, y, count="features", **settings).success.float().mean() < 0.3


def test_guided_search_finds_what_no_gradient_shows() -> None:
    """Where gradients are 0 all features are drawn alike."""
    x, y = torch.full((30, 1, 4, 4), 0.5), torch.zeros(30, dtype=torch.int64)
    result = guided_search(Lock(), x, y, eps=2, queries=800)
    assert result.success.all()
    assert (result.x_adv != x).flatten(1)[:, [3, 12]].all()
    assert not guided_search(Lock(), x, y, eps=1, queries=200).success.any()


def test_guided_search_of_a_slice_is_the_slice(exactly: tuple[nn.Module, Tensor, Tensor]) -> None:
    """Draws belong to the image: alone, and in batches that refill, it gets what it gets among all."""
    net, x, y = exactly
    streams = Streams.of(3, torch.arange(len(y)))
    whole = guided_search(net, x, y, eps=4, queries=30, streams=streams, batch=7)
    rows = torch.tensor([1, 9, 17])
    part = guided_search(net, x[rows], y[rows], eps=4, queries=30, streams=streams.take(rows))
    assert torch.equal(part.x_adv, whole.x_adv[rows])
    assert torch.equal(part.forwards, whole.forwards[rows])


@pytest.mark.parametrize("k", [15, 16, 100])
def test_guided_search_takes_all_features_there_are(k: int) -> None:
    """Where k is all of them, or nearly, each may change, once."""
    x, y = torch.rand(8, 1, 4, 4), torch.zeros(8, dtype=torch.int64)
    result = guided_search(Deaf(), x.clamp(max=0.05), y, eps=k, queries=20)
    assert result.success.all()
    assert (result.distance["l0"] <= min(k, 16)).all()


def test_guided_search_keeps_to_a_mask(net: nn.Module, few: Batch) -> None:
    """No feature outside is drawn, also where fewer than k are inside."""
    x, y = few
    mask = torch.zeros_like(x[0], dtype=torch.bool)
    mask[..., 2:4, 2:4] = True
    result = guided_search(Masked(net, mask), x, y, eps=10, queries=30)
    assert torch.equal(result.x_adv[..., ~mask[0]], x[..., ~mask[0]])
    assert (result.x_adv != x).any()


@pytest.mark.parametrize("name", ["queries", "looks", "batch"])
def test_guided_search_refuses_bad_settings(net: nn.Module, few: Batch, name: str) -> None:
    """By the argument's name."""
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
        guided_search(net, *few, eps=3, **{name: 0})


@pytest.mark.parametrize("spare", [0, 40, 60, 120, 600])
def test_count_down_pays_for_what_it_does(spare: int) -> None:
    """Never more features, each at an end, still fooled, within what is to spare; none where there is nothing."""
    x, y = torch.zeros(20, 1, 8, 8), torch.zeros(20, dtype=torch.int64)
    with frozen(Deaf()) as model:
        best = Smallest.start(model, x, Goal.of(y, None), "l0", 8, None)
        rows = torch.arange(20)
        best.look(rows, torch.ones_like(x))
        before = best.forwards + best.backwards
        count_down(best, rows, torch.full_like(y, spare))
        spent = best.forwards + best.backwards - before
        assert (spent <= spare).all()
        assert torch.equal(best.size, (best.x_adv != x).flatten(1).sum(1).to(best.size))
        assert (model(best.x_adv).argmax(1) == 1).all()
        assert ((best.x_adv == 0) | (best.x_adv == 1)).all()
    if spare <= 40:  # the shortest search takes 47
        assert (best.size == 64).all()
    else:
        assert (best.size < 64).all()
    if spare == 600:
        assert best.size.median() < 10


def test_count_down_leaves_what_promises_too_little() -> None:
    """A small set is not worth a search where each evaluation must promise as much as an exchange."""
    x, y = torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    few = x.clone()
    few.view(4, -1)[:, -4:] = 1
    with frozen(Deaf()) as model:
        best = Smallest.start(model, x, Goal.of(y, None), "l0", 8, None)
        best.look(torch.arange(4), few)
        count_down(best, torch.arange(4), torch.full_like(y, 500), worth=1 / 70)
        assert (best.backwards == 0).all()
        count_down(best, torch.arange(4), torch.full_like(y, 500))
        assert (best.backwards > 0).all()


def test_smallest_count_of_a_slice_is_the_slice(exactly: tuple[nn.Module, Tensor, Tensor]) -> None:
    """What `minimum` draws in l0 belongs to the pixels, wherever in a batch an image stands."""
    net, x, y = exactly
    whole = minimum(net, x, y, norm="l0", budget=150)
    rows = torch.tensor([17, 1, 9])
    assert torch.equal(minimum(net, x[rows], y[rows], norm="l0", budget=150).x_adv, whole.x_adv[rows])
