"""Swaps: exact on linear models from any start, never worse, within their passes, and fewer features in practice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from core.attacks.engine.engine import frozen
from core.attacks.engine.geometry import shortest_prefix
from core.attacks.engine.losses import Goal
from core.attacks.engine.smallest import Smallest
from core.attacks.sparse import swaps
from core.attacks.sparse.sparse import jacobian_sparse
from core.attacks.sparse.swaps import swap

Batch = tuple[Tensor, Tensor]
Maker = Callable[[Tensor, float], nn.Module]


def swapped(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, calls: int | Tensor) -> Smallest:
    """What swaps make of the fooling images `start`."""
    with frozen(model):
        best = Smallest.start(model, x, Goal.of(y, None), "l0", len(x), None)
        best.x_adv, best.size = start.clone(), (start != x).flatten(1).sum(1).to(x.dtype)
        best.forwards.zero_()
        swap(best, torch.arange(len(x)), calls)
    return best


def fewest_by_brute_force(weight: Tensor, image: Tensor, threshold: float) -> int:
    """The smallest number of features that can bring w·x across the threshold, by trying every set."""
    score = image @ weight
    gain = (torch.where(weight > 0, image, 1 - image) * weight.abs()).tolist()
    if score <= threshold:
        gain = (torch.where(weight > 0, 1 - image, image) * weight.abs()).tolist()
    need = abs(score.item() - threshold)
    return next(k for k in range(1, 9) if any(sum(some) > need for some in combinations(gain, k)))


def test_swaps_are_exact_on_linear_models(scalar_linear: Maker) -> None:
    """From a start of needless and badly chosen changes to the optimum, which brute force knows (MATHEMATICS 1)."""
    generator = torch.Generator().manual_seed(0)
    improved = 0
    for _ in range(6):
        weight = torch.randn(8, generator=generator, dtype=torch.float64)
        x = torch.rand(40, 1, 2, 4, generator=generator, dtype=torch.float64)
        model = scalar_linear(weight, 0.2)
        y = (model.score(x).detach() > 0.2).long()
        slope = torch.where(y == 1, 1.0, -1.0)[:, None] * weight
        end = (slope < 0).to(x.dtype)
        # the features of least gain first, until it fools: the worst way to do it
        order = (slope.abs() * (x.flatten(1) - end).abs()).argsort(1)
        start, done = x.clone().flatten(1), torch.zeros(len(x), dtype=torch.bool)
        for step in range(8):
            moved = start.scatter(1, order[:, step, None], end.gather(1, order[:, step, None]))
            start = torch.where(done[:, None], start, moved)
            done = model(start.view_as(x)).argmax(1) != y
        x, y, start = x[done], y[done], start[done].view_as(x[done])
        best = swapped(model, x, y, start, 10_000)
        improved += int((best.size < (start != x).flatten(1).sum(1)).sum())
        assert (model(best.x_adv).argmax(1) != y).all()
        exact = [fewest_by_brute_force(weight, image, 0.2) for image in x.flatten(1)]
        assert best.size.long().tolist() == exact
    assert improved > 100


def test_swaps_reach_the_shortest_prefix_of_long_ones(scalar_linear: Maker) -> None:
    """The same with 60 features and counts up to dozens, against the sorted gains."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(60, generator=generator, dtype=torch.float64)
    x = torch.rand(30, 1, 6, 10, generator=generator, dtype=torch.float64)
    model = scalar_linear(weight, 0.0)
    y = (model.score(x).detach() > 0).long()
    slope = torch.where(y == 1, 1.0, -1.0)[:, None] * weight
    gain = slope.abs() * torch.where(slope > 0, x.flatten(1), 1 - x.flatten(1))
    exact, _ = shortest_prefix(gain, model.score(x).detach().abs())
    start = (slope < 0).to(x.dtype).view_as(x)  # every feature changed
    best = swapped(model, x, y, start, 100_000)
    assert torch.equal(best.size.long(), exact)


