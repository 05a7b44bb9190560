"""Attacks on the smallest perturbation: known optima of linear models, frozen pixels, comparison with PGD."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import core.attacks
from core.attacks.engine.geometry import norm_of, project_l0_box, shortest_prefix
from core.attacks.minimal.deepfool import boxed_step

Batch = tuple[Tensor, Tensor]
Maker = Callable[[Tensor, float], nn.Module]
LP = [
    ("deepfool", {"norm": "linf"}, "linf"),
    ("deepfool", {"norm": "l2"}, "l2"),
    ("deepfool", {"norm": "l1"}, "l1"),
    ("carlini_wagner", {}, "l2"),
    ("ddn", {"steps": 200}, "l2"),
    ("fmn", {"norm": "linf", "steps": 200}, "linf"),
    ("fmn", {"norm": "l2", "steps": 200}, "l2"),
    ("fmn", {"norm": "l1", "steps": 300}, "l1"),
    ("ead", {"beta": 200.0, "searches": 8}, "l1"),
    ("pdpgd", {"norm": "linf", "steps": 500, "dual_lr": 0.05}, "linf"),
    ("pdpgd", {"norm": "l2", "steps": 800, "lr": 0.1}, "l2"),
    ("pdpgd", {"norm": "l1", "steps": 800, "dual_lr": 0.05}, "l1"),
    ("fab", {"norm": "linf"}, "linf"),
    ("fab", {"norm": "l2"}, "l2"),
    ("fab", {"norm": "l1"}, "l1"),
]
"""Attacks with a known optimum in linf, l2 or l1 on linear models: settings and norm."""


def slow_where(name: str, deep: bool) -> Any:
    """The marks of a case: the deep ones of the attacks that take longest are slow."""
    return pytest.mark.slow if deep and name in ("ead", "pdpgd") else ()


class Linear(nn.Module):
    """Logits W x + b."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, K)."""
        return x.flatten(1) @ self.weight.T + self.bias


def exact_distance(slope: Tensor, need: Tensor, x: Tensor, norm: str) -> Tensor:
    """How far each x (N, d) is from losing `need` of slope·x inside the box; written apart from the attacks' code."""
    room = torch.where(slope > 0, x, 1 - x)
    out = []
    for w, u, m in zip(slope.abs(), room, need, strict=True):
        if norm == "l1":  # fractional knapsack
            order = w.argsort(descending=True)
            left, total = m.clone(), torch.zeros_like(m)
            for j in order:
                move = torch.minimum(u[j], left / w[j])
                left, total = left - move * w[j], total + move
                if left <= 1e-12:
                    break
            out.append(total if left <= 1e-12 else torch.tensor(torch.inf))
            continue
        low, high = torch.zeros_like(m), torch.full_like(m, 1e6)
        for _ in range(100):  # bisection on eps, or on the multiplier of l2
            middle = (low + high) / 2
            move = torch.minimum(middle.expand_as(u), u) if norm == "linf" else torch.minimum(middle * w, u)
            low, high = (low, middle) if (w * move).sum() >= m else (middle, high)
        move = torch.minimum(high.expand_as(u), u) if norm == "linf" else torch.minimum(high * w, u)
        size = move.max() if norm == "linf" else move.norm()
        out.append(size if high < 9e5 else torch.tensor(torch.inf))
    return torch.stack(out).to(x.dtype)


