"""A module in memory becomes a model in the store, or one sentence says why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from core.data.sets import load, to_float
from core.jobs.importing import import_model
from core.models.saved import load_model
from core.specs import DataSpec


class Noisy(nn.Module):
    """Random."""

    def forward(self, x: Tensor) -> Tensor:
        """Another answer every time."""
        return x.flatten(1)[:, :10] + torch.randn(len(x), 10)


class Rarely(nn.Module):
    """Random on so few calls that none of a hundred shows it."""

    def forward(self, x: Tensor) -> Tensor:
        """The same answer nearly every time."""
        return x.flatten(1)[:, :10] * (2 if torch.rand(()) < 1e-6 else 1)


class Branching(nn.Module):
    """Computes something else where the images are strongly black and white, as digits are and noise is not."""

    def forward(self, x: Tensor) -> Tensor:
        """One of two answers."""
        flat = x.flatten(1)
        return flat[:, :10] if float(flat.detach().std(1).max()) < 0.34 else flat[:, 10:20]


def trained() -> nn.Module:
    """A few steps on the digits, enough to be right about most."""
    torch.manual_seed(0)
    data = load(DataSpec(dataset="digits"))
    x, y = to_float(data.train.x), data.train.y
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def test_a_module_is_imported(tmp_path: Path) -> None:
    """It answers as it did, in eval mode; the same module again is the same model."""
    model = trained()
    made = import_model(model, data="digits", root=tmp_path, label="mine", device="cpu")
    again = import_model(model, data="digits", root=tmp_path, label="mine", device="cpu")
    assert made.id == again.id
    assert made.card["metrics"]["test_accuracy"] > 0.8
    saved = load_model(made.id, tmp_path)
    x, _ = saved.images(20)
    assert torch.equal(saved.model(x).argmax(1), model.eval()(x).argmax(1))
    assert not list((tmp_path / ".uploads").glob("*"))


def test_modules_that_cannot_be_imported(tmp_path: Path) -> None:
    """The sentence names what takes them; nothing is left behind."""
    with pytest.raises(ValueError, match=r"^model: expected .* core\.evaluation\.evaluate"):
        import_model(Noisy(), data="digits", root=tmp_path, device="cpu")
    with pytest.raises(ValueError, match=r"^model: expected .* draws random numbers"):
        import_model(Rarely(), data="digits", root=tmp_path, device="cpu")
    with pytest.raises(ValueError, match=r"^model: expected one that agrees with its export"):
        import_model(Branching(), data="digits", root=tmp_path, device="cpu")
    with pytest.raises(ValueError, match=r"^source: expected a file, its bytes or a torch.nn.Module, got int"):
        import_model(3, data="digits", root=tmp_path, device="cpu")
    with pytest.raises(ValueError, match=r"^architecture: expected none for a module"):
        import_model(trained(), data="digits", architecture="mlp", root=tmp_path, device="cpu")
    assert not list(tmp_path.rglob("*.onnx"))
