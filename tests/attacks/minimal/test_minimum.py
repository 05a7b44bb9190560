"""The combination: never worse than its parts, never over its budget, exact where the theory says exact."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.attacks.engine.engine import admitted
from core.attacks.engine.geometry import shortest_prefix
from core.attacks.minimal.minimum import minimum, plan
from tests.attacks.engine.test_smallest import linear_case

Batch = tuple[Tensor, Tensor]
NORMS = ("linf", "l2", "l1", "l0")


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("targeted", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_minimum_is_never_worse_than_its_parts(
    norm: str, targeted: bool, exactly: tuple[nn.Module, Tensor, Tensor]
) -> None:
    """Each part run alone, as the plan has it, finds nothing smaller on any image that it is for."""
    net, x, y = exactly
    y_target = (y + 3) % 10 if targeted else None
    result = minimum(net, x, y, norm=norm, budget=400, y_target=y_target)
    logits = copy.deepcopy(net).eval()(x).detach()
    ranking = logits.scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)
    parts = plan(norm, 400, 10, targeted)
    assert len(parts) > 1
    for part in parts:
        aim = y_target if part.rank is None else ranking[:, part.rank]
        alone = part.attack(net, x, y, y_target=aim, batch=128, **part.settings)
        able = alone.success
        if part.boundary_outside_box is not None:
            able &= result.trace["boundary_outside_box"] == part.boundary_outside_box
        assert not (able & ~result.success).any()
        assert (result.distance[norm] <= alone.distance[norm] * (1 + 1e-6))[able].all()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("budget", [50, 120, pytest.param(1000, marks=pytest.mark.slow)])
def test_minimum_keeps_to_its_budget(norm: str, budget: int, net: nn.Module, few: Batch) -> None:
    """Passes counted by the model itself, and those that the result tells, stay within it."""

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.forwards, self.backwards = copy.deepcopy(net), 0, 0

        def forward(self, x: Tensor) -> Tensor:
            self.forwards += len(x)
            logits = self.net(x)
            if logits.requires_grad:
                logits.register_hook(self.count)
            return logits

        def count(self, gradient: Tensor) -> None:
            self.backwards += int((gradient != 0).any(1).sum())

    x, y = few[0][:10], few[1][:10]
    model = Counting()
    with admitted(model, x):  # the look at what the model bears comes before
        model.forwards = model.backwards = 0
        result = minimum(model, x, y, norm=norm, budget=budget)
    assert (result.forwards + result.backwards).max() <= budget
    checks = 1 + len(plan(norm, budget, 10, False))  # each call looks at one image first, to check the model's shape
    assert 0 <= model.forwards - result.forwards.sum() <= checks  # a part that has nothing to do is not called
    assert model.backwards <= result.backwards.sum()


@pytest.mark.sampled(4)
@pytest.mark.parametrize("classes", [pytest.param(2, marks=pytest.mark.slow), 5])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_minimum_is_the_optimum_of_a_linear_model(norm: str, classes: int) -> None:
    """To rounding, with the box in the way, in float64 and in float32."""
    model, x, y, exact = linear_case(classes)
    result = minimum(model, x, y, norm=norm)
    possible = exact[norm].isfinite()
    assert torch.equal(result.success, possible)
    ratio = (result.distance[norm] / exact[norm])[possible]
    assert ratio.min() >= 1 - 1e-9
    assert ratio.max() <= 1 + 1e-9
    single = minimum(copy.deepcopy(model).float(), x.float(), y, norm=norm)
    assert torch.equal(single.success, possible)
    assert (single.distance[norm].double() / exact[norm])[possible].max() <= 1 + 1e-4


@pytest.mark.sampled(3)
@pytest.mark.parametrize("classes", [2, 5])
def test_minimum_is_the_smallest_count_of_a_linear_model(classes: int) -> None:
    """The shortest prefix of the gains towards the class for which that is least."""
    model, x, y, _ = linear_case(classes)
    logits = model(x).detach()
    counts = []
    for k in range(classes):
        slope = model.weight[y] - model.weight[k]
        gains = slope.abs() * torch.where(slope > 0, x.flatten(1), 1 - x.flatten(1))
        count, _ = shortest_prefix(gains.detach(), logits.gather(1, y[:, None])[:, 0] - logits[:, k])
        counts.append(torch.where((y == k) | (count < 0), 99, count))
    exact = torch.stack(counts).amin(0)
    result = minimum(model, x, y, norm="l0")
    assert torch.equal(result.success, exact < 99)
    assert torch.equal(result.distance["l0"][exact < 99], exact[exact < 99])


def test_minimum_tells_which_part_found_it(net: nn.Module, few: Batch) -> None:
    """`part` is -1 for images that were wrong before and failures, else a place in the plan."""
    x, y = few
    wrong = copy.deepcopy(net).eval()(x).argmax(1) != y
    result = minimum(net, x, y, norm="l2", budget=200)
    part = result.trace["part"]
    assert torch.equal(part == -1, wrong | ~result.success)
    assert part.max() < len(plan("l2", 200, 10, False))


class Steps(nn.Module):
    """Linear in features that hardly move but in the middle of their range: at the ends the gradient tells little."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 64, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 5)."""
        x = x.flatten(1)
        return (0.02 * x + torch.relu(x - 0.4) - torch.relu(x - 0.6)) @ self.weight.T


@pytest.mark.slow
def test_minimum_runs_other_parts_where_the_linearised_boundary_is_outside_the_box() -> None:
    """Each image is found by a part that is for it, and a slice comes out as the slice of the whole."""
    draw = torch.rand(2, 40, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    net, x = Steps(), (draw[0] > 0.5) * 0.6 + 0.1 + 0.2 * draw[1]
    y = net(x).argmax(1)
    result = minimum(net, x, y, norm="l2", budget=200)
    assert result.success.all()
    assert (result.forwards + result.backwards).max() <= 200
    outside, part = result.trace["boundary_outside_box"], result.trace["part"]
    assert 0 < outside.sum() < len(x)
    meant = torch.tensor([part.boundary_outside_box for part in plan("l2", 200, 10, False)])
    assert torch.equal(meant[part], outside)
    alone = minimum(net, x[10:30], y[10:30], norm="l2", budget=200)
    assert torch.equal(alone.trace["boundary_outside_box"], outside[10:30])
    torch.testing.assert_close(alone.distance["l2"], result.distance["l2"][10:30])


@pytest.mark.slow
@pytest.mark.real_data
def test_minimum_finds_the_way_on_an_interval_trained_network(interval_trained: Any) -> None:
    """MNIST, l2, 200 passes, 40 images: most within 2.0 (16 beyond it where all passes went towards one class)."""
    result = minimum(*interval_trained, norm="l2", budget=200)
    assert result.success.sum() >= 38
    assert (result.distance["l2"] > 2).sum() <= 8


def test_minimum_reports_to_the_end(net: nn.Module, few: Batch) -> None:
    """Progress only rises, and ends with all images."""
    seen: list[int] = []

    def report(done: int, total: int, **metrics: Any) -> None:
        assert total == len(few[0])
        assert 0 <= metrics["success"] <= 1
        seen.append(done)

    minimum(net, *few, norm="linf", budget=150, on_progress=report)
    assert seen == sorted(seen)
    assert seen[-1] == len(few[0])
