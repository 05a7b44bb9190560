"""The shrinking ball: what counts is inside eps, it sees what has no slope at the image, draws belong to the image."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.attacks import pgd, shrinking_ball
from core.attacks.engine.losses import margin
from core.attacks.engine.masks import Masked
from core.attacks.engine.streams import Streams
from core.attacks.fixed_budget.shrinking import balls
from tests.attacks.no_slope import Deaf

Batch = tuple[Tensor, Tensor]
EPS = {"l2": 0.4, "l1": 1.5}
MILDER: dict[str, Any] = {"l2": {"first_ball": 3.0, "momentum": 0.5}, "l1": {}}


@pytest.mark.parametrize("start", ["image", "noise"])
@pytest.mark.parametrize("norm", EPS)
def test_shrinking_ball_keeps_what_is_inside_eps(norm: Any, start: Any, net: nn.Module, few: Batch) -> None:
    """Fools some; never above the clean margin; distances, verdicts and counts hold; the model is untouched."""
    x, y = few
    before = copy.deepcopy(net.state_dict())
    eps = EPS[norm]
    result = shrinking_ball(net, x, y, eps=eps, norm=norm, start=start, steps=10, **MILDER[norm])
    judge = copy.deepcopy(net).eval()
    logits, clean = judge(result.x_adv), margin(judge(x), y)
    assert result.success.float().mean() > 0.1
    assert (result.distance[norm] <= eps).all()
    assert torch.equal(logits.argmax(1) != y, result.success)
    assert (result.trace["margin"] <= clean + 1e-5).all()
    assert (result.trace["margin"] < clean)[clean > 0].float().mean() > 0.8
    assert (result.forwards <= 10 + 3).all()
    assert (result.backwards <= 10).all()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_shrinking_ball_sees_what_has_no_slope_at_the_image() -> None:
    """From noise each pixel shows what it is worth; from the image PGD finds no way."""
    x, y = torch.zeros(20, 1, 6, 6), torch.zeros(20, dtype=torch.int64)
    assert not pgd(Deaf(), x, y, eps=4, norm="l1", steps=100, random_start=False).success.any()
    result = shrinking_ball(Deaf(), x, y, eps=4, steps=40)
    assert result.success.float().mean() > 0.9
    assert not shrinking_ball(Deaf(), x, y, eps=2.4, steps=40).success.any()  # no image of this ball would do


def test_shrinking_ball_of_a_slice_is_the_slice(exactly: tuple[nn.Module, Tensor, Tensor]) -> None:
    """Draws belong to the image: alone it gets what it gets among all."""
    net, x, y = exactly
    streams = Streams.of(3, torch.arange(len(y)))
    whole = shrinking_ball(net, x, y, eps=1.0, steps=8, streams=streams, batch=7)
    rows = torch.tensor([1, 9, 17])
    part = shrinking_ball(net, x[rows], y[rows], eps=1.0, steps=8, streams=streams.take(rows))
    assert torch.allclose(part.x_adv, whole.x_adv[rows])
    assert torch.equal(part.forwards, whole.forwards[rows])
    assert not torch.equal(whole.x_adv, shrinking_ball(net, x, y, eps=1.0, steps=8).x_adv)


def test_shrinking_ball_keeps_to_a_mask(net: nn.Module, few: Batch) -> None:
    """Noise outside the mask never reaches the image."""
    x, y = few
    mask = torch.zeros_like(x[0], dtype=torch.bool)
    mask[..., : x.shape[-1] // 2] = True
    result = shrinking_ball(Masked(net, mask), x, y, eps=2.0, steps=8)
    assert torch.equal(result.x_adv[..., ~mask[0]], x[..., ~mask[0]])
    assert (result.x_adv != x).any()


@pytest.mark.parametrize(("steps", "inside"), [(10, 3), (20, 6), (1, 0), (3, 0)])
def test_balls_shrink_by_one_factor_to_eps(steps: int, inside: int) -> None:
    """The first is the largest, the last is 1, and so are those of the last steps."""
    sizes = balls(steps, 12.0)
    assert (sizes[0], sizes[-1]) == (12, 1)
    assert len(sizes) == steps + 1
    assert sum(size == 1 for size in sizes) == inside + 1
    shrinking = torch.tensor([size for size in sizes if size > 1]).log()
    assert torch.allclose(shrinking.diff(), shrinking.diff()[:1], atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"steps": 0}, "steps: expected at least 1"),
        ({"first_ball": 0.5}, "first_ball: expected a number of 1 or more"),
        ({"first_ball": float("inf")}, "first_ball: expected a number of 1 or more"),
        ({"momentum": 1.5}, "momentum: expected a number from 0 to 1"),
        ({"start": "ball"}, "start: expected"),
        ({"norm": "linf"}, "norm: expected"),
    ],
)
def test_shrinking_ball_refuses_bad_settings(fields: dict[str, Any], said: str, net: nn.Module, few: Batch) -> None:
    """By the argument's name, with what was expected."""
    with pytest.raises(ValueError, match=said):
        shrinking_ball(net, *few, eps=0.1, **fields)
