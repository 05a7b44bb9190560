"""What the tests of the strongest evaluation share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from core.models.saved import load_model


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """30 images of digits with their classes."""
    found = load_digits()
    return torch.tensor(found.images[-30:] / 16, dtype=torch.float32)[:, None], torch.tensor(found.target[-30:])


@pytest.fixture(scope="module")
def net(trained_store: Path) -> nn.Module:
    """A dense network trained on digits."""
    return load_model("digits-mlp-standard", trained_store).model
