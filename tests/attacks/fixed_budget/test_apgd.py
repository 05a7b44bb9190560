"""APGD: its step rule, optimal on linear models, not weaker than PGD, every class tried, honest counts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.attacks import apgd, pgd
from core.attacks.engine.losses import LOSSES, Goal
from core.attacks.engine.streams import Streams
from core.attacks.fixed_budget.step_rule import L1Rule, Starts, StepRule, checkpoints

Batch = tuple[Tensor, Tensor]
Maker = Callable[[Tensor, float], nn.Module]


def test_checkpoints_are_the_papers() -> None:
    """Shares 0, .22, .41, .57, ...: intervals shrink by .03 down to .06; never two at one step."""
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]
    for steps in range(1, 40):
        found = checkpoints(steps)
        assert found == sorted(set(found))
        assert found[-1] <= steps


class Rows:
    """Feeds losses to a rule, a row for each image of one pixel, and moves every row on by one."""

    def __init__(self, rule: Any, count: int) -> None:
        start, along = torch.zeros(count, 1, 2, 2), torch.zeros(count, 3)
        self.rule, self.x = rule, start
        self.on = Starts.of(torch.full((count,), -1), along, start, (None, None), 0)

    def see(self, *values: float) -> None:
        """One look: the loss of each row; the point is then moved by .1 and the step counted."""
        self.rule.look(self.on, torch.tensor(values), torch.full_like(self.x, float(self.on.step[0])), self.x)
        self.on.previous, self.on.point = self.on.point, self.on.point + 0.1
        self.on.step = self.on.step + 1


def test_rule_halves_where_the_loss_falls_too_rarely() -> None:
    """Ten steps, first checkpoint at 3: two falls of three are less than .75; three of three are enough."""
    rows = Rows(StepRule.of(10), 2)
    assert checkpoints(10)[:2] == [0, 3]
    for values in ((5.0, 5.0), (4.0, 4.0), (3.0, 3.0)):
        rows.see(*values)
        assert rows.on.share.tolist() == [2, 2]
    rows.see(3.5, 2.0)
    assert rows.on.share.tolist() == [1, 2]
    # the first row is back at its best point (the third, at .2) before its move, at rest; the second went on
    torch.testing.assert_close(rows.on.previous[:, 0, 0, 0], torch.tensor([0.2, 0.3]))
    torch.testing.assert_close(rows.on.value, torch.tensor([3.0, 2.0]))
    assert rows.on.falls.tolist() == [0, 0]


def test_rule_goes_back_with_the_gradient_of_the_best_point() -> None:
    """The gradient returned is the one seen at the best point."""
    rows = Rows(StepRule.of(10), 1)
    for value in (5.0, 1.0, 3.0):
        rows.see(value)
    gradient = rows.rule.look(rows.on, torch.tensor([4.0]), torch.full_like(rows.x, 3.0), rows.x)
    assert gradient.unique().tolist() == [1.0]
    torch.testing.assert_close(rows.on.point, rows.x + 0.1)


def test_rule_halves_where_the_best_stands_still_after_a_checkpoint_that_did_not() -> None:
    """Condition 2: the loss falls often, but never below the best of the checkpoint before."""
    rows = Rows(StepRule.of(100), 1)
    for step in range(23):
        rows.see(-float(step))
    assert rows.on.share.tolist() == [2]
    rows.see(5.0)
    for step in range(18):
        rows.see(4.0 - 0.1 * step)
    assert rows.on.share.tolist() == [1]


def test_l1_rule_follows_the_number_of_changed_features() -> None:
    """A sparser best point brings the step back to eps; else it shrinks, to a tenth; features are a part of those."""
    rows = Rows(L1Rule.of(10), 1)
    rows.on.point = torch.ones_like(rows.x)  # four features changed
    rows.see(3.0)
    assert rows.on.features.item() == pytest.approx(4 / 1.5)
    rows.on.point = torch.tensor([1.0, 1.0, 0.0, 0.0]).view_as(rows.x)
    rows.see(2.0)
    assert rows.on.share.item() == 1
    assert rows.on.features.item() == pytest.approx(2 / 1.5)
    for _ in range(10):
        rows.see(5.0)
    assert rows.on.share.item() == pytest.approx(0.1)
    assert rows.on.features.item() == pytest.approx(2 / 1.5)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("norm", "share"), [("linf", 1 - 1e-9), ("l2", 1 - 1e-9), ("l1", 0.98)])
def test_apgd_reaches_the_optimum_of_a_linear_model(
    scalar_linear: Maker, linear_optimum: Callable[..., Tensor], norm: Any, share: float, loss: Any
) -> None:
    """With box (MATHEMATICS section 1): exactly; in l1, whose smallest step is eps / 10, to two percent."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(60, generator=generator, dtype=torch.float64)
    x = torch.rand(20, 1, 6, 10, generator=generator, dtype=torch.float64)
    model = scalar_linear(weight, 1000.0)  # out of reach: every image withstands and keeps its best iterate
    y = torch.zeros(20, dtype=torch.int64)
    eps = torch.linspace(0.1, 0.9, 20, dtype=torch.float64) * (4 if norm == "l1" else 1)
    result = apgd(model, x, y, eps=eps, norm=norm, loss=loss)
    most = (linear_optimum(weight, x, eps, norm) * weight.abs()).sum(1)
    gain = model.score(result.x_adv) - model.score(x)
    assert (gain <= most + 1e-9).all()
    assert (gain >= share * most).all()


