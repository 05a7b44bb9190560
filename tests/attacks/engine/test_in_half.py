"""Searches in half precision: whatever the rounded logits say, results are those of the model in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.attacks import pgd
from core.attacks.black_box.square import square
from core.attacks.engine import in_half
from core.attacks.engine.in_half import Half, half_of, searched_in_half
from core.attacks.engine.losses import margin, predicted
from core.attacks.engine.masks import Masked
from core.attacks.engine.result import AttackResult
from core.attacks.fixed_budget.apgd import apgd
from core.attacks.fixed_budget.hop import basin_hopping

HALF = Half(classes=4, rounding=0.002)
ATTACKS: dict[str, Callable[..., AttackResult]] = {
    "pgd": lambda *given, **more: pgd(*given, steps=12, restarts=2, **more),
    "apgd": lambda *given, **more: apgd(*given, steps=12, loss="dlr", targets=2, **more),
    "hop": lambda *given, **more: basin_hopping(*given, hops=4, chains=2, **more),
    "square": lambda *given, **more: square(*given, queries=160, offspring=8, **more),
}


@pytest.fixture(scope="module")
def subject() -> tuple[nn.Module, Tensor, Tensor]:
    """A network with batch norm, images that it classifies correctly, and their classes."""
    torch.manual_seed(3)
    model = nn.Sequential(
        *(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 12, 3, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(12 * 9, 4)),
    ).eval()
    x = torch.rand(24, 1, 8, 8)
    return model.requires_grad_(False), x, model(x).argmax(1)


def consistent(model: nn.Module, x: Tensor, y: Tensor, made: AttackResult) -> None:
    """Successes fool in float32, alone; the margins are those in float32; the ball holds."""
    with torch.no_grad():
        logits = torch.cat([model(one) for one in made.x_adv.split(1)])
    assert (predicted(logits) != y)[made.success].all()
    assert torch.allclose(made.trace["margin"], margin(logits, y), atol=1e-5)
    assert (made.x_adv - x).abs().max() <= 0.1 + 1e-6


@pytest.mark.parametrize("name", ATTACKS)
def test_results_are_those_of_float32(name: str, subject: tuple[nn.Module, Tensor, Tensor]) -> None:
    """Half of the images fall, as they do in float32; each success and each margin is one of float32."""
    model, x, y = subject
    plain = ATTACKS[name](model, x, y, eps=0.1)
    with searched_in_half(model, HALF):
        made = ATTACKS[name](model, x, y, eps=0.1)
        again = ATTACKS[name](model, x, y, eps=0.1)
    consistent(model, x, y, made)
    assert torch.equal(made.x_adv, again.x_adv)
    assert not torch.equal(made.x_adv, plain.x_adv)  # it took another way
    assert 0 < plain.success.sum() < len(x)
    assert (made.success.sum() - plain.success.sum()).abs() <= 2


@pytest.mark.parametrize("lie", ["fooled", "NaN"])
@pytest.mark.parametrize("name", ATTACKS)
def test_rounded_logits_are_not_believed(
    name: str, lie: str, subject: tuple[nn.Module, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits that say that every image is fooled, or that are no numbers, make no verdict."""
    model, x, y = subject

    def said(of: nn.Module, images: Tensor, classes: int) -> Tensor:
        logits = of(images)
        if lie == "NaN":
            return logits * torch.nan
        return logits + torch.zeros_like(logits).scatter(1, logits.argmin(1, keepdim=True), 1e3)

    monkeypatch.setattr(in_half, "half_logits", said)
    with searched_in_half(model, HALF):
        made = ATTACKS[name](model, x, y, eps=0.1)
    consistent(model, x, y, made)
    assert not made.success.all()


def test_only_this_model_and_only_inside(subject: tuple[nn.Module, Tensor, Tensor]) -> None:
    """Neither another model nor the model behind a mask is searched so, and nothing is after the context."""
    model, x, y = subject
    with searched_in_half(model, HALF):
        assert half_of(model) is HALF
        assert half_of(Masked(model, torch.ones(8, 8))) is None
        with searched_in_half(model, None):
            assert half_of(model) is None
        assert half_of(model) is HALF
    assert half_of(model) is None
    before = pgd(model, x, y, eps=0.1, steps=5)
    with searched_in_half(nn.Identity(), HALF):
        assert torch.equal(pgd(model, x, y, eps=0.1, steps=5).x_adv, before.x_adv)


def test_a_model_that_fails_in_half_precision_is_asked_in_float32(
    subject: tuple[nn.Module, Tensor, Tensor],
) -> None:
    """The result is then what it is without."""
    inner, x, y = subject

    class Strict(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: Tensor) -> Tensor:
            if self.inner[0](images).dtype != torch.float32:
                raise TypeError("expected float32")
            return self.inner(images)

    model, how = Strict().eval(), dict[str, Any](eps=0.1, steps=6, early_stop=False)
    before = pgd(model, x, y, **how)
    with searched_in_half(model, HALF):
        assert torch.equal(pgd(model, x, y, **how).x_adv, before.x_adv)
