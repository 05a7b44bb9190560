"""Sparse-RS: pixels and features, its schedule, its draws, what it finds without a gradient."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core import specs
from core.attacks import sparse_rs
from core.attacks.engine.masks import Masked
from core.attacks.engine.steps import divisor
from core.attacks.engine.streams import Streams
from core.attacks.run import run_method
from tests.attacks.no_slope import Lock

Batch = tuple[Tensor, Tensor]


@pytest.fixture
def colour() -> tuple[nn.Module, Tensor, Tensor]:
    """A linear model of 3 classes on 60 colour images 3 × 5 × 6, half of whose values are at the ends."""
    generator = torch.Generator().manual_seed(0)
    x = (2 * torch.rand(60, 3, 5, 6, generator=generator) - 0.5).clamp(0, 1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(90, 3))
    model[1].weight.data = torch.randn(3, 90, generator=generator) * 0.2
    return model, x, model(x).argmax(1)


@pytest.mark.parametrize("count", ["pixels", "features"])
def test_sparse_rs_counts_pixels_or_features(colour: tuple[nn.Module, Tensor, Tensor], count: Any) -> None:
    """At most floor(eps) of what is counted, an image each; what changed has a corner of the colour cube."""
    model, x, y = colour
    eps = torch.linspace(0, 6.9, len(x))
    result = sparse_rs(model, x, y, eps=eps, count=count, queries=100)
    counted = result.distance["pixels" if count == "pixels" else "l0"]
    assert (counted <= eps.floor()).all()
    assert (counted == eps.floor())[eps >= 1].float().mean() > 0.8  # not fewer either: drawn colours always differ
    moved = (result.x_adv != x).any(1, keepdim=True).expand_as(x) if count == "pixels" else result.x_adv != x
    assert ((result.x_adv == 0) | (result.x_adv == 1))[moved].all()
    assert torch.equal(result.x_adv[:8], x[:8])
    assert 0.3 < result.success.float().mean() < 1
    if count == "pixels":
        assert (result.distance["l0"] > eps).any()  # two or three colours of a pixel


def test_sparse_rs_pixels_survive_eight_bits(colour: tuple[nn.Module, Tensor, Tensor]) -> None:
    """The ball of the round trip is that of pixels, not of features."""
    model, x, y = colour
    x = (x * 255).round() / 255
    plain, exported = (
        run_method(model, x, y, specs.SparseRs(queries=60), eps=3, eight_bit=eight_bit) for eight_bit in (False, True)
    )
    assert (plain.success & (plain.distance["l0"] > 3)).any()
    assert torch.equal(plain.x_adv, exported.x_adv)
    assert torch.equal(plain.success, exported.success)


@pytest.mark.slow
def test_sparse_rs_finds_the_only_pair_of_pixels() -> None:
    """Of 16 pixels two flip the class together, and only to white; no gradient leads there."""
    x, y = torch.full((30, 1, 4, 4), 0.5), torch.zeros(30, dtype=torch.int64)
    result = sparse_rs(Lock(), x, y, eps=2, queries=400)
    assert result.success.all()
    changed = (result.x_adv != x).flatten(1)
    assert changed[:, [3, 12]].all()
    assert (result.distance["l0"] == 2).all()
    assert not sparse_rs(Lock(), x, y, eps=1, queries=400).success.any()


def test_sparse_rs_takes_every_pixel_where_k_is_all() -> None:
    """More than there are is all of them; then only colours are left to draw."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model[1].weight.data = torch.tensor([[0.0] * 4, [1.0] * 4])
    model[1].bias.data = torch.tensor([3.5, 0.0])  # all four have to be white
    x, y = torch.full((20, 1, 2, 2), 0.5), torch.zeros(20, dtype=torch.int64)
    result = sparse_rs(model, x, y, eps=9, queries=100)
    assert result.success.all()
    assert (result.x_adv == 1).all()


def test_sparse_rs_more_queries_fool_more_and_never_harm(net: nn.Module, few: Batch) -> None:
    """Random search keeps only what helps: the margin of the result is never above that of the image."""
    x, y = few
    logits = copy.deepcopy(net).eval()(x).detach()
    clean = logits.gather(1, y[:, None])[:, 0] - logits.scatter(1, y[:, None], -torch.inf).max(1).values
    short, long = (sparse_rs(net, x, y, eps=3, queries=n) for n in (4, 300))
    assert long.success.sum() > short.success.sum()
    for result in (short, long):
        assert (result.trace["margin"] <= clean + 1e-5).all()
        assert (result.forwards <= (4 if result is short else 300) + 2).all()
        assert (result.backwards == 0).all()


def test_sparse_rs_draws_belong_to_the_image(net: nn.Module, few: Batch) -> None:
    """Images of one batch get different pixels, seeds differ, and the same seed repeats."""
    x, y = few[0][:1].expand(4, -1, -1, -1).clone(), few[1][:1].expand(4).clone()

    def found(seed: int) -> Tensor:
        return sparse_rs(net, x, y, eps=3, queries=10, streams=Streams.of(seed, torch.arange(4))).x_adv

    assert not torch.equal(found(0)[0], found(0)[1])
    assert not torch.equal(found(0), found(1))
    assert torch.equal(found(0), found(0))


def test_sparse_rs_of_different_k_is_that_of_each_alone(exactly: tuple[nn.Module, Tensor, Tensor]) -> None:
    """How many pixels the neighbours change, and how often they have been tried, plays no part."""
    net, x, y = exactly
    eps = torch.arange(40) % 9 + 1.0
    streams = Streams.of(3, torch.arange(40))
    whole = sparse_rs(net, x, y, eps=eps, queries=40, streams=streams, batch=7)
    for row in (0, 7, 8, 31):
        rows = torch.tensor([row])
        alone = sparse_rs(net, x[rows], y[rows], eps=eps[rows], queries=40, streams=streams.take(rows))
        assert torch.equal(alone.x_adv, whole.x_adv[rows])
        assert torch.equal(alone.forwards, whole.forwards[rows])


def test_sparse_rs_spends_its_pixels_inside_the_mask(colour: tuple[nn.Module, Tensor, Tensor]) -> None:
    """Every draw falls where the mask allows a change, so none is lost."""
    model, x, y = colour
    mask = torch.zeros(1, 5, 6, dtype=torch.bool)
    mask[0, 1:3, 2:5] = True
    result = sparse_rs(Masked(model, mask), x, y, eps=6, queries=50)
    outside = ~mask.expand_as(x)
    assert torch.equal(result.x_adv[outside], x[outside])
    tried = (result.x_adv != x).flatten(1).any(1)
    assert (result.distance["pixels"][tried] == 6).all()


def test_divisor_falls_as_published() -> None:
    """The public schedule over 10,000 queries."""
    published = {0: 1, 1: 2, 50: 2, 51: 4, 200: 4, 500: 5, 1000: 6, 2000: 8, 4000: 10, 6000: 12, 8000: 15, 8001: 20}
    assert {query: divisor(query / 10_000) for query in published} == published
