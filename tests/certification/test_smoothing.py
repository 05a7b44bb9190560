"""Randomised smoothing: the certificate of a linear model is known in closed form; abstaining; streams an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from core.attacks.engine.streams import Streams
from core.certification.smoothing import ABSTAIN, certify, lower_share, predict


def halfspace() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Class 1 where w·x > 1; images at several distances from the boundary, and those distances."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    weight = torch.tensor([1.0, -0.5, 0.25, 0.75])
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([torch.zeros(4), weight]))
        model[1].bias.copy_(torch.tensor([1.0, 0.0]))
    x = torch.rand(12, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    return model, x, (x.flatten(1) @ weight - 1).abs() / weight.norm()


def test_radius_of_a_halfspace_is_at_most_its_distance_and_near_it() -> None:
    """There the smoothed classifier is the model, and the certificate is tight up to the confidence interval."""
    model, x, distance = halfspace()
    made = certify(model, x, sigma=0.5, n=20_000, alpha=0.001)
    kept = made.pred != ABSTAIN
    assert kept.sum() >= 8
    assert (made.pred == model(x).argmax(1).numpy())[kept].all()
    assert (made.radius <= distance.numpy() + 1e-9)[kept].all()  # wrong with probability 0.001 each
    assert (distance.numpy() - made.radius < 0.05)[kept].all()
    assert (made.radius[~kept] == 0).all()
    assert np.allclose(made.radius[kept], 0.5 * norm.ppf(made.share[kept]))


def test_coin_flip_abstains() -> None:
    """An image on the boundary: neither certified nor predicted."""
    model, x, _ = halfspace()
    on = x[:1] * 0
    on[0, 0, 0, 0] = 1.0
    assert certify(model, on, sigma=0.5, n=1000).pred[0] == ABSTAIN
    assert predict(model, on, sigma=0.5, n=1000)[0] == ABSTAIN


def test_prediction_is_the_models_far_from_the_boundary() -> None:
    """Where the vote is clear."""
    model, x, distance = halfspace()
    far = distance > 0.15
    assert (predict(model, x[far], sigma=0.2, n=500) == model(x[far]).argmax(1).numpy()).all()


def test_unanimous_votes_give_the_largest_radius_there_is() -> None:
    """Cohen's 3.81 sigma for 100,000 draws and alpha 0.001."""
    assert norm.ppf(lower_share(100_000, 100_000, 0.001)) == pytest.approx(3.81, abs=0.01)
    assert lower_share(0, 100, 0.001) == 0.0


def test_share_is_below_the_truth_as_often_as_promised() -> None:
    """The exact interval covers at least 1 - alpha, for every count weighted by its probability."""
    from scipy.stats import binom

    for truth in (0.55, 0.8, 0.99):
        counts = np.arange(51)
        covered = np.array([lower_share(int(k), 50, 0.05) <= truth for k in counts])
        assert binom.pmf(counts, 50, truth)[covered].sum() >= 0.95


def test_image_alone_equals_its_row() -> None:
    """Noise is keyed by seed and image index."""
    model, x, _ = halfspace()
    streams = Streams.of(3, torch.arange(12))
    whole = certify(model, x, sigma=0.3, n=1500, streams=streams)
    alone = certify(model, x[7:8], sigma=0.3, n=1500, streams=streams.take(slice(7, 8)))
    assert whole.share[7] == alone.share[0]
    other = certify(model, x[7:8], sigma=0.3, n=1500, streams=Streams.of(4, torch.tensor([7])))
    assert other.share[0] != alone.share[0]


def test_numbers_out_of_range_are_named() -> None:
    """Noise, draws, error."""
    model, x, _ = halfspace()
    for field, value in (("sigma", 0.0), ("n", 0), ("n0", 0), ("alpha", 1.0)):
        with pytest.raises(ValueError, match=f"^{field}: expected"):
            certify(model, x, **{"sigma": 0.5, field: value})
