"""Defences that are known to break are flagged or broken; honest networks are never flagged."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from core.attacks import square
from core.attacks.engine.losses import margin
from core.evaluation.robust.robust import evaluate
from tests.evaluation.trust.decoys import TRAINED, X, Y
from tests.evaluation.trust.defences import DEFENCES, HONEST, made, softened

X_FEW, Y_FEW = X[TRAINED:][:40], Y[TRAINED:][:40]
EPS = 0.1
BALLS = {"linf": EPS, "l2": 0.4}


def adaptive(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Images (n,) bool that an attacker who knows the defence does not fool.

    It follows the gradient of the softened network and of the defended one's mean over noise, counts what fools the
    defended one, and asks it at random too.
    """
    stands = model(x).argmax(1) == y
    guide = softened(model)
    for start, noise, by in ((0, 0.0, guide), (1, 0.0, guide), (2, 0.5 * eps, guide), (3, 0.5 * eps, model)):
        torch.manual_seed(start)
        point = x if start == 0 else (x + eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
        for step in range(25):
            slope = torch.zeros_like(x)
            for _ in range(4 if noise else 1):
                leaf = (point + noise * torch.randn_like(x)).requires_grad_()
                slope += torch.autograd.grad(margin(by(leaf), y).sum(), leaf)[0]
            point = (point - eps * (1 - step / 25) * slope.sign()).detach()
            point = torch.minimum(torch.maximum(point, x - eps), x + eps).clamp(0, 1)
            stands = stands & (model(point).argmax(1) == y)
    return stands & ~square(model, x, y, eps=eps, queries=500).success


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", DEFENCES)
def test_defence_is_flagged_or_broken(name: str) -> None:
    """A check warns or fails; or the quick figure is the one of an attacker who knows the defence, within a point."""
    model = made(name)
    found = evaluate(model, X_FEW, Y_FEW, eps=EPS, effort="quick")
    assert found.clean_accuracy > 0.7, "a defence that does not classify shows nothing"
    assert found.trust is not None
    if found.trust.verdict == "pass":
        left = (adaptive(model, X_FEW, Y_FEW, EPS) & found.robust).sum()
        assert int(found.robust.sum() - left) <= 1, found.trust.to_markdown()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", HONEST)
def test_honest_network_is_not_flagged(name: str) -> None:
    """No check warns at its default settings, in linf and l2."""
    for norm, eps in BALLS.items():
        found = evaluate(made(name), X_FEW, Y_FEW, norm=norm, eps=eps, effort="quick")
        assert found.clean_accuracy > 0.8
        assert found.trust is not None
        assert found.trust.verdict == "pass", found.trust.to_markdown()
        assert found.usable