def linear_case(classes: int) -> tuple[nn.Module, Tensor, Tensor, dict[str, Tensor]]:
    """24 features, 40 images, a third of the pixels at 0 or 1 or near; and the exact distance in each norm."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(classes, 24, generator=generator, dtype=torch.float64)
    model = Linear(weight, torch.zeros(classes, dtype=torch.float64))
    x = (torch.rand(40, 1, 4, 6, generator=generator, dtype=torch.float64) * 2 - 0.5).clamp(0, 1)
    logits = model(x).detach()
    y = logits.argmax(1)
    exact = {}
    for norm in ("linf", "l2", "l1"):
        each = []
        for k in range(classes):
            slope, need = weight[y] - weight[k], logits.gather(1, y[:, None])[:, 0] - logits[:, k]
            each.append(torch.where(y == k, torch.inf, exact_distance(slope, need, x.flatten(1), norm)))
        exact[norm] = torch.stack(each).amin(0)
    return model, x, y, exact


@pytest.mark.sampled(9)
@pytest.mark.parametrize(
    ("name", "settings", "norm", "classes"),
    [pytest.param(*case, k, marks=slow_where(case[0], deep=k == 5)) for case in LP for k in (2, 5)],
)
def test_smallest_finds_the_optimum_of_a_linear_model_in_the_box(
    name: str, settings: dict[str, object], norm: str, classes: int
) -> None:
    """Within 2 % of the exact distance, never below it, though half of the pixels cannot move one way.

    Every image with two classes, by the walk alone; with five in the mean: at most one in ten is at another boundary.
    """
    model, x, y, exact = linear_case(classes)
    alone = {} if classes > 2 or name in ("deepfool", "fab") else {"candidates": 0}
    result = getattr(core.attacks, name)(model, x, y, **(settings | alone))
    possible = exact[norm].isfinite()
    assert possible.sum() > 30
    assert torch.equal(result.success, possible)
    ratio = (result.distance[norm] / exact[norm])[possible]
    assert ratio.min() >= 1 - 1e-9
    if classes == 2:
        assert ratio.max() <= 1.02 + 1e-6
    else:
        assert ratio.mean() <= 1.02 + 1e-6
        assert (ratio > 1.02 + 1e-6).double().mean() <= 0.1


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("name", "settings", "norm"), [pytest.param(*case, marks=slow_where(case[0], deep=True)) for case in LP]
)
def test_smallest_finds_the_optimum_of_a_binary_model_far_from_the_box(
    scalar_linear: Maker, name: str, settings: dict[str, object], norm: str
) -> None:
    """Grey images and a small gap: the distance is gap / dual norm of w, from either side."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(24, generator=generator, dtype=torch.float64)
    x = 0.5 + 0.1 * torch.rand(20, 1, 4, 6, generator=generator, dtype=torch.float64)
    model = scalar_linear(weight, 0.0)
    model.threshold += model.score(x).median().detach() + 1e-3
    gap = (model.score(x) - model.threshold).detach()
    result = getattr(core.attacks, name)(model, x, (gap > 0).long(), **settings)
    exact = gap.abs() / weight.norm(p={"linf": 1, "l2": 2, "l1": torch.inf}[norm])
    assert result.success.all()
    ratio = result.distance[norm] / exact
    assert ratio.min() >= 1 - 1e-9
    assert ratio.max() <= 1.02 + 1e-6


