"""HopSkipJump: verdicts only, near the optimum of a linear model, its count of queries, starts."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from core.attacks import ddn, hop_skip_jump

Batch = tuple[Tensor, Tensor]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_hop_skip_jump_comes_near_the_optimum_of_a_linear_model(
    scalar_linear: Callable[[Tensor, float], nn.Module], norm: str
) -> None:
    """Grey images, far from the box: gap over the dual norm, from above; more queries, nearer."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(24, generator=generator, dtype=torch.float64)
    x = 0.4 + 0.2 * torch.rand(20, 1, 4, 6, generator=generator, dtype=torch.float64)
    model = scalar_linear(weight, 0.0)
    model.threshold += model.score(x).median().detach() + 1e-3
    gap = (model.score(x) - model.threshold).detach()
    exact = gap.abs() / weight.norm(p=1 if norm == "linf" else 2)
    ratio = []
    for queries in (200, 2000):
        result = hop_skip_jump(model, x, (gap > 0).long(), norm=norm, queries=queries)
        assert result.success.all()
        ratio.append(result.distance[norm] / exact)
        assert ratio[-1].min() >= 1 - 1e-9
    assert ratio[1].median() < (1.05 if norm == "l2" else 1.15)
    assert ratio[1].median() < ratio[0].median()


def test_hop_skip_jump_sees_the_predicted_class_only(net: nn.Module, few: Batch) -> None:
    """One-hot answers give the very same images as logits, with no gradient anywhere."""

    class Verdict(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = copy.deepcopy(net)

        def forward(self, x: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            return nn.functional.one_hot(self.net(x).argmax(1), 10).to(x.dtype)

    x, y = few[0][:8], few[1][:8]
    seen = hop_skip_jump(Verdict(), x, y, queries=200)
    assert torch.equal(seen.x_adv, hop_skip_jump(net, x, y, queries=200).x_adv)
    assert (seen.backwards == 0).all()


@pytest.mark.slow
def test_hop_skip_jump_comes_near_ddn(net: nn.Module, few: Batch) -> None:
    """Without gradients, 3,000 queries: median l2 within a third of DDN's."""
    x, y = few[0][:12], few[1][:12]
    asked, followed = hop_skip_jump(net, x, y, queries=3000), ddn(net, x, y)
    assert asked.success.all()
    assert asked.distance["l2"].median() < 1.33 * followed.distance["l2"].median()


def test_hop_skip_jump_starts_from_a_given_image(net: nn.Module, few: Batch, digits: Batch) -> None:
    """Towards a target: an image of that class is enough; one that does not fool is passed over for noise."""
    model = copy.deepcopy(net).eval()
    x, y = few
    right = (model(x).argmax(1) == y).nonzero()[:20, 0]
    x, y = x[right], y[right]
    target = (y + 5) % 10
    of_class = torch.stack(
        [((digits[1][:1000] == k) & (model(digits[0][:1000]).argmax(1) == k)).nonzero()[0, 0] for k in range(10)]
    )
    x_init = digits[0][of_class[target]]
    result = hop_skip_jump(net, x, y, y_target=target, x_init=x_init, queries=150)
    assert result.success.all()
    assert (result.distance["l2"] < (x_init - x).flatten(1).norm(dim=1)).all()
    useless = hop_skip_jump(net, x, y, x_init=x, queries=150)
    assert useless.success.float().mean() > 0.9


def test_hop_skip_jump_keeps_to_its_budget(net: nn.Module, few: Batch) -> None:
    """To the last query; too little is refused."""
    for budget in (3, 10, 60, 150):
        result = hop_skip_jump(net, *few, budget=budget, probes=10)
        assert result.forwards.max() <= budget
        assert result.forwards.max() >= min(budget, 10) - 1
    assert result.forwards.max() >= 140
    with pytest.raises(ValueError, match="budget: expected at least 3, got 2"):
        hop_skip_jump(net, *few, budget=2)


def test_hop_skip_jump_refuses_a_start_that_is_no_image(net: nn.Module, few: Batch) -> None:
    """By the argument's name, with what was expected and what came."""
    with pytest.raises(ValueError, match=r"x_init: expected finite values in \[0, 1\]"):
        hop_skip_jump(net, *few, x_init=few[0] * 2 + 1)
