"""The frontier of count against cap: exact on linear models, never rising with the cap, inside every cap."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from core.attacks import frontier
from core.attacks.sparse.sparse import jacobian_sparse

Batch = tuple[Tensor, Tensor]
Maker = Callable[[Tensor, float], nn.Module]
CAPS = (0.1, 0.25, 0.5, 1.0)


def brute_force(weight: Tensor, image: Tensor, threshold: float, cap: float) -> int:
    """The smallest number of features that can bring w·x across the threshold within the cap; -1: none can."""
    down = image @ weight > threshold
    room = torch.where((weight > 0) == down, image, 1 - image).clamp(max=cap)
    need = (image @ weight - threshold).abs().item()
    gain = (weight.abs() * room).tolist()
    return next((k for k in range(1, 9) if any(sum(some) > need for some in combinations(gain, k))), -1)


def test_frontier_is_exact_for_linear_models(scalar_linear: Maker) -> None:
    """Every cap's count is that of trying every set of features (MATHEMATICS section 1), and so is the estimate."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, generator=generator, dtype=torch.float64)
    x = torch.rand(40, 1, 2, 4, generator=generator, dtype=torch.float64)
    model = scalar_linear(weight, 0.1)
    y = (model.score(x).detach() > 0.1).long()
    result = frontier(model, x, y, caps=CAPS)
    exact = torch.tensor([[brute_force(weight, image, 0.1, cap) for cap in CAPS] for image in x.flatten(1)])
    assert (exact == -1).any()
    assert exact.unique().numel() > 4
    assert torch.equal(result.trace["count"], exact)
    assert torch.equal(result.trace["linear_estimate"], exact)
    alone = frontier(model, x, y, caps=CAPS, candidates=0)  # without the greedy attack: still exact
    assert torch.equal(alone.trace["count"], exact)


@pytest.mark.slow
def test_frontier_never_rises_and_its_images_hold(net: nn.Module, digits: Batch) -> None:
    """Each image fools, changes as many features as it says, and none of them beyond its cap."""
    x, y = digits[0][1400:1460], digits[1][1400:1460]
    model = copy.deepcopy(net).eval()
    result = frontier(net, x, y, caps=CAPS)
    count, images = result.trace["count"], result.trace["images"]
    for place, cap in enumerate(CAPS):
        found = count[:, place] >= 0
        assert (model(images[found, place]).argmax(1) != y[found]).all()
        delta = (images[:, place] - x).flatten(1)
        assert torch.equal((delta != 0).sum(1)[found], count[found, place])
        assert (delta.abs() <= torch.tensor(cap)).all()
        assert (delta[~found] == 0).all()
    assert (count[:, -1] >= 0).all()
    for narrow, wide in zip(count.T[:-1], count.T[1:], strict=True):
        assert (wide[narrow >= 0] <= narrow[narrow >= 0]).all()
        assert (wide[narrow >= 0] >= 0).all()
    assert count[:, -1].sum() < count[:, 1].clamp(min=0).sum()
    assert torch.equal(result.distance["l0"], count[:, -1])
    assert torch.equal(result.trace["pixels"], count)  # grey images


def test_frontier_is_no_weaker_than_the_greedy_attack(net: nn.Module, digits: Batch) -> None:
    """At a cap of 1 it needs no more than the greedy attack alone, and less than linear prefixes alone."""
    x, y = digits[0][1400:1500], digits[1][1400:1500]
    whole = frontier(net, x, y, caps=(1.0,))
    greedy = jacobian_sparse(net, x, y, candidates=8, max_features=40)
    prefixes = frontier(net, x, y, caps=(1.0,), candidates=0)
    assert (whole.distance["l0"] <= greedy.distance["l0"]).all()
    assert whole.distance["l0"].sum() < prefixes.distance["l0"].sum()


def test_sparse_keeps_to_its_cap(net: nn.Module, few: Batch) -> None:
    """The greedy attack, its pruning and its swaps change no feature by more; a smaller cap costs more features."""
    totals = []
    for cap in (0.3, 0.6, 1.0):
        result = jacobian_sparse(net, *few, cap=cap)
        assert (result.distance["linf"] <= torch.tensor(cap)).all()
        totals.append(int(result.distance["l0"].sum()))
    assert totals[0] > totals[1] > totals[2]


def test_frontier_with_a_budget_serves_large_caps_first(net: nn.Module, few: Batch) -> None:
    """What is left of a small budget goes to the caps that need fewest features."""
    result = frontier(net, *few, caps=CAPS, budget=22)
    assert (result.forwards + result.backwards).max() <= 22
    count = result.trace["count"]
    right = count[:, -1] != 0
    assert (count[right, -1] > 0).any()
    assert (count[right, 0] == -1).all()


def test_frontier_counts_pixels_of_colour_images() -> None:
    """Two colours of one pixel are two features and one pixel."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).double()
    model[1].weight.data = torch.zeros(2, 12, dtype=torch.float64)
    model[1].weight.data[1, [0, 4]] = 1.0
    model[1].bias.data = torch.tensor([0.9, 0.0], dtype=torch.float64)
    x, y = torch.zeros(1, 3, 2, 2, dtype=torch.float64), torch.tensor([0])
    result = frontier(model, x, y, caps=(0.4, 0.5, 1.0))
    assert result.trace["count"].tolist() == [[-1, 2, 1]]
    assert result.trace["pixels"].tolist() == [[-1, 1, 1]]


def test_frontier_reports_and_refuses(net: nn.Module, few: Batch) -> None:
    """Progress counts images up to all of them; caps out of range, twice or none are refused."""
    seen: list[int] = []
    frontier(net, *few, caps=(0.5, 1.0), batch=16, on_progress=lambda done, total, **_: seen.append(done))
    assert seen == sorted(seen)
    assert seen[-1] == 40
    for caps in ((), (0.0, 0.5), (0.5, 1.2), (0.5, 0.5)):
        with pytest.raises(ValueError, match=r"^caps: expected different numbers"):
            frontier(net, *few, caps=caps)
    with pytest.raises(ValueError, match=r"^candidates: expected 0 or more, got -1"):
        frontier(net, *few, candidates=-1)
    with pytest.raises(ValueError, match=r"^cap: expected a number"):
        jacobian_sparse(net, *few, cap=0.0)
