"""Models that only look robust, each around an honest one, and honest ones (`tests.fixtures`), on 8x8 digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from core.attacks import pgd, square

DIGITS = load_digits()
X = torch.tensor(DIGITS.images / 16, dtype=torch.float32)[:, None]
Y = torch.tensor(DIGITS.target)
TRAINED = 1400
"""The digits from here on are for testing."""


def evaluated(model: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float) -> tuple[Tensor, Tensor]:
    """What a careful evaluation finds: which images stand, and the images that it made."""
    robust, x_adv = torch.ones_like(y, dtype=torch.bool), x.clone()
    for attack, settings in (
        (pgd, {"steps": 25, "restarts": 4, "norm": norm}),
        (pgd, {"steps": 25, "restarts": 2, "norm": norm, "loss": "margin"}),
        (square, {"queries": 200, "norm": norm}),
    ):
        rows = robust.nonzero()[:, 0]
        if len(rows) and not (attack is square and norm not in ("linf", "l2")):
            made = attack(model, x[rows], y[rows], eps=eps, **settings)
            x_adv[rows], robust[rows] = made.x_adv, ~made.success
    return robust, x_adv


class Decoy(nn.Module):
    """A model around another one, which answers its own way."""

    def __init__(self, model: nn.Module, answer: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.answer = model, answer

    def forward(self, x: Tensor) -> Tensor:
        """Logits, or what it gives for them."""
        return self.answer(self.model, x)


class _Deaf(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(context: Any, slope: Tensor) -> Tensor:
        return torch.zeros_like(slope)


class _Liar(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(context: Any, slope: Tensor) -> Tensor:
        return slope.roll(3, -1)


def _detector(model: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([model(x), 1e3 * (_sides(x) - 0.06)], 1)


def _refuser(model: nn.Module, x: Tensor) -> Tensor:
    return torch.where(_sides(x) > 0.06, torch.nan, model(x))


def _sides(x: Tensor) -> Tensor:
    """Brightness (N, 1) of the outer columns, where digits are dark: by it changed images are told from true ones."""
    return x[..., [0, 7]].flatten(1).mean(1, keepdim=True)


DECOYS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "no gradient comes back": lambda model, x: model(_Deaf.apply(x)),
    "another pixel's gradient comes back": lambda model, x: model(_Liar.apply(x)),
    "the gradient is NaN at 0": lambda model, x: model(x + 0 * x.sqrt()),
    "a sigmoid of huge slope": lambda model, x: model(torch.sigmoid(2000 * (x - 0.53))),
    "five grey levels": lambda model, x: model((4 * x).round() / 4),
    "ripples of huge slope": lambda model, x: model(x + 0.02 * torch.sin(500 * x)),
    "logits times a thousand": lambda model, x: 1000 * model(x),
    "noise before each answer": lambda model, x: model(x + 0.1 * torch.randn_like(x)),
    "the batch's mean subtracted": lambda model, x: model(x - x.mean(0) + 0.3),
    "probabilities": lambda model, x: model(x).softmax(1),
    "a class for changed images": _detector,
    "NaN for changed images": _refuser,
}
