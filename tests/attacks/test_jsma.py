"""JSMA: the paper's pair to the last tie, its search domain and its limits."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.attacks import jsma
from core.attacks.jsma import best_pair

Batch = tuple[Tensor, Tensor]


def all_pairs(up: Tensor, down: Tensor, free: Tensor) -> tuple[list[list[int]], list[bool]]:
    """Algorithm 3's map as it is written: every pair p < q, the first of the largest saliency."""
    chosen, found = [], []
    for a, b, allowed in zip(up.tolist(), down.tolist(), free.tolist(), strict=True):
        best, pair = 0.0, [0, 0]
        for p in range(len(a)):
            for q in range(p + 1, len(a)):
                rise, fall = a[p] + a[q], b[p] + b[q]
                if allowed[p] and allowed[q] and rise > 0 and fall > 0 and rise * fall > best:
                    best, pair = rise * fall, [p, q]
        chosen.append(pair)
        found.append(best > 0)
    return chosen, found


@pytest.mark.parametrize("crowd", [0, 200])
@pytest.mark.parametrize("kind", ["ties", "normal", "opposed", "none"])
def test_best_pair_is_that_of_all_pairs(kind: str, crowd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pair as the search through all of them, ties included, with and without the thinning by a sort."""
    monkeypatch.setattr(sys.modules["core.attacks.jsma"], "CROWD", crowd)  # the name is the function's
    generator = torch.Generator().manual_seed(0)
    for size in (2, 3, 9, 25):
        up, down = torch.randn(2, 30, size, generator=generator)
        if kind == "ties":
            up, down = (2 * up).round(), (2 * down).round()
        if kind == "opposed":
            down = 0.3 * down - up
        if kind == "none":
            up = -up.abs()
        free = torch.rand(30, size, generator=generator) > 0.2
        pair, found = best_pair(up, down, free)
        expected, exists = all_pairs(up.double(), down.double(), free)
        assert found.tolist() == exists
        assert pair[found].tolist() == [p for p, there in zip(expected, exists, strict=True) if there]
        assert size < 9 or found.any() == (kind != "none")


def test_best_pair_of_one_feature_is_none() -> None:
    """A pair needs two."""
    assert not best_pair(torch.ones(3, 1), torch.ones(3, 1), torch.ones(3, 1, dtype=torch.bool))[1].any()


def literally(model: nn.Module, x: Tensor, label: int, theta: float, steps: int, targeted: bool) -> tuple[Tensor, bool]:
    """Algorithm 3, one image (1, C, H, W), one step after the other, with the whole Jacobian and the whole map."""
    image, end = x.clone(), 1.0 if theta > 0 else 0.0
    free = (image - end).abs() > 0.01
    for step in range(steps + 1):
        leaf = image.clone().requires_grad_()
        logits = model(leaf)[0]
        fooled = (int(logits.argmax()) == label) == targeted
        if fooled or step == steps:
            return image, fooled
        rows = torch.stack([torch.autograd.grad(logit, leaf, retain_graph=True)[0] for logit in logits]).flatten(1)
        sign = (1 if targeted else -1) * (1 if theta > 0 else -1)
        up, down = sign * rows[label], -sign * (rows.sum(0) - rows[label])
        pair, found = all_pairs(up[None].double(), down[None].double(), free.flatten(1))
        if not found[0]:
            return image, False
        flat = image.flatten()
        flat[pair[0]] = (flat[pair[0]] + theta).clamp(0, 1)
        free.flatten()[pair[0]] = flat[pair[0]] != end
    raise AssertionError


@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("theta", [1.0, -1.0, 0.3])
def test_jsma_is_the_papers_algorithm(net: nn.Module, few: Batch, theta: float, targeted: bool) -> None:
    """Image by image and pixel by pixel what the algorithm gives when it is written down naively, in float64."""
    x, y = few[0][:10].double(), few[1][:10]
    model = copy.deepcopy(net).double().eval()
    y_target = (y + 1) % 10 if targeted else None
    result = jsma(net_of(model), x, y, theta=theta, gamma=0.4, y_target=y_target, batch=4)
    assert result.success.any()
    for row in range(len(x)):
        label = int((y if y_target is None else y_target)[row])
        image, fooled = literally(model, x[row : row + 1], label, theta, 13, targeted)
        torch.testing.assert_close(result.x_adv[row : row + 1], image, rtol=0, atol=1e-12)
        assert bool(result.success[row]) == fooled


def net_of(model: nn.Module) -> nn.Module:
    """In train mode: the attack must not care."""
    return copy.deepcopy(model).train()


def test_jsma_only_brightens_or_only_darkens(net: nn.Module, few: Batch) -> None:
    """By theta at most at a time, in pairs, never more than the share gamma rounded up to a pair."""
    x, y = few
    for theta in (1.0, -1.0):
        result = jsma(net, x, y, theta=theta, gamma=0.2)
        moved = (result.x_adv - x) * theta
        assert (moved >= 0).all()
        assert ((result.x_adv == (1.0 if theta > 0 else 0.0)) | (moved == 0)).all()
        assert torch.equal(result.distance["l0"], 2 * result.trace["steps"])
        assert result.distance["l0"].max() <= 14  # ceil(64 * 0.2 / 2) pairs


def test_jsma_gives_up_where_no_pair_helps() -> None:
    """Every feature raises both logits: no pair raises the one and lowers the others."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    model[1].weight.data = torch.tensor([[2.0, 2, 2, 2], [1.0, 1, 1, 1], [0.0, 1, 1, 1]])
    model[1].bias.data = torch.tensor([3.0, 0, 0])
    x = torch.zeros(1, 1, 2, 2)
    result = jsma(model, x, torch.tensor([0]), y_target=torch.tensor([1]), gamma=1.0)
    assert not result.success.any()
    assert result.trace["stuck"].all()
    assert torch.equal(result.x_adv, x)


def test_jsma_counts_its_passes(net: nn.Module, few: Batch) -> None:
    """One forward pass a step and two rows of the Jacobian, the last verdict, and the verification of a success."""
    result = jsma(net, *few, gamma=0.5)
    steps = result.trace["steps"]
    at_the_end = (steps == 16) | (result.trace["stuck"] & ~result.success)
    assert torch.equal(result.forwards, steps + 1 + result.success)
    assert torch.equal(result.backwards, 2 * steps + 2 * (~at_the_end | result.trace["stuck"]))


@pytest.mark.parametrize("pairs", [2, 3])
def test_jsma_of_several_pairs_takes_the_needless_ones_back(net: nn.Module, few: Batch, pairs: int) -> None:
    """Every pass that the model sees is told, Jacobians are fewer, and budget and gamma hold."""
    x, y = few
    model = copy.deepcopy(net).eval()
    seen = {"forwards": 0}
    model.register_forward_hook(lambda module, args, out: seen.update(forwards=seen["forwards"] + len(out)))
    result = jsma(model, x, y, gamma=0.5, pairs=pairs)
    single = jsma(net, x, y, gamma=0.5)
    assert seen["forwards"] - result.forwards.sum() == 1  # the check of the model's shape
    assert result.backwards.sum() < single.backwards.sum()
    assert torch.equal(result.distance["l0"], 2 * result.trace["steps"])
    assert result.trace["steps"].max() <= 16
    assert result.success.any()
    capped = jsma(net, x, y, gamma=0.5, pairs=pairs, budget=12)
    assert (capped.forwards + capped.backwards).max() <= 12


def test_jsma_takes_colour_images() -> None:
    """Features are counted, not pixels: a pair may be two colours of one pixel."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()
    model[1].weight.data = torch.zeros(3, 12, dtype=torch.float64)
    model[1].weight.data[1, [0, 4]] = 1.0  # two colours of the first pixel
    model[1].weight.data[0, [0, 4]] = -1.0
    model[1].bias.data = torch.tensor([1.5, 0, 0], dtype=torch.float64)
    result = jsma(model, torch.zeros(1, 3, 2, 2, dtype=torch.float64), torch.tensor([0]), gamma=1.0)
    assert result.success.all()
    assert result.distance["l0"].tolist() == [2]
    assert result.distance["pixels"].tolist() == [1]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "theta": ({"theta": 0.0}, "theta: expected a number from -1 to 1, not 0, got 0.0"),
    "large theta": ({"theta": 1.5}, "theta: expected a number from -1 to 1, not 0, got 1.5"),
    "gamma": ({"gamma": 0.0}, "gamma: expected a share above 0 and at most 1, got 0.0"),
    "batch": ({"batch": 0}, "batch: expected at least 1, got 0"),
    "budget": ({"budget": 4}, "budget: expected at least 5, got 4"),
}


@pytest.mark.parametrize("case", BAD)
def test_jsma_refuses_bad_settings(net: nn.Module, few: Batch, case: str) -> None:
    """The error names the argument, what was expected and what came."""
    change, message = BAD[case]
    with pytest.raises(ValueError, match=f"^{message}"):
        jsma(net, *few, **change)
