"""Colour images: features and pixels are counted apart by every attack on few of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from core.attacks import sparse_rs
from tests.attacks.conftest import ATTACKS, USUAL_EPS

FEW = (
    "jacobian_sparse",
    "frontier",
    "exhaustive",
    "jsma",
    "jsma-probabilities",
    "sparse_rs",
    "one_pixel",
    "sigma_zero",
    "fmn-l0",
    "minimum-l0",
    "pgd-l0",
)
"""Attacks in l0. All but two count features: a colour pixel has three."""
BY_PIXELS = {"sparse_rs": int(USUAL_EPS["l0"]), "one_pixel": 6}
"""Those that count pixels, and how many they may change here."""


@pytest.fixture(scope="module")
def colour() -> tuple[nn.Module, Tensor, Tensor]:
    """Dark images 3 × 8 × 8 of class 0; each other class grows with all colours of 4 pixels of its own."""
    generator = torch.Generator().manual_seed(1)
    x = 0.4 * torch.rand(30, 3, 8, 8, generator=generator)
    weight = torch.zeros(4, 3, 64)
    for k in (1, 2, 3):
        weight[k, :, 10 * k : 10 * k + 4] = 0.7 + 0.6 * torch.rand(4, generator=generator)
    weight[0] = -0.05 * weight.sum(0)  # JSMA asks that the true class falls
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    model[1].weight.data = weight.flatten(1)
    model[1].bias.data = torch.tensor([4.8, 0, 0, 0])
    return model, x, model(x).argmax(1)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", FEW)
def test_attack_counts_features_and_pixels_of_colour_images(
    name: str, colour: tuple[nn.Module, Tensor, Tensor]
) -> None:
    """Both counts are those of a loop; somewhere they differ, so neither stands for the other."""
    model, x, y = colour
    result = ATTACKS[name](model, x, y)
    assert result.success.any()
    for row in range(len(x)):
        changed = [
            [bool(result.x_adv[row, c, i, j] != x[row, c, i, j]) for c in range(3)] for i in range(8) for j in range(8)
        ]
        assert int(result.distance["l0"][row]) == sum(map(sum, changed))
        assert int(result.distance["pixels"][row]) == sum(map(any, changed))
    assert (result.distance["l0"] > result.distance["pixels"]).any()
    if name in BY_PIXELS:
        assert (result.distance["pixels"] <= BY_PIXELS[name]).all()
        assert result.distance["l0"].max() > BY_PIXELS[name]
    if name == "pgd-l0":
        assert (result.distance["l0"] <= USUAL_EPS["l0"]).all()


@pytest.mark.sampled(9)
@pytest.mark.parametrize("name", ATTACKS)
def test_attack_takes_colour_images_whose_channels_come_last(
    name: str, colour: tuple[nn.Module, Tensor, Tensor]
) -> None:
    """How the images lie in memory changes no verdict, and where features are counted no image."""
    model, x, y = colour
    x, y = x[:6], y[:6]
    target = {"y_target": (y + 1) % 4} if name == "generator" else {}
    plain = ATTACKS[name](model, x, y, **target)
    result = ATTACKS[name](model, x.contiguous(memory_format=torch.channels_last), y, **target)
    if name in FEW:
        torch.testing.assert_close(result.x_adv, plain.x_adv, rtol=0, atol=1e-4)
    assert torch.equal(result.success, plain.success)


def test_as_many_pixels_fool_more_than_as_many_features(colour: tuple[nn.Module, Tensor, Tensor]) -> None:
    """A pixel is three features: the same number of pixels is the larger budget."""
    wins = {
        count: sparse_rs(*colour, eps=3, count=count, queries=200).success.sum() for count in ("pixels", "features")
    }
    assert wins["pixels"] > wins["features"]
