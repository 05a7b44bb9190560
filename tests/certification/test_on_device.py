"""Proofs for a convolutional network on a pretended accelerator: the answers of the CPU."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from core.attacks.engine.streams import Streams
from core.certification import exact, smoothing
from core.certification.proof import METHODS, certified_margins
from core.data.sets import first_of_test, load, to_float
from core.specs import DataSpec
from tests.fixtures import network
from tests.pretended import HERE, Pretended


def _images() -> tuple[Tensor, Tensor]:
    first = first_of_test(load(DataSpec()), 2)
    return to_float(first.x), first.y


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("method", METHODS)
def test_margins_on_the_device(method: str, norm: str) -> None:
    """Convolution, batch normalisation, pooling and dense layers, by every kind of bounds."""
    model, (x, y) = network("convolution"), _images()
    eps = {"linf": 0.01, "l2": 0.05, "l1": 0.2}[norm]
    here = certified_margins(copy.deepcopy(model), x, y, eps, norm=norm, method=method)
    with Pretended():
        there = certified_margins(model.to("cuda"), x.to("cuda"), y.to("cuda"), eps, norm=norm, method=method)
        assert there.device == HERE
        assert there.cpu().numpy() == pytest.approx(here.numpy(), rel=1e-3, abs=1e-3)


def test_exact_and_radius_on_the_device() -> None:
    """Branch and bound, with the mixed-integer programme where it is left to it."""
    model, (x, y) = network("dense"), _images()
    here = exact.verify(copy.deepcopy(model), x, y, 0.1, time_limit=300)
    with Pretended():
        model, x, y = model.to("cuda"), x.to("cuda"), y.to("cuda")
        there = exact.verify(model, x, y, 0.1, time_limit=300)
        assert there.x_adv.device == HERE
        radius = exact.exact_radius(model, x[:1], y[:1], high=0.2, tolerance=0.05, time_limit=20)
    assert there.verdict.tolist() == here.verdict.tolist()
    assert radius is not None


def test_smoothing_on_the_device() -> None:
    """Votes on noisy copies: the random streams are the images' own, so the counts are the CPU's."""
    model, (x, _) = network("convolution"), _images()
    settings = {"sigma": 0.1, "n": 200, "alpha": 0.01}
    here = smoothing.certify(copy.deepcopy(model), x, streams=Streams.of(0, torch.arange(2)), **settings)
    with Pretended():
        streams = Streams.of(0, torch.arange(2, device="cuda"))
        there = smoothing.certify(model.to("cuda"), x.to("cuda"), streams=streams, **settings)
    assert np.array_equal(there.pred, here.pred)
    assert there.radius == pytest.approx(here.radius, abs=0.05)
