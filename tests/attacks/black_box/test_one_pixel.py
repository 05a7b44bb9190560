"""One pixel by differential evolution: what it draws and breeds, what it finds, what it spends."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from core.attacks import one_pixel
from core.attacks.black_box.one_pixel import _children, _painted, _strangers, fitted
from core.attacks.engine.masks import Masked
from core.attacks.engine.streams import Streams

Batch = tuple[Tensor, Tensor]
WHOLE = torch.tensor([[0, 5], [0, 7]])
"""Rows and columns of an image 5 × 7."""


class Spot(nn.Module):
    """Class 1 exactly where one colour of one pixel nears a value; the logit falls with the distance in place."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images 3 × 5 × 7, grey at first, without a gradient."""
        down, right = torch.meshgrid(torch.arange(5), torch.arange(7), indexing="ij")
        far = ((down - 3) ** 2 + (right - 2) ** 2).to(x.dtype)
        changed = (x != 0.5).any(1)
        place = torch.where(changed, far, 100.0).flatten(1).min(1).values
        colour = (x[:, 1, 3, 2] - 0.8).abs()
        score = torch.where(place > 0, -place, 1 - 10 * colour).detach()
        return torch.stack([torch.zeros_like(score), score], 1)


def test_one_pixel_finds_place_and_colour() -> None:
    """The pixel, and its green within 0.1, are found by evolution and hardly by chance; one pixel changes."""
    x, y = torch.full((20, 3, 5, 7), 0.5), torch.zeros(20, dtype=torch.int64)
    result = one_pixel(Spot(), x, y, population=20, generations=60)
    assert result.success.all()
    assert (result.distance["pixels"] == 1).all()
    assert ((result.x_adv[:, 1, 3, 2] - 0.8).abs() < 0.1).all()
    assert result.trace["generations"].max() > 3
    first = one_pixel(Spot(), x, y, population=20, generations=0)
    assert first.success.float().mean() < 0.3


def test_one_pixel_counts_every_candidate(net: nn.Module, few: Batch) -> None:
    """A pass for the image, one for each candidate of each generation, and the verification of a success."""
    result = one_pixel(net, *few, pixels=3, population=10, generations=6)
    looked = result.trace["generations"] + 1
    clean = copy.deepcopy(net).eval()(few[0]).argmax(1) != few[1]
    assert torch.equal(result.forwards, 1 + 10 * looked * ~clean + result.success)
    assert (result.backwards == 0).all()
    assert (looked[~result.success] == 7).all()
    assert result.success.any()
    assert not result.success.all()


def test_one_pixel_more_generations_and_pixels_fool_more(net: nn.Module, few: Batch) -> None:
    """Never more pixels than allowed, and the margin of the result is never above that of the image."""
    x, y = few
    logits = copy.deepcopy(net).eval()(x).detach()
    clean = logits.gather(1, y[:, None])[:, 0] - logits.scatter(1, y[:, None], -torch.inf).max(1).values
    wins = []
    for pixels, generations in ((1, 20), (5, 2), (5, 40)):
        result = one_pixel(net, x, y, pixels=pixels, population=12, generations=generations)
        assert (result.distance["pixels"] <= pixels).all()
        assert (result.trace["margin"] <= clean + 1e-4).all()
        wins.append(int(result.success.sum()))
    assert wins[0] < wins[2]
    assert wins[1] < wins[2]


def test_strangers_are_spread_as_in_the_paper() -> None:
    """Places uniform over the image, colours normal about the middle and cut to the box."""
    made = _strangers(Streams.of(0, torch.arange(50)), (40, 2, 5), WHOLE, torch.float32)
    assert made.shape == (50, 40, 2, 5)
    for axis, size in ((0, 5), (1, 7)):
        counts = made[..., axis].long().flatten().bincount()
        assert len(counts) == size
        assert counts.min() > 0.85 * 4000 / size
    colours = made[..., 2:]
    assert abs(colours.mean() - 0.5) < 0.01
    assert abs((colours == 1).float().mean() - 0.1587) < 0.01  # beyond one deviation


def test_children_are_of_three_different_parents() -> None:
    """One plus F times the difference of two others: with one-hot parents the sum tells who they were."""
    people = torch.zeros(4, 6, 1, 2 + 6)
    people[:, torch.arange(6), 0, 2 + torch.arange(6)] = 0.5
    people[..., :2] = torch.tensor([2.5, 3.5])
    made = _children(Streams.of(1, torch.arange(4)), people, 0.5, WHOLE)
    assert torch.equal(made[..., :2], people[..., :2])
    # 0.5 of one, 0.25 of another, and of a third -0.25, which stops at 0
    assert torch.equal(made[..., 2:].sort(-1).values[..., -2:], torch.tensor([0.25, 0.5]).expand(4, 6, 1, 2))
    assert (made[..., 2:].sum(-1) == 0.75).all()
    assert made[:, :, 0, 2:].argmax(-1).unique().numel() > 3


def test_children_come_back_into_the_image() -> None:
    """Places that leave are drawn anew, colours are cut."""
    people = _strangers(Streams.of(0, torch.arange(30)), (20, 1, 5), WHOLE, torch.float32)
    made = _children(Streams.of(1, torch.arange(30)), people, 2.0, WHOLE)
    places = made[..., :2].long()
    assert (places >= 0).all()
    assert (places < torch.tensor([5, 7])).all()
    assert ((made[..., 2:] >= 0) & (made[..., 2:] <= 1)).all()


def test_painted_is_what_a_loop_paints() -> None:
    """Pixel by pixel; the later of two at one place stays."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 2, 2, generator=generator)
    people = torch.rand(2, 8, 3, 5, generator=generator)
    people[..., :2] *= 2
    made = _painted(x, people)
    for image in range(2):
        for one in range(8):
            expected = x[image].clone()
            for pixel in people[image, one]:
                expected[:, int(pixel[0]), int(pixel[1])] = pixel[2:]
            assert torch.equal(made[image, one], expected)


def test_fitted_keeps_to_the_budget() -> None:
    """Whatever is asked for; a budget that is large enough changes nothing."""
    for budget in (6, 7, 24, 70, 1000, 41_000):
        population, generations = fitted(400, 100, budget)
        assert population >= 4
        assert generations >= 0
        assert 2 + population * (generations + 1) <= budget
    assert fitted(400, 100, 2 + 400 * 101) == (400, 100)
    assert fitted(400, 100, None) == (400, 100)
    assert fitted(10, 3, 1000) == (10, 3)


def test_one_pixel_breeds_inside_the_masks_frame(net: nn.Module, few: Batch) -> None:
    """In a mask of one row every candidate is there, and nothing else changes."""
    x, y = few
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 4, 1:7] = True
    result = one_pixel(Masked(net, mask), x, y, pixels=4, population=16, generations=10)
    outside = ~mask.expand_as(x)
    assert torch.equal(result.x_adv[outside], x[outside])
    assert result.success.sum() > (copy.deepcopy(net).eval()(x).argmax(1) != y).sum()