def test_apgd_towards_every_class_is_exact_for_linear_classifiers() -> None:
    """Untargeted linf on K classes: the exact distance is the least over the others (MATHEMATICS section 2)."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5)).double()
    model[1].weight.data = torch.randn(5, 16, generator=generator, dtype=torch.float64)
    model[1].bias.data.zero_()
    x = 0.3 + 0.4 * torch.rand(60, 1, 4, 4, generator=generator, dtype=torch.float64)
    y = model(x).argmax(1)
    logits, weight = model(x).detach(), model[1].weight.detach()
    gaps = logits.gather(1, y[:, None]) - logits
    exact = (gaps / (weight[y][:, None] - weight[None]).abs().sum(2).clamp(min=1e-9)).scatter(1, y[:, None], torch.inf)
    distance = exact.min(1).values
    near = distance < 0.29  # the box is not in the way
    assert near.sum() > 30
    x, y, distance = x[near], y[near], distance[near]
    above = apgd(model, x, y, eps=1.01 * distance, loss="dlr", steps=20, restarts=0, targets=4)
    assert above.success.all()
    assert not apgd(model, x, y, eps=0.99 * distance, steps=20, targets=4).success.any()


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.12), ("l2", 0.8), ("l1", 2.2)])
def test_apgd_is_not_weaker_than_pgd(net: nn.Module, digits: Batch, norm: Any, eps: float) -> None:
    """At equal steps, over 200 images, with the same loss, but for two images of luck; every class tried helps."""
    net, x, y = copy.deepcopy(net).double(), digits[0][1400:1600].double(), digits[1][1400:1600]
    plain = pgd(net, x, y, eps=eps, norm=norm, loss="margin", steps=60)
    own = apgd(net, x, y, eps=eps, norm=norm, loss="margin", steps=60)
    assert own.success.sum() >= plain.success.sum() - 2  # measured: 120 and 120, 180 and 180, 187 and 181
    every = apgd(net, x, y, eps=eps, norm=norm, loss="margin", steps=60, targets=2)
    assert (every.success >= own.success).all()
    assert (every.trace["margin"] <= own.trace["margin"] + 1e-4).all()


def test_apgd_counts_every_pass_and_tries_the_nearest_classes_first(net: nn.Module, few: Batch) -> None:
    """A survivor costs a look and, a start, steps and ODI steps each with a gradient, and a verdict."""
    x, y = few
    result = apgd(net, x, y, eps=0.06, steps=4, restarts=2, targets=3, odi_steps=2, batch=7)
    stood = ~result.success
    assert stood.any()
    assert (result.forwards[stood] == 1 + 5 * (2 + 4 + 1)).all()
    assert (result.backwards[stood] == 5 * (2 + 4)).all()
    many = apgd(net, x, y, eps=0.06, steps=4, restarts=0, targets=100)  # there are no more than nine others
    assert (many.backwards[~many.success] == 9 * 4).all()
    logits = copy.deepcopy(net).eval()(x)
    nearest = logits.scatter(1, y[:, None], -torch.inf).argmax(1)
    one = apgd(net, x, y, eps=0.15, steps=20, restarts=0, targets=1)
    found = copy.deepcopy(net).eval()(one.x_adv).argmax(1)
    moved = one.success & (one.backwards > 0)
    assert (found == nearest)[moved].float().mean() > 0.8


def test_apgd_batch_size_changes_nothing(exactly: tuple[nn.Module, Tensor, Tensor]) -> None:
    """Waiting images fill the places of the fooled, each with its own steps."""
    options: dict[str, Any] = {"eps": 0.12, "steps": 10, "restarts": 2, "loss": "margin"}
    small, whole = apgd(*exactly, batch=7, **options), apgd(*exactly, **options)
    assert torch.equal(small.success, whole.success)
    torch.testing.assert_close(small.x_adv, whole.x_adv, rtol=0, atol=1e-6)


def test_apgd_keeps_the_best_iterate_of_those_that_stand(net: nn.Module, few: Batch) -> None:
    """The stored margin is the stored image's, and never above the clean one, whatever the loss."""
    x, y = few
    result = apgd(net, x, y, eps=0.05, steps=8, loss="ce")
    model = copy.deepcopy(net).eval()
    goal = Goal.of(y, None)
    torch.testing.assert_close(goal.margin(model(result.x_adv)).detach(), result.trace["margin"], rtol=1e-4, atol=1e-4)
    assert (result.trace["margin"] <= goal.margin(model(x)).detach() + 1e-5).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_apgd_reaches_a_target(net: nn.Module, few: Batch, loss: Any) -> None:
    """The target itself, not just another class."""
    x, y = few
    y_target = (y + 4) % 10
    result = apgd(net, x, y, eps=0.4, y_target=y_target, loss=loss, steps=30)
    found = copy.deepcopy(net).eval()(result.x_adv).argmax(1)
    assert torch.equal(result.success, found == y_target)
    assert result.success.float().mean() > 0.9


