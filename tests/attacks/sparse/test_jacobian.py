"""Jacobians against finite differences; the dense formula exact on linear models, with and without the box."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from core.attacks import jacobian
from core.attacks.sparse.jacobian import jacobian_dense

Batch = tuple[Tensor, Tensor]
Maker = Callable[[Tensor, float], nn.Module]


def test_jacobian_equals_finite_differences(net: nn.Module, few: Batch) -> None:
    """Every logit's derivative in every pixel, in float64."""
    model = copy.deepcopy(net).double().eval()
    x = few[0][:3].double().clamp(0.1, 0.9)
    found = jacobian(copy.deepcopy(net).double(), x, batch=2)
    assert found.shape == (3, 10, 1, 8, 8)
    step = 1e-6
    for pixel in range(0, 64, 7):
        bump = torch.zeros(64, dtype=torch.float64)
        bump[pixel] = step
        slope = (model(x + bump.view(1, 8, 8)) - model(x - bump.view(1, 8, 8))) / (2 * step)
        torch.testing.assert_close(found.flatten(2)[:, :, pixel], slope.detach(), rtol=1e-4, atol=1e-6)


def test_jacobian_of_one_output_is_its_row(net: nn.Module, few: Batch) -> None:
    """One class for all, a class each, or all of them: the same numbers."""
    x, y = few
    whole = jacobian(net, x)
    torch.testing.assert_close(jacobian(net, x, 3), whole[:, 3])
    torch.testing.assert_close(jacobian(net, x, y, batch=9), whole[torch.arange(len(y)), y])


def test_jacobian_of_the_score_is_the_weight_of_a_linear_network(scalar_linear: Maker) -> None:
    """N = w·x has Jacobian w whatever the threshold; it is also that of logit 1."""
    weight = torch.linspace(-1, 1, 6)
    model, x = scalar_linear(weight, 0.7), torch.rand(4, 1, 2, 3)
    for output in ("score", 1):
        torch.testing.assert_close(jacobian(model, x, output), weight.view(1, 1, 2, 3).expand(4, 1, 2, 3))
    assert jacobian(model, x, 0).abs().max() == 0


def test_jacobian_refuses_what_does_not_exist(net: nn.Module, few: Batch) -> None:
    """A class out of range, a score of ten classes, an unknown word."""
    with pytest.raises(ValueError, match="output: expected classes from 0 to 9, got 10"):
        jacobian(net, few[0], 10)
    with pytest.raises(ValueError, match="output: 'score' needs a model of two classes, got 10"):
        jacobian(net, few[0], "score")
    with pytest.raises(ValueError, match="output: expected 'all', 'score' or a class"):
        jacobian(net, few[0], "logit")  # type: ignore[arg-type]


def test_dense_formula_is_gap_over_the_l1_norm(scalar_linear: Maker) -> None:
    """Without a box on a linear network: eps* = |tau - N| / ||w||_1; just above flips, just below does not."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(20, generator=generator, dtype=torch.float64)
    x = torch.rand(30, 1, 4, 5, generator=generator, dtype=torch.float64)
    model = scalar_linear(weight, 0.3)
    y = model(x).argmax(1)
    above = jacobian_dense(model, x, y, boxed=False, factor=1 + 1e-6)
    below = jacobian_dense(model, x, y, boxed=False, factor=1 - 1e-6)
    expected = (0.3 - model.score(x)).abs().detach() / weight.abs().sum()
    torch.testing.assert_close(above.trace["eps_star"], expected)
    torch.testing.assert_close(above.distance["linf"], expected * (1 + 1e-6))
    assert above.success.all()
    assert not below.success.any()
    torch.testing.assert_close(above.trace["predicted"], above.trace["actual"], rtol=0, atol=1e-12)
    assert (above.trace["toward"] == 1 - y).all()


def test_dense_formula_with_the_box_is_exact(scalar_linear: Maker) -> None:
    """On a linear network in the box: just above flips, just below does not, and no smaller linf could."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(20, generator=generator, dtype=torch.float64)
    x = torch.rand(30, 1, 4, 5, generator=generator, dtype=torch.float64).round(decimals=1)
    model = scalar_linear(weight, 0.3)
    y = model(x).argmax(1)
    above, below = (jacobian_dense(model, x, y, factor=factor) for factor in (1 + 1e-6, 1 - 1e-6))
    possible = above.trace["eps_star"].isfinite()
    assert possible.sum() > 20
    assert above.success[possible].all()
    assert not below.success[possible].any()
    assert not above.success[~possible].any()
    assert ((above.x_adv >= 0) & (above.x_adv <= 1)).all()
    free = jacobian_dense(model, x, y, boxed=False)
    assert (above.trace["eps_star"] >= free.trace["eps_star"] - 1e-12).all()


@pytest.mark.parametrize("boxed", [False, True])
def test_dense_formula_takes_the_nearest_class(boxed: bool) -> None:
    """Untargeted with ten linear classes it is exact too: the smallest eps over the other classes."""
    generator = torch.Generator().manual_seed(2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 10)).double()
    model[1].weight.data = torch.randn(10, 12, generator=generator, dtype=torch.float64)
    x = torch.rand(40, 1, 3, 4, generator=generator, dtype=torch.float64)
    y = model(x).argmax(1)
    above, below = (jacobian_dense(model, x, y, boxed=boxed, factor=factor) for factor in (1 + 1e-6, 1 - 1e-6))
    possible = above.trace["eps_star"].isfinite()
    assert possible.all()
    assert above.success.all()
    assert not below.success.any()
    assert torch.equal(model(above.x_adv).argmax(1), above.trace["toward"])
    if not boxed:
        w, logits = model[1].weight.detach(), model(x).detach()
        rows = torch.arange(40)
        norms = (w[y][:, None] - w[None]).abs().sum(2)
        distance = (logits[rows, y][:, None] - logits) / norms
        distance[rows, y] = torch.inf
        torch.testing.assert_close(above.trace["eps_star"], distance.min(1).values)


def test_dense_formula_of_a_curved_network_is_only_a_guide(net: nn.Module, few: Batch) -> None:
    """Prediction and truth differ, a larger overshoot fools more, and the success column tells the truth."""
    x, y = few
    once, twice = (jacobian_dense(net, x, y, factor=factor) for factor in (1.0, 2.0))
    assert not torch.allclose(once.trace["predicted"], once.trace["actual"], atol=1e-2)
    assert twice.success.sum() > once.success.sum()
    assert torch.equal(once.success, once.trace["actual"] < 0)


def test_dense_formula_of_a_flat_network_stays_put() -> None:
    """No gradient, no direction: eps* is infinite and the image is returned as it was."""

    class Flat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.sum((1, 2, 3)) * 0 + 1, x.sum((1, 2, 3)) * 0], 1)

    x, y = torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64)
    for boxed in (True, False):
        result = jacobian_dense(Flat(), x, y, boxed=boxed)
        assert result.trace["eps_star"].isinf().all()
        assert torch.equal(result.x_adv, x)
        assert not result.success.any()


def test_dense_formula_refuses_a_bad_factor(net: nn.Module, few: Batch) -> None:
    """An overshoot of 0 or NaN is no step."""
    for factor in (0.0, float("nan")):
        with pytest.raises(ValueError, match=f"factor: expected a positive number, got {factor}"):
            jacobian_dense(net, *few, factor=factor)
