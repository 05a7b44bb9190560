"""Networks that certificates are tested on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from core.networks.catalogue import build, centre_of
from core.networks.layers import Centre

Made = Callable[..., tuple[nn.Module, torch.Tensor]]


def _prepared(network: str, *, scalar: bool = False) -> tuple[nn.Module, torch.Tensor]:
    """A network with running statistics and a normalisation that are not trivial, and images."""
    torch.manual_seed(0)
    x = torch.rand(6, 1, 12, 12)
    model = build(network, (1, 12, 12), 2 if scalar else 5, scalar=scalar)
    centre = centre_of(model)
    assert isinstance(centre, Centre)
    centre.fit(x)
    model.train()
    for _ in range(3):
        model(torch.rand(32, 1, 12, 12))
    return model.eval(), x


def _tiny(seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    """A network with twelve ReLUs, and images of four pixels."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        for parameter in model.parameters():  # so that the margins are of the size of the changes
            parameter *= 3
    return model.eval(), torch.rand(8, 1, 2, 2)


@pytest.fixture
def prepared() -> Made:
    """See `_prepared`."""
    return _prepared


@pytest.fixture
def tiny() -> Made:
    """See `_tiny`."""
    return _tiny
