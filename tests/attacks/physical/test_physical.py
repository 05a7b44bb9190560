"""Glasses and patches: scenes are what they say, averaging helps where the object moves, measured on fresh scenes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core import specs
from core.attacks import physical
from core.attacks.engine.masks import Masked
from core.attacks.engine.streams import Streams
from core.attacks.physical import mask_shapes
from core.attacks.physical.scenes import Scene
from core.attacks.run import run_method

Batch = tuple[Tensor, Tensor]
MOVING = {"shift": 1.0, "brightness": 0.3, "noise": 0.1}


@pytest.fixture
def patch() -> Tensor:
    """A patch of 5 x 5 in images of 8 x 8."""
    return torch.from_numpy(mask_shapes.patch(8, 8, size=0.6))


def drawn(count: int) -> Streams:
    """A stream each."""
    return Streams.of(3, torch.arange(count))


def test_still_scene_shows_the_pattern_on_its_mask_to_the_last_bit(few: Batch, patch: Tensor) -> None:
    """Nothing varies, nothing changes."""
    x, pattern = few[0], few[0].flip(0)
    assert torch.equal(Scene().seen(pattern, patch[None], x, drawn(40)), torch.where(patch, pattern, x))


def test_scene_moves_the_object_by_what_it_says() -> None:
    """A white object before a black image keeps its light and has its middle up to `shift` pixels away, both ways."""
    mask = torch.zeros(1, 28, 28, dtype=torch.bool)
    mask[:, 10:15, 12:17] = True
    x = torch.zeros(200, 1, 28, 28)
    seen = Scene(shift=3.0).seen(torch.ones_like(x), mask, x, drawn(200))
    torch.testing.assert_close(seen.sum((1, 2, 3)), torch.full((200,), 25.0), atol=1e-3, rtol=0)
    place = torch.arange(28).float()
    for axis, middle in ((2, 12.0), (3, 14.0)):
        moved = (seen.sum((1, 5 - axis)) * place).sum(1) / 25 - middle
        assert (moved.abs() <= 3.0001).all()
        assert moved.min() < -2.5
        assert moved.max() > 2.5


def test_scene_turns_and_scales_about_the_objects_middle() -> None:
    """The middle stays; a bar turned by up to 90 degrees lies flat in some scenes; the size changes as the square."""
    mask = torch.zeros(1, 28, 36, dtype=torch.bool)
    mask[:, 4:17, 9:12] = True
    x = torch.zeros(300, 1, 28, 36)
    place = torch.stack(torch.meshgrid(torch.arange(28.0), torch.arange(36.0), indexing="ij"))
    for scene in (Scene(angle=90.0), Scene(scale=0.3)):
        seen = scene.seen(torch.ones_like(x), mask, x, drawn(300))[:, 0]
        weight = seen / seen.sum((1, 2), keepdim=True)
        middle = (weight[:, None] * place).sum((2, 3))
        torch.testing.assert_close(middle, torch.tensor([10.0, 10.0]).expand(300, 2), atol=0.1, rtol=0)
        spread = (weight[:, None] * (place - middle[:, :, None, None]).square()).sum((2, 3))
        if scene.angle:
            assert spread[:, 1].max() > 13  # as long across as it was down: (13² - 1) / 12 = 14
            torch.testing.assert_close(spread.sum(1), spread.sum(1).mean().expand(300), atol=0.3, rtol=0)
        else:
            area = seen.sum((1, 2)) / 39
            assert area.min() < 0.6
            assert area.max() > 1.5


def test_scene_light_and_noise_stay_in_their_ranges(few: Batch, patch: Tensor) -> None:
    """Light multiplies the whole image by one number; noise touches the pattern only; all stay in the box."""
    x = 0.5 * few[0]
    lit = Scene(brightness=0.4).seen(x, patch[None], x, drawn(40))
    factor = lit.sum((1, 2, 3)) / x.sum((1, 2, 3))
    torch.testing.assert_close(lit, x * factor.view(-1, 1, 1, 1))
    assert 0.6 <= factor.min() < 0.7
    assert 1.3 < factor.max() <= 1.4
    noisy = Scene(noise=0.2).seen(x, patch[None], x, drawn(40))
    assert torch.equal(noisy[~patch.expand_as(x)], x[~patch.expand_as(x)])
    error = (noisy - x).abs()[patch.expand_as(x)]
    assert 0.15 < error.max() <= 0.2 + 1e-6
    assert noisy.min() >= 0


def test_scenes_are_the_images_own(few: Batch, patch: Tensor) -> None:
    """A slice sees the scenes that it saw in the whole batch."""
    x = few[0]
    scene = Scene(shift=1, angle=20, scale=0.1, brightness=0.2, noise=0.1)
    whole = scene.seen(x.flip(0), patch[None], x, drawn(40))
    rows = torch.tensor([31, 2])
    part = scene.seen(x.flip(0)[rows], patch[None], x[rows], drawn(40).take(rows))
    torch.testing.assert_close(part, whole[rows], atol=1e-6, rtol=0)


def test_averaging_holds_where_the_object_moves(net: nn.Module, few: Batch, patch: Tensor) -> None:
    """Made on the still image alone, a pattern loses much as the patch moves; averaged over scenes it keeps it."""
    x, y = few
    model = Masked(net, patch)
    still = physical(model, x, y, scenes=0, steps=60, **MOVING)
    averaged = physical(model, x, y, scenes=8, steps=60, **MOVING)
    shares = [result.trace["share"].nanmean() for result in (still, averaged)]
    assert shares[1] > shares[0] + 0.1
    assert averaged.success.sum() > still.success.sum()


def test_share_is_that_of_fresh_scenes(net: nn.Module, few: Batch, patch: Tensor) -> None:
    """Another thousand scenes, drawn here, give the same share up to chance; the views are as their logits say."""
    x, y = few[0][:10], few[1][:10]
    result = physical(Masked(net, patch), x, y, fresh=200, least=0.3, steps=30, **MOVING)
    model = copy.deepcopy(net).eval()
    scene, share = Scene(**MOVING), result.trace["share"]
    many = torch.arange(10).repeat(1000)
    seen = scene.seen(result.x_adv[many], patch[None], x[many], Streams.of(77, torch.arange(10_000)))
    found = (model(seen).argmax(1) != y[many]).view(1000, 10).float().mean(0)
    attacked = ~share.isnan()
    assert attacked.sum() >= 8
    assert ((found - share).abs()[attacked] < 0.12).all()
    fooled = model(result.x_adv).argmax(1) != y
    assert torch.equal(result.success[attacked], ((share >= 0.3) & fooled)[attacked])
    views = result.trace["views"]
    assert views.shape == (10, 6, 1, 8, 8)
    torch.testing.assert_close(model(views.flatten(0, 1)), result.trace["view_logits"].flatten(0, 1))
    assert not torch.equal(views[:, 0], views[:, 1])


def test_smoothness_makes_patterns_smoother(net: nn.Module, few: Batch, patch: Tensor) -> None:
    """Steps between neighbours inside the patch shrink."""
    model, x, y = Masked(net, patch), few[0][:20], few[1][:20]
    rough = [
        physical(model, x, y, smooth=smooth, steps=40).x_adv[:, :, 1:6, 1:6].diff(dim=3).square().mean()
        for smooth in (0.0, 1000.0)
    ]
    assert rough[1] < 0.5 * rough[0]


def test_least_share_decides_what_counts(net: nn.Module, few: Batch, patch: Tensor) -> None:
    """The same patterns, counted more strictly."""
    model, x, y = Masked(net, patch), few[0][:20], few[1][:20]
    loose, strict = (physical(model, x, y, least=least, steps=20, shift=2.0) for least in (0.1, 0.95))
    assert torch.equal(loose.x_adv, strict.x_adv)
    assert strict.success.sum() < loose.success.sum()
    assert not (strict.success & ~loose.success).any()


def test_eight_bits_give_no_success_away(net: nn.Module, few: Batch, patch: Tensor) -> None:
    """A pattern that fools only where it is does not count in 8 bits either, though its still image fools."""
    model, (x, y) = Masked(net, patch), few
    spec = specs.Physical(scenes=0, steps=30, least=1.0, shift=2.0)
    made = run_method(model, x, y, spec)
    in_bytes = run_method(model, x, y, spec, eight_bit=True)
    fooled = copy.deepcopy(net).eval()(in_bytes.x_adv).argmax(1) != y
    assert not (in_bytes.success & ~made.success).any()
    assert in_bytes.success.sum() < fooled.sum()


@pytest.mark.parametrize("budget", [6, 20, 100, 400])
def test_budget_is_spent_on_steps_and_fresh_scenes(net: nn.Module, few: Batch, patch: Tensor, budget: int) -> None:
    """Never exceeded, and not wasted where every image withstands."""
    x = few[0]
    y = copy.deepcopy(net).eval()(x).argmax(1)
    model = Masked(net, patch)
    hard = physical(model, x, y, y_target=(y + 3) % 10, steps=1000, budget=budget, shift=3.0)
    spent = hard.forwards + hard.backwards
    assert spent.max() <= budget
    assert spent.max() > 0.7 * budget


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"angle": 200.0}, "angle: expected a number from 0 to 180, got 200.0"),
        ({"noise": 2.0}, "noise: expected a number from 0 to 1, got 2.0"),
    ],
)
def test_bad_settings_are_refused(net: nn.Module, few: Batch, settings: dict[str, Any], message: str) -> None:
    """By the argument's name."""
    with pytest.raises(ValueError, match=message):
        physical(net, *few, **settings)
