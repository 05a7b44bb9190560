"""Margins and losses: values by hand, directions against autograd, no underflow."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from core.attacks.engine import losses


def test_margin_is_true_minus_best_other() -> None:
    """By hand, for three classes and for two."""
    logits = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]])
    assert losses.margin(logits, torch.tensor([1, 2])).tolist() == [1.0, -1.0]
    assert losses.best_other(logits, torch.tensor([1, 2])).tolist() == [2, 1]
    assert losses.margin(torch.tensor([[0.0, 2.5]]), torch.tensor([0])).tolist() == [-2.5]


def test_soft_margin_is_the_log_odds_behind_cross_entropy() -> None:
    """Cross-entropy is softplus(-soft margin), and the gradients are parallel with factor 1 - p."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 5, generator=generator, dtype=torch.float64).requires_grad_()
    label = torch.arange(20) % 5
    soft, entropy = losses.soft_margin(logits, label), losses.cross_entropy(logits, label)
    torch.testing.assert_close(F.softplus(-soft), entropy)
    (soft_slope,) = torch.autograd.grad(soft.sum(), logits, retain_graph=True)
    (slope,) = torch.autograd.grad(entropy.sum(), logits)
    rest = 1 - logits.softmax(1).gather(1, label[:, None])
    torch.testing.assert_close(slope, -soft_slope * rest)


def test_soft_margin_keeps_its_gradient_where_cross_entropy_underflows() -> None:
    """A logit gap of 10,000 leaves cross-entropy with gradient 0 and the log-odds with gradient 1."""
    logits = torch.tensor([[1e4, 0.0, -3.0]], requires_grad=True)
    label = torch.tensor([0])
    (dead,) = torch.autograd.grad(losses.cross_entropy(logits, label).sum(), logits)
    (alive,) = torch.autograd.grad(losses.soft_margin(logits, label).sum(), logits)
    assert dead.abs().max() == 0
    assert alive[0, 0] == 1
    assert torch.isfinite(alive).all()


def test_squared_error_is_mse_to_the_one_hot() -> None:
    """PyTorch's own mean squared error says the same."""
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0, 1, 2, 0])
    expected = F.mse_loss(logits.softmax(1), F.one_hot(label, 3).float())
    torch.testing.assert_close(losses.squared_error(logits, label).mean(), expected)


def test_goal_is_reached_by_another_class_or_by_the_target() -> None:
    """Untargeted and targeted verdicts, and margins whose sign agrees with them."""
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.5], [1.0, 0.0, 2.0]])
    away = losses.Goal.of(torch.tensor([0, 0, 0]), None)
    towards = losses.Goal.of(torch.tensor([0, 0, 0]), torch.tensor([1, 1, 1]))
    assert away.reached(logits).tolist() == [False, True, True]
    assert towards.reached(logits).tolist() == [False, True, False]
    assert torch.equal(away.margin(logits) < 0, away.reached(logits))
    assert torch.equal(towards.margin(logits) < 0, towards.reached(logits))


@pytest.mark.parametrize("target", [None, torch.tensor([1])])
def test_nan_is_no_class(target: torch.Tensor | None) -> None:
    """A model that answers NaN predicts nothing: the true class is lost, and no target is reached."""
    logits = torch.tensor([[0.0, torch.nan, 1.0]])
    assert losses.predicted(logits).item() == -1
    assert losses.Goal.of(torch.tensor([0]), target).reached(logits).item() == (target is None)


@pytest.mark.parametrize("kind", losses.LOSSES)
@pytest.mark.parametrize("targeted", [False, True])
def test_goal_loss_falls_towards_the_goal(kind: losses.Loss, targeted: bool) -> None:
    """A small step against the gradient lowers the margin to the goal."""
    logits = torch.tensor([[2.0, 1.0, 0.0, 0.5]], requires_grad=True)
    goal = losses.Goal(torch.tensor([2 if targeted else 0]), targeted)
    (slope,) = torch.autograd.grad(goal.loss(logits, kind).sum(), logits)
    assert goal.margin(logits - 0.1 * slope) < goal.margin(logits)


def test_goal_loss_refuses_an_unknown_name() -> None:
    """The error lists what there is."""
    with pytest.raises(ValueError, match="loss: expected one of ce, margin, dlr, probability_margin, got 'hinge'"):
        losses.Goal.of(torch.tensor([0]), None).loss(torch.zeros(1, 2), "hinge")  # type: ignore[arg-type]


def test_dlr_is_the_papers() -> None:
    """By hand: margin over largest minus third; targeted over largest minus the mean of third and fourth."""
    logits = torch.tensor([[5.0, 1.0, 3.0, 0.0, -4.0]])
    away = losses.Goal.of(torch.tensor([0]), None).loss(logits, "dlr")
    assert away.item() == pytest.approx((5 - 3) / (5 - 1))
    towards = losses.Goal.of(torch.tensor([0]), torch.tensor([3])).loss(logits, "dlr")
    assert towards.item() == pytest.approx((5 - 0) / (5 - 0.5))


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("kind", ["dlr", "probability_margin"])
def test_scaled_losses_ignore_shift_and_scale(kind: losses.Loss, targeted: bool) -> None:
    """Adding to all logits, or multiplying them, changes nothing, gradients' directions included; no infinities."""
    logits = torch.randn(20, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    goal = losses.Goal(torch.arange(20) % 6, targeted)
    slopes = []
    for scale in (1.0, 1e4, 1e-4):
        value = goal.loss(scale * logits + 7, kind)
        torch.testing.assert_close(value, goal.loss(logits, kind))
        slopes.append(torch.autograd.grad(value.sum(), logits)[0])
    torch.testing.assert_close(slopes[1], slopes[0])
    torch.testing.assert_close(slopes[2], slopes[0])
    assert goal.loss(torch.ones_like(logits), kind).tolist() == [0.0] * 20


def test_probability_margin_is_of_logits_of_one_span() -> None:
    """By hand, with the margin's sign, and with the classes in between in its gradient; for two classes the margin."""
    logits = torch.tensor([[4.0, 1.0, 3.0, 0.0]], dtype=torch.float64, requires_grad=True)
    goal = losses.Goal.of(torch.tensor([0]), None)
    value = goal.loss(logits, "probability_margin")
    weights = (losses.SHARPNESS / 4 * logits.detach()[0]).exp()
    assert value.item() == pytest.approx(((weights[0] - weights[2]) / weights.sum()).item())
    (slope,) = torch.autograd.grad(value.sum(), logits)
    assert slope[0, 0] > 0 > slope[0, 1] > slope[0, 2]
    two = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    goal = losses.Goal(torch.arange(8) % 2, targeted=False)
    assert torch.equal(goal.loss(two, "probability_margin"), goal.margin(two))


@pytest.mark.parametrize(("classes", "targeted"), [(2, False), (2, True), (3, True)])
def test_dlr_is_the_margin_where_classes_are_too_few(classes: int, targeted: bool) -> None:
    """It needs a third logit, towards a target a fourth."""
    logits = torch.randn(8, classes, generator=torch.Generator().manual_seed(0))
    goal = losses.Goal(torch.arange(8) % classes, targeted)
    assert torch.equal(goal.loss(logits, "dlr"), goal.margin(logits))
