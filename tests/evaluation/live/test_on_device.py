"""What the playground computes, on a model of a pretended accelerator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core import specs
from core.attacks.subject import toy
from core.evaluation.live import attacking
from core.evaluation.live.clock import Clock
from core.evaluation.live.descent import descend, success_matrix
from core.evaluation.live.proof import proven_eps
from tests.pretended import Pretended


def subject() -> tuple[nn.Module, Tensor, Tensor]:
    """A small network in eval mode, images, and what it says of them."""
    model, x, y = toy()
    return model.eval().requires_grad_(False), x, y


METHODS: list[specs.Method] = [
    specs.Pgd(steps=3),
    specs.Pgd(steps=3, norm="l1"),
    specs.Minimum(budget=60, norm="l2"),
    specs.JacobianSparse(),
    specs.GeneratorStrong(rounds=5),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.name}-{getattr(method, 'norm', '')}")
def test_attacks_and_looks(method: specs.Method) -> None:
    """Pictures and probabilities come as numpy, as from the CPU."""
    model, x, y = subject()
    eps = (0.05, 0.3) if method.needs_eps else None
    given = x[0].numpy(), int(y[0]), method
    here = attacking.attacked(model, *given, eps=eps, clock=Clock(600))
    with Pretended():
        moved = model.to("cuda")
        there = attacking.attacked(moved, *given, eps=eps, clock=Clock(600))
        seen = attacking.seen(moved, given[0])
    assert seen.predicted == given[1]
    for ours, theirs in zip(there, here, strict=True):
        assert isinstance(ours.x, np.ndarray)
        assert (ours.success, ours.predicted) == (theirs.success, theirs.predicted)


def test_steps_and_proofs() -> None:
    """Gradient steps towards classes, the matrix of all pairs, and a proof: the answers of the CPU."""
    model, x, y = subject()
    target = (y[:2] + 1) % 4
    one_each = torch.stack([x[(y == label).nonzero()[0, 0]] for label in range(4)])
    steps, levels = {"steps": 3, "rate": 0.5}, (0.001, 0.01, 0.1)
    here = (
        descend(model, x[:2], target, **steps, clock=Clock(600)).x,
        success_matrix(model, one_each, **steps, clock=Clock(600))[0],
        proven_eps(model, x[:1], y[:1], levels, clock=Clock(600)),
    )
    with Pretended():
        moved, x, y, target, one_each = (value.to("cuda") for value in (model, x, y, target, one_each))
        found = descend(moved, x[:2], target, **steps, clock=Clock(600)).x
        assert np.allclose(found, here[0], atol=1e-4)
        assert np.array_equal(success_matrix(moved, one_each, **steps, clock=Clock(600))[0], here[1])
        assert proven_eps(moved, x[:1], y[:1], levels, clock=Clock(600)) == here[2]