def test_apgd_diversified_starts_differ_between_images_and_seeds(net: nn.Module, few: Batch) -> None:
    """Without a random start in pixels, ODI alone makes starts differ, by the image's own stream."""
    x, y = few[0][:1].expand(4, -1, -1, -1).clone(), few[1][:1].expand(4).clone()

    def found(seed: int, odi_steps: int) -> Tensor:
        streams = Streams.of(seed, torch.arange(4))
        options: dict[str, Any] = {"steps": 1, "odi_steps": odi_steps, "random_start": False, "norm": "l2"}
        return apgd(net, x, y, eps=0.05, streams=streams, **options).x_adv

    assert torch.equal(found(0, 0), found(1, 0))
    assert not torch.equal(found(0, 2), found(1, 2))
    assert torch.equal(found(0, 2), found(0, 2))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({"restarts": 0}, "restarts: expected at least 1 where targets is 0, got 0"),
    "targets": ({"targets": 2, "y_target": torch.zeros(40).long()}, "targets: expected 0 where y_target is given"),
    "eps": ({"eps": 2.0}, r"eps: expected finite budgets in \[0, 1\], got 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_apgd_refuses_bad_settings(net: nn.Module, few: Batch, case: str) -> None:
    """The error names the argument, what was expected and what came."""
    change, message = BAD[case]
    with pytest.raises(ValueError, match=f"^{message}"):
        apgd(net, *few, **({"eps": 0.1} | change))
