"""Successes right on the boundary: they hold one by one, in any batch and in float64, or they are none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.attacks import carlini_wagner, ddn, deepfool, ead, fab, fmn, hop_skip_jump, pdpgd, pgd
from core.attacks.engine.engine import frozen, predict
from core.attacks.engine.losses import SLACK, Goal, predicted
from core.attacks.engine.verdict import in_float64, settled
from core.attacks.minimal.minimum import minimum


class Linear(nn.Module):
    """A linear model of 784 features: its smallest-change attacks end exactly on the boundary.

    With an `offset` that is added and taken away again, float32 rounds its logits by far more than usual.
    """

    def __init__(self, offset: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(10, 784, generator=generator))
        self.register_buffer("offset", torch.tensor(offset))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return (x.flatten(1) @ self.weight.T + self.offset) - self.offset


ATTACKS: dict[str, Callable[..., Any]] = {
    "pgd": lambda m, x, y: pgd(m, x, y, eps=0.02, steps=10),
    "deepfool l2": lambda m, x, y: deepfool(m, x, y, norm="l2"),
    "fab l2": lambda m, x, y: fab(m, x, y, norm="l2", budget=100),
    "fab linf": lambda m, x, y: fab(m, x, y, norm="linf", budget=100),
    "ddn": lambda m, x, y: ddn(m, x, y, budget=100),
    "fmn linf": lambda m, x, y: fmn(m, x, y, norm="linf", budget=100),
    "ead": lambda m, x, y: ead(m, x, y, budget=150),
    "carlini_wagner": lambda m, x, y: carlini_wagner(m, x, y, budget=150),
    "pdpgd l1": lambda m, x, y: pdpgd(m, x, y, norm="l1", budget=100),
    "minimum linf": lambda m, x, y: minimum(m, x, y, norm="linf", budget=100),
    "minimum l1": lambda m, x, y: minimum(m, x, y, norm="l1", budget=100),
    "hop_skip_jump": lambda m, x, y: hop_skip_jump(m, x, y, queries=300),
}


@pytest.mark.sampled(9)
@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("attack", ATTACKS)
def test_successes_hold_one_by_one_and_in_float64(attack: str, offset: float) -> None:
    """Every one of 60, asked alone, all at once, in chunks of 7, and of the same model in float64."""
    model = Linear(offset).eval()
    x = torch.rand(60, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    y = model(x).argmax(1)
    made = ATTACKS[attack](model, x, y)
    assert made.success.float().mean() > 0.5
    seen = [model(made.x_adv), torch.cat([model(part) for part in made.x_adv.split(7)])]
    seen += [torch.cat([model(one) for one in made.x_adv.split(1)])]
    if not offset:  # the one with an offset is another model in float64: it rounds nothing away
        seen.append(copy.deepcopy(model).double()(made.x_adv.double()))
    for logits in seen:
        assert (logits.argmax(1) != y)[made.success].all()


def test_what_is_moved_over_the_boundary_moves_by_little() -> None:
    """Images a hair on the wrong side are pushed on along their change; the rest stay to the last bit."""
    model = Linear(0.0).eval()
    x = 0.3 + 0.4 * torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    y = model(x).argmax(1)
    exact = copy.deepcopy(model).double()
    # onto the boundary with the strongest other class, in float64: which side float32 says is chance
    logits = exact(x.double())
    other = logits.scatter(1, y[:, None], -torch.inf).argmax(1)
    slope = exact.weight[y] - exact.weight[other]
    gap = (logits.gather(1, y[:, None]) - logits.gather(1, other[:, None]))[:, 0]
    point = (x.double() - (gap / slope.square().sum(1))[:, None, None, None] * slope.view_as(x)).float()
    assert ((point >= 0) & (point <= 1)).all()
    with frozen(model):
        made, fooled, passes = settled(predict, model, x, point, Goal.of(y, None), batch=16, movable=True)
        _, stays, _ = settled(predict, model, x, point, Goal.of(y, None), batch=16, movable=False)
    assert fooled.all()
    assert (exact(made.double()).argmax(1) != y).all()
    assert stays.sum() < 20
    assert torch.equal(made[stays], point[stays])
    assert ((made - x).norm() / (point - x).norm() - 1).abs() < 1e-3
    assert passes.min() >= 3


def test_a_goal_is_reached_beyond_rounding_only() -> None:
    """The slack grows with the spread of the clean logits, and a tie is no success."""
    clean = torch.tensor([[8.0, 0.0, 0.0], [8000.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    goal = Goal.of(torch.tensor([0, 0, 0]), None).beyond_rounding(clean)
    assert goal.slack is not None
    torch.testing.assert_close(goal.slack, SLACK * torch.finfo(torch.float32).eps * torch.tensor([8.0, 8000.0, 0.0]))
    hair = torch.tensor([[1.0, 1.0 + 1e-5, 0.0], [1.0, 1.0 + 1e-5, 0.0], [0.0, 0.0, 1.0]])
    clear = torch.tensor([[1.0, 1.1, 0.0], [1.0, 1.1, 0.0], [0.0, 0.0, 1.0]])
    assert goal.reached(hair).tolist() == [False, False, True]
    assert goal.reached(clear).tolist() == [True, True, True]
    assert Goal.of(torch.tensor([0, 0, 0]), None).reached(hair).all()


def test_there_is_no_float64_of_what_computes_in_less() -> None:
    """Half precision, a module that cannot be copied, and one with float32 constants inside have no exact twin."""

    class Constant(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) @ torch.eye(10)

    x = torch.rand(2, 1, 28, 28)
    assert in_float64(Linear(0.0), x) is not None
    assert in_float64(Linear(0.0).half(), x) is None
    assert in_float64(Constant(0.0), x) is None
    assert predicted(torch.tensor([[torch.nan, 1.0]])).item() == -1