@pytest.mark.parametrize(
    ("name", "settings"),
    [("fmn", {"norm": "l0", "steps": 200}), ("sigma_zero", {"steps": 300})],
)
def test_smallest_count_of_features_on_a_binary_linear_model(
    scalar_linear: Maker, name: str, settings: dict[str, object]
) -> None:
    """The shortest prefix of the gains |w_j| u_j; sigma-zero, pruned, gets there."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(30, generator=generator, dtype=torch.float64)
    x = torch.rand(40, 1, 5, 6, generator=generator, dtype=torch.float64)
    model = scalar_linear(weight, 0.5)
    gap = (model.score(x) - 0.5).detach()
    slope = gap.sign()[:, None] * weight
    room = torch.where(slope > 0, x.flatten(1), 1 - x.flatten(1))
    exact, _ = shortest_prefix(slope.abs() * room, gap.abs())
    result = getattr(core.attacks, name)(model, x, (gap > 0).long(), **settings)
    possible = exact >= 0
    assert result.success[possible].all()
    assert not result.success[~possible].any()
    found = result.distance["l0"][possible]
    assert (found >= exact[possible]).all()
    if name != "fmn":
        assert torch.equal(found, exact[possible])
    assert (found - exact[possible]).double().mean() < 0.5


def test_deepfool_step_is_exact_in_the_box() -> None:
    """Its length is the exact distance, it stays in the box, and it lowers the function by what was needed."""
    generator = torch.Generator().manual_seed(2)
    slope = torch.randn(50, 1, 3, 4, generator=generator, dtype=torch.float64)
    slope[:, :, 0, 0] = 0
    point = (torch.rand(50, 1, 3, 4, generator=generator, dtype=torch.float64) * 2 - 0.5).clamp(0, 1)
    need = 2 * torch.rand(50, generator=generator, dtype=torch.float64)
    for norm in ("linf", "l2", "l1"):
        step, size = boxed_step(slope, need, point, norm)
        torch.testing.assert_close(size, exact_distance(slope.flatten(1), need, point.flatten(1), norm))
        assert ((point + step >= 0) & (point + step <= 1)).all()
        reached = size.isfinite()
        torch.testing.assert_close(-(slope * step).flatten(1).sum(1)[reached], need[reached])


def test_l0_projection_is_the_nearest_of_all() -> None:
    """Against every subset of features, with and without room in the box; whole and broken budgets."""
    generator = torch.Generator().manual_seed(4)
    x = (torch.rand(12, 1, 1, 6, generator=generator) * 2 - 0.5).clamp(0, 1)
    delta = 2 * torch.randn(12, 1, 1, 6, generator=generator)
    masks = torch.tensor([[number >> bit & 1 for bit in range(6)] for number in range(64)], dtype=torch.bool)
    cut = (x + delta).clamp(0, 1) - x
    for eps in (0.0, 1.0, 2.5, 6.0):
        made = project_l0_box(delta, x, torch.full((12,), eps))
        assert (norm_of(made, "l0") <= eps).all()
        trials = torch.where(masks[masks.sum(1) <= eps].view(-1, 1, 1, 1, 6), cut, 0)
        nearest = (trials - delta).flatten(2).square().sum(2).amin(0)
        torch.testing.assert_close((made - delta).flatten(1).square().sum(1), nearest)
        torch.testing.assert_close(project_l0_box(made, x, torch.full((12,), eps)), made)


def test_carlini_wagner_moves_pixels_that_sit_at_the_ends() -> None:
    """All pixels exactly 0 or 1: the change of variable by atanh would freeze every one of them."""
    model = Linear(torch.tensor([[0.0] * 8, [1.0] * 4 + [-1.0] * 4]), torch.tensor([1.0, 0.0]))
    x = torch.tensor([0.0] * 4 + [1.0] * 4).view(1, 1, 2, 4)
    result = core.attacks.carlini_wagner(model, x, torch.tensor([0]))
    assert result.success.all()  # from score -4 up to 1: every pixel moves by 5/8
    assert result.distance["l2"].item() == pytest.approx(5 / 8**0.5, rel=0.02)


@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["ddn", "fmn"])
def test_walk_is_not_worse_than_a_long_bisection_of_pgd(name: str, net: nn.Module, few: Batch) -> None:
    """Median l2 of 100 steps against 12 rounds of bisection on eps with PGD-40 each (480 steps)."""
    x, y = few
    low, high = torch.zeros(len(x)), torch.full((len(x),), 4.0)
    for _ in range(12):
        middle = (low + high) / 2
        success = core.attacks.pgd(net, x, y, eps=middle, norm="l2", random_start=False).success
        low, high = torch.where(success, low, middle), torch.where(success, middle, high)
    result = getattr(core.attacks, name)(net, x, y)
    assert result.success.all()
    assert result.distance["l2"].median() <= high.median() * 1.005


def test_pruning_only_helps_and_keeps_to_its_calls(net: nn.Module, few: Batch) -> None:
    """Fewer or as many features; at most the passes it was given, and the verification."""
    plain = core.attacks.sigma_zero(net, *few, steps=30, prune_calls=0)
    for calls in (4, 12, 60):
        pruned = core.attacks.sigma_zero(net, *few, steps=30, prune_calls=calls)
        assert torch.equal(pruned.success, plain.success)
        assert (pruned.distance["l0"] <= plain.distance["l0"]).all()
        spent = pruned.forwards + pruned.backwards - plain.forwards - plain.backwards
        assert spent.max() <= calls


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "name", ["carlini_wagner", "ddn", "deepfool", "ead", "fab", "fmn", "minimum", "pdpgd", "sigma_zero"]
)
def test_smallest_does_not_hang_on_the_size_of_the_batch(name: str, exactly: tuple[nn.Module, Tensor, Tensor]) -> None:
    """20 images in chunks of 7 or all at once: the same images at the same cost, and progress that only rises."""
    net, few = exactly[0], [part[:20] for part in exactly[1:]]
    settings = {"minimum": {"budget": 120}, "carlini_wagner": {"steps": 10}, "ead": {"steps": 10}}.get(
        name, {"steps": 20}
    )
    seen: list[int] = []
    whole = getattr(core.attacks, name)(net, *few, **settings)
    parts = getattr(core.attacks, name)(
        net, *few, batch=7, on_progress=lambda done, total, **metrics: seen.append(done), **settings
    )
    assert torch.equal(whole.success, parts.success)
    assert torch.equal(whole.forwards + whole.backwards, parts.forwards + parts.backwards)
    torch.testing.assert_close(whole.x_adv, parts.x_adv, rtol=0, atol=1e-6)
    assert seen == sorted(seen)
    assert seen[-1] == len(few[0])


BUDGETS = [
    *[(name, settings) for name, settings, _ in LP],
    ("carlini_wagner", {"searches": 3, "steps": 10}),
    ("fmn", {"norm": "l0"}),
    ("sigma_zero", {}),
    ("pdpgd", {"norm": "l0"}),
    ("fab", {"norm": "l2", "targets": 3}),
]


# the first of each attack is quick
@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        pytest.param(*case, marks=pytest.mark.slow if case[0] in [name for name, _ in BUDGETS[:place]] else ())
        for place, case in enumerate(BUDGETS)
    ],
)
def test_smallest_keeps_to_its_budget(name: str, settings: dict[str, object], net: nn.Module, few: Batch) -> None:
    """No image ever costs more passes; nearly all are spent; a budget above the need changes nothing."""
    attack = getattr(core.attacks, name)
    if "steps" in settings:
        settings = settings | {"steps": min(int(str(settings["steps"])), 120)}
    few = few[0][:20], few[1][:20]
    free = attack(net, *few, **settings)
    need = int((free.forwards + free.backwards).max())
    same = attack(net, *few, budget=1000, **settings)
    assert need > 1000 or torch.equal(same.x_adv, free.x_adv)
    for budget in (7, 30, 100):
        result = attack(net, *few, budget=budget, **settings)
        spent = (result.forwards + result.backwards).max()
        assert spent <= budget
        assert spent >= min(need, 0.75 * budget - 3)
    assert result.success.float().mean() > 0.9
    with pytest.raises(ValueError, match=r"budget: expected at least \d, got 3"):
        attack(net, *few, budget=3, **settings)