def test_swaps_never_make_worse_and_keep_to_their_passes(net: nn.Module, digits: Batch) -> None:
    """Each image has its own limit; below the price of a round nothing is spent."""
    x, y = digits[0][1400:1500], digits[1][1400:1500]
    raw = jacobian_sparse(net, x, y, candidates=2, swaps=False)
    rows = raw.success & (raw.distance["l0"] > 1)
    x, y, start = x[rows], y[rows], raw.x_adv[rows]
    calls = torch.arange(len(x)) * 8
    best = swapped(net, x, y, start, calls)
    before = raw.distance["l0"][rows]
    assert (best.size <= before).all()
    assert (best.size < before).any()
    assert (best.forwards + best.backwards <= calls).all()
    assert (best.forwards[:4] == 0).all()
    assert torch.equal((best.x_adv != x).flatten(1).sum(1), best.size.long())
    assert (copy.deepcopy(net).eval()(best.x_adv).argmax(1) != y).all()


def test_sparse_with_swaps_needs_fewer(net: nn.Module, digits: Batch) -> None:
    """Never more than pruned, fewer in all; `pruned_count` is what pruning left; without pruning no swaps."""
    x, y = digits[0][1400:1600], digits[1][1400:1600]
    plain, more = (jacobian_sparse(net, x, y, candidates=4, swaps=swaps) for swaps in (False, True))
    assert torch.equal(plain.success, more.success)
    assert torch.equal(plain.trace["pruned_count"], more.trace["pruned_count"])
    assert torch.equal(plain.trace["pruned_count"], plain.distance["l0"])
    assert (more.distance["l0"] <= plain.distance["l0"]).all()
    assert more.distance["l0"].sum() < plain.distance["l0"].sum()
    raw = jacobian_sparse(net, x, y, candidates=4, prune=False)
    assert torch.equal(raw.trace["pruned_count"], raw.trace["greedy_count"])
    assert torch.equal(raw.distance["l0"], raw.trace["greedy_count"])


@pytest.mark.parametrize("budget", [60, 120, 300])
def test_sparse_with_swaps_keeps_to_its_budget(net: nn.Module, few: Batch, budget: int) -> None:
    """Also where a round of swaps no longer fits."""
    result = jacobian_sparse(net, *few, budget=budget)
    assert (result.forwards + result.backwards).max() <= budget


def test_two_for_one_looks_at_no_square_of_the_changes() -> None:
    """The exchanges proposed are those of the full table of pairs, in memory that grows with the changes alone."""
    generator = torch.Generator().manual_seed(0)
    loss, win = (torch.randn(3, size, generator=generator, dtype=torch.float64) for size in (60, 24))
    loss[1, 20:] = torch.inf
    one, other, new, there = swaps._two_for_one(loss, win, 32)
    assert there.all()
    found = loss.gather(1, one) + loss.gather(1, other) + win.gather(1, new)
    for row in range(3):
        table = [a + b + c for a, b in combinations(loss[row].tolist(), 2) for c in win[row].tolist()]
        torch.testing.assert_close(found[row], loss.new_tensor(sorted(table)[:32]))
    assert (one != other).all()
    many = torch.randn(1, 200_000, generator=generator)  # every two of them would be 2e10 sums, 24 times
    assert swaps._two_for_one(many, win[:1].float(), 32)[3].all()


def test_swaps_in_small_parts_are_the_same(net: nn.Module, few: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many changed images are held at once decides nothing, and every pass is counted all the same."""
    whole = jacobian_sparse(net, *few, max_features=20)
    monkeypatch.setattr(swaps, "NUMBERS", 1)
    parts = jacobian_sparse(net, *few, max_features=20)
    assert torch.equal(parts.x_adv, whole.x_adv)
    assert torch.equal(parts.forwards, whole.forwards)
