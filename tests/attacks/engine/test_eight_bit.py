"""8 bits: levels, balls to the last bit, real files."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from torch import Tensor, nn

from core import specs
from core.attacks.engine.eight_bit import in_eight_bits, levels, rounded
from core.attacks.engine.geometry import distances, linf_bounds
from core.attacks.engine.masks import Masked
from core.attacks.engine.result import AttackResult
from core.attacks.run import run_method
from core.data.sets import to_float

Batch = tuple[Tensor, Tensor]
GRID = torch.arange(256, dtype=torch.uint8)

pixels = arrays(np.uint8, (2, 1, 3, 3), elements=st.integers(0, 255))
values = arrays(np.float32, (2, 1, 3, 3), elements=st.floats(0, 1, width=32))


def as_bytes(x: Tensor) -> Tensor:
    """What a program that saves images does."""
    return (x * 255).round().to(torch.uint8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_are_what_bytes_become(dtype: torch.dtype) -> None:
    """All 256 of them, and around each the nearest numbers above and below."""
    grid = GRID.to(dtype) / 255
    assert torch.equal(to_float(GRID), GRID.float() / 255)
    low, high = levels(grid)
    assert torch.equal(low, grid)
    assert torch.equal(high, grid)
    low, high = levels(torch.nextafter(grid[:-1], grid[1:]))
    assert torch.equal(low, grid[:-1])
    assert torch.equal(high, grid[1:])
    low, high = levels(torch.nextafter(grid[1:], grid[:-1]))
    assert torch.equal(low, grid[:-1])
    assert torch.equal(high, grid[1:])


@given(x=pixels, x_adv=values, eps=st.floats(0, 1, width=32))
def test_rounded_images_survive_their_bytes_inside_every_ball(x: np.ndarray, x_adv: np.ndarray, eps: float) -> None:
    """From images of 8 bits no feature moves further, so every distance shrinks; a byte and back changes no bit."""
    before = to_float(torch.from_numpy(x))
    low, high = linf_bounds(before, torch.full((2,), eps))
    point = torch.from_numpy(x_adv).clamp(low, high)
    after = rounded(point, before)
    assert torch.equal(to_float(as_bytes(after)), after)
    assert ((after - before).abs() <= (point - before).abs()).all()
    assert ((after - before).double().abs() <= eps).all()
    assert torch.equal(after[point == before], before[point == before])
    for name, size in distances(after, before).items():
        assert (size <= distances(point, before)[name]).all(), name


@given(x=values, x_adv=values)
def test_rounding_is_to_one_of_the_two_levels_around(x: np.ndarray, x_adv: np.ndarray) -> None:
    """Whatever `x` is: `towards` and `away` are the two levels, `nearest` the closer one; the box holds."""
    before, point = torch.from_numpy(x), torch.from_numpy(x_adv)
    low, high = levels(point)
    towards, nearest, away = (rounded(point, before, way) for way in ("towards", "nearest", "away"))
    assert torch.equal(torch.minimum(towards, away), low)
    assert torch.equal(torch.maximum(towards, away), high)
    assert ((towards - before).abs() <= (away - before).abs()).all()
    assert ((nearest - point).abs() <= 0.5 / 255 + 1e-6).all()
    for images in (towards, nearest, away):
        assert torch.equal(to_float(as_bytes(images)), images)


METHODS = (
    (specs.Pgd(steps=8), 0.2),
    (specs.Pgd(steps=8, norm="l2"), 1.2),
    (specs.Pgd(steps=8, norm="l1"), 5.0),
    (specs.Fgsm(clip=False), 0.2),
    (specs.Ddn(steps=30), None),
    (specs.SigmaZero(steps=40), None),
)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("method", "eps"), METHODS, ids=lambda value: getattr(value, "name", ""))
def test_attack_in_8_bits_survives_real_files(
    method: specs.Method, eps: float | None, net: nn.Module, few: Batch
) -> None:
    """Saved as PNG and read again, each image is the same to the last bit, in its ball, and fools as was said."""
    x, y = to_float(as_bytes(few[0])), few[1]
    plain = run_method(net, x, y, method, eps=eps)
    result = run_method(net, x, y, method, eps=eps, eight_bit=True)
    files = [io.BytesIO() for _ in x]
    for file, image in zip(files, result.x_adv, strict=True):
        Image.fromarray(as_bytes(image)[0].numpy()).save(file, format="PNG")
    read = to_float(torch.stack([torch.from_numpy(np.array(Image.open(file)))[None] for file in files]))
    assert torch.equal(read, result.x_adv)
    assert torch.equal(copy.deepcopy(net).eval()(read).argmax(1) != y, result.success)
    for name, size in distances(read, x).items():
        assert torch.equal(result.distance[name], size)
    if eps is not None:
        assert (result.distance[getattr(method, "norm", "linf")] <= torch.tensor(eps)).all()
    assert result.success.sum() >= 0.85 * plain.success.sum()
    assert ((result.forwards - plain.forwards) >= 1).all()
    assert ((result.forwards - plain.forwards) <= 3).all()
    assert net.training


def test_image_that_no_level_is_near_enough_to_comes_back(net: nn.Module, few: Batch) -> None:
    """Sixteenths are no levels: in a ball smaller than the way to the next one there is no image of 8 bits."""
    x, y = few
    result = run_method(net, x, y, specs.Pgd(steps=3), eps=5e-4, eight_bit=True)
    assert torch.equal(result.x_adv, x)
    assert (result.distance["linf"] == 0).all()
    assert torch.equal(result.success, copy.deepcopy(net).eval()(x).argmax(1) != y)
    wide = run_method(net, x, y, specs.Pgd(steps=8), eps=0.2, eight_bit=True)
    assert torch.equal(to_float(as_bytes(wide.x_adv)), wide.x_adv)
    assert (wide.distance["linf"] <= torch.tensor(0.2)).all()


def test_success_lost_by_rounding_is_looked_for_on_the_levels_around() -> None:
    """A threshold between two levels: towards x the success is lost, away from it it is kept if the ball has room."""

    class Bright(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            total = x.flatten(1).sum(1) * 255 - 100.3
            return torch.stack([torch.zeros_like(total), total], 1)

    x, y = torch.full((1, 1, 1, 1), 90 / 255), torch.tensor([0])
    made = torch.full_like(x, 100.4 / 255)
    count = torch.ones_like(y)
    attacked = AttackResult(made, torch.tensor([True]), distances(made, x), count, count)
    found = in_eight_bits(Bright(), x, y, attacked, norm="linf", eps=11.5 / 255)
    assert found.success.item()
    assert as_bytes(found.x_adv).item() == 101
    assert found.forwards.item() == 4
    tight = in_eight_bits(Bright(), x, y, attacked, norm="linf", eps=10.6 / 255)
    assert not tight.success.item()
    assert as_bytes(tight.x_adv).item() == 100
    assert tight.forwards.item() == 3


def test_images_in_8_bits_keep_to_a_mask(net: nn.Module, few: Batch) -> None:
    """Outside the mask the image is bit for bit what it was, even where it has not 8 bits itself."""
    x, y = few
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, 2:, :6] = True
    result = run_method(Masked(net, mask), x, y, specs.Pgd(steps=8), eps=0.4, eight_bit=True)
    assert result.success.sum() > 10
    assert torch.equal(torch.where(mask, 0, result.x_adv), torch.where(mask, 0, x))
    inside = torch.where(mask, result.x_adv, 0)[result.success & (result.distance["linf"] > 0)]
    assert torch.equal(to_float(as_bytes(inside)), inside)
