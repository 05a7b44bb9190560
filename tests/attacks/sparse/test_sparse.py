"""The greedy sparse attack: optimal on binary linear models, a trace that can be replayed, pruning that only helps."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from core.attacks.engine.geometry import shortest_prefix
from core.attacks.engine.losses import Goal
from core.attacks.sparse.sparse import jacobian_sparse

Batch = tuple[Tensor, Tensor]
Maker = Callable[[Tensor, float], nn.Module]


@pytest.mark.parametrize("candidates", [1, 5])
def test_sparse_is_optimal_for_binary_linear_models(scalar_linear: Maker, candidates: int) -> None:
    """The count is that of sorting the gains |w_j| u_j: greedy, pruned and estimated alike."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(30, generator=generator, dtype=torch.float64)
    x = torch.rand(60, 1, 5, 6, generator=generator, dtype=torch.float64)
    model = scalar_linear(weight, 0.5)
    gap = model.score(x).detach() - 0.5
    y = (gap > 0).long()
    slope = torch.where(y == 1, 1.0, -1.0)[:, None] * weight
    room = torch.where(slope > 0, x.flatten(1), 1 - x.flatten(1))
    exact, _ = shortest_prefix(slope.abs() * room, gap.abs())
    result = jacobian_sparse(model, x, y, candidates=candidates, max_features=30)
    possible = exact >= 0
    assert possible.sum() > 50
    assert exact.max() > 3
    assert torch.equal(result.success, possible)
    for count in ("l0", "greedy_count", "linear_estimate"):
        assert torch.equal(result.trace[count][possible], exact[possible]), count
    assert (result.trace["linear_estimate"][~possible] == -1).all()


def test_sparse_trace_can_be_replayed(net: nn.Module, few: Batch) -> None:
    """Applying `order` and `value` one after the other gives each `margin`, and `kept` alone gives the stored image."""
    x, y = few
    model = copy.deepcopy(net).eval()
    goal = Goal.of(y, None)
    result = jacobian_sparse(net, x, y, max_features=10, swaps=False)
    trace, count = result.trace, result.trace["greedy_count"]
    image, pruned = x.clone().flatten(1), x.clone().flatten(1)
    for step in range(11):
        at = count >= step
        margin = goal.margin(model(image.view_as(x))).detach()
        torch.testing.assert_close(trace["margin"][at, step], margin[at], rtol=1e-4, atol=1e-4)
        assert trace["margin"][~at, step].isnan().all()
        if step == 10:
            break
        move = count > step
        assert (trace["order"][~move, step] == -1).all()
        assert not trace["kept"][~move, step].any()
        feature, value = trace["order"][move, step][:, None], trace["value"][move, step][:, None]
        assert ((value == 0) | (value == 1)).all()
        image[move] = image[move].scatter(1, feature, value)
        keep = trace["kept"][:, step]
        pruned[keep] = pruned[keep].scatter(1, trace["order"][keep, step][:, None], trace["value"][keep, step][:, None])
    assert torch.equal(pruned.view_as(x), result.x_adv)
    assert torch.equal(trace["kept"].sum(1), trace["l0"])
    assert torch.equal(trace["l0"], result.distance["l0"])
    last = trace["margin"].gather(1, count[:, None])[:, 0]
    assert torch.equal(last < 0, result.success)


def test_sparse_pruning_leaves_nothing_to_put_back(net: nn.Module, digits: Batch) -> None:
    """With pruning every single change is needed; without it some are not, and none is lost by pruning."""
    x, y = digits[0][1400:1600], digits[1][1400:1600]
    raw = jacobian_sparse(net, x, y, candidates=2, prune=False)
    result = jacobian_sparse(net, x, y, candidates=2)
    assert torch.equal(raw.success, result.success)
    assert (result.trace["l0"] <= raw.trace["l0"]).all()
    assert result.trace["l0"].sum() < raw.trace["l0"].sum()
    model = copy.deepcopy(net).eval()
    for row in range(len(x)):
        changed = (result.x_adv[row] != x[row]).flatten().nonzero()[:, 0]
        if not result.success[row] or not len(changed):
            continue
        trials = result.x_adv[row].flatten().repeat(len(changed), 1)
        trials[torch.arange(len(changed)), changed] = x[row].flatten()[changed]
        assert (model(trials.view(-1, 1, 8, 8)).argmax(1) == y[row]).all()


def test_sparse_real_gains_beat_the_jacobians_first_proposal(net: nn.Module, digits: Batch) -> None:
    """Trying many proposals really needs fewer changes than believing the first."""
    x, y = digits[0][1400:1600], digits[1][1400:1600]
    blind, tried = (jacobian_sparse(net, x, y, candidates=n, prune=False).trace["greedy_count"] for n in (1, 16))
    assert tried.sum() < blind.sum()


def test_sparse_gives_up_at_its_limit(net: nn.Module, few: Batch) -> None:
    """At most `max_features` changes; the failed ones say so and keep their changes; more features fool more."""
    one, all_of_them = (jacobian_sparse(net, *few, max_features=n) for n in (1, 1000))
    assert (one.trace["greedy_count"] <= 1).all()
    assert (one.distance["l0"][~one.success] == 1).all()
    assert one.success.sum() < all_of_them.success.sum()
    assert all_of_them.success.all()
    assert all_of_them.trace["order"].shape == (40, 64)


def test_sparse_changes_a_feature_once() -> None:
    """Even where the Jacobian would take it back: the next change is another feature."""

    class Tent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            first, second = x.flatten(1).T
            rise = first + 3.3 * first**2 - 4.2 * first**3  # slope 1 at 0, slope -5 at 1
            return torch.stack([torch.ones_like(first), rise + 0.95 * second], 1)

    result = jacobian_sparse(Tent(), torch.zeros(1, 1, 1, 2), torch.tensor([0]), candidates=1)
    assert result.trace["order"].tolist() == [[0, 1]]
    assert result.success.all()


def test_sparse_counts_colour_features_and_pixels() -> None:
    """A feature is one colour of one pixel: two of them may share a pixel."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).double()
    model[1].weight.data = torch.zeros(2, 12, dtype=torch.float64)
    model[1].weight.data[1, [0, 4]] = 1.0  # two colours of the first pixel
    model[1].bias.data = torch.tensor([1.5, 0.0], dtype=torch.float64)
    x, y = torch.zeros(1, 3, 2, 2, dtype=torch.float64), torch.tensor([0])
    result = jacobian_sparse(model, x, y)
    assert result.success.all()
    assert result.distance["l0"].tolist() == [2]
    assert result.distance["pixels"].tolist() == [1]
    assert sorted(result.trace["order"][0, :2].tolist()) == [0, 4]


def test_sparse_reports(net: nn.Module, few: Batch) -> None:
    """Progress counts images up to all of them."""
    seen: list[int] = []
    jacobian_sparse(net, *few, max_features=4, batch=16, on_progress=lambda done, total, **_: seen.append(done))
    assert seen == sorted(seen)
    assert seen[-1] == 40
