"""Expectation over a model's randomness and straight-through gradients: same answers, usable gradients, honest cost."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core import specs
from core.attacks import apgd, fgsm, pgd
from core.attacks.engine.engine import admitted
from core.attacks.engine.masks import Masked
from core.attacks.engine.stand_ins import Expectation, StraightThrough, stand_in
from core.attacks.fixed_budget.hop import basin_hopping
from core.attacks.fixed_budget.iterative import bim, mifgsm, rfgsm
from core.attacks.run import run_method
from core.cli.parser import parser
from core.evaluation.tasks.sweep import _fgsm_ladder, _Images
from tests.evaluation.trust.decoys import DECOYS, TRAINED, Decoy, X, Y

Answer = Callable[[nn.Module, Tensor], Tensor]
KEYS = {
    "fgsm": "d558f8b1078075b36437cdd84b9be1250e1f948a27861d69edbdb2e793650dc3",
    "pgd": "b4f3d06199c8ca6597979444d23254501f5d0900ed1424095cb73f2fbe5b3009",
    "rfgsm": "f939bbb65433433cd1898b17c2fc2e48e733221eb2d18d270ab35d27e71b2635",
    "bim": "b9242d1ed88e5cd3deada57273075d922a057e8ae1f882cbe036be31a53b28e3",
    "mifgsm": "613bbbea2d1a7a65638e10829923ff6fcb91a0157b2c27d9830b267b482319fc",
    "apgd": "4b8b6c21af8fecccfd5a1b1a9be412ec8052956a175bc33dca51d0b7baa612e1",
}
"""Keys of the methods at their defaults, from before they could average or pass straight through."""
ATTACKS: dict[str, Callable[..., Any]] = {
    **{"fgsm": fgsm, "rfgsm": rfgsm, "bim": bim, "mifgsm": mifgsm, "pgd": pgd, "apgd": apgd, "hop": basin_hopping}
}
X_FEW, Y_FEW = X[TRAINED:][:24], Y[TRAINED:][:24]


@pytest.fixture(scope="module")
def linear() -> nn.Module:
    """A linear model, whose gradient is the same everywhere."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval().requires_grad_(False)


def cosines(k: int = 8) -> Tensor:
    """The orthonormal cosine transform of k points."""
    row = torch.arange(k, dtype=torch.float32)
    made = torch.cos(torch.pi * (2 * row[None] + 1) * row[:, None] / (2 * k)) * (2 / k) ** 0.5
    made[0] /= 2**0.5
    return made


def jpeg_like(model: nn.Module, x: Tensor) -> Tensor:
    """Rounds the coefficients of each 8 × 8 block."""
    d = cosines()
    return model(d.T @ (((d @ x @ d.T) / 0.3).round() * 0.3) @ d)


class InNumpy(nn.Module):
    """Rounds outside of PyTorch."""

    def forward(self, x: Tensor) -> Tensor:
        """Four levels."""
        return torch.from_numpy(np.round(x.detach().numpy() * 4) / 4)


class Median(nn.Module):
    """A median filter, without gradients."""

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Of three pixels in a row."""
        wide = nn.functional.pad(x, (1, 1, 0, 0), mode="replicate")
        return wide.unfold(3, 3, 1).median(4).values


class Deaf(nn.Module):
    """Its gradient is there, and zero."""

    def forward(self, x: Tensor) -> Tensor:
        """Four levels."""
        return (x.detach() * 4).round() / 4 + 0 * x


class Outside(nn.Module):
    """Detaches its whole input before its first layer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the image in 16 levels."""
        return self.model(torch.from_numpy((x.detach().numpy() * 15).astype(np.uint8)).float() / 15)


def _in_place(model: nn.Module, x: Tensor) -> Tensor:
    z = x * 4
    z.round_()
    return model(z / 4)


ROUNDING: dict[str, Answer] = {
    "round": lambda model, x: model((4 * x).round() / 4),
    "round of torch": lambda model, x: model(torch.round(4 * x) / 4),
    "round in place": _in_place,
    "decimals": lambda model, x: model(x.round(decimals=1)),
    "floor": lambda model, x: model((4 * x).floor() / 4),
    "ceil": lambda model, x: model(torch.ceil(4 * x) / 4),
    "trunc": lambda model, x: model((4 * x).trunc() / 4),
    "floor division": lambda model, x: model((4 * x) // 1 / 4),
    "rounded division": lambda model, x: model(torch.div(4 * x, 1, rounding_mode="floor") / 4),
    "bytes": lambda model, x: model((15 * x).to(torch.uint8).float() / 15),
    "bytes, divided": lambda model, x: model((15 * x).byte() / 15),
    "JPEG-like": jpeg_like,
    "no gradient comes back": DECOYS["no gradient comes back"],
    "another pixel's gradient comes back": DECOYS["another pixel's gradient comes back"],
    "the gradient is NaN at 0": DECOYS["the gradient is NaN at 0"],
}
"""Steps whose bridged gradient is that of the identity."""
OTHERS: dict[str, Answer] = {
    "comparison": lambda model, x: model((x > 0.5).float()),
    "where": lambda model, x: model(torch.where(x > 0.5, 1.0, 0.0)),
    "thermometer": lambda model, x: model((x[..., None] > torch.linspace(0.1, 0.9, 5)).float().mean(-1)),
    "high bits": lambda model, x: model(((255 * x).byte() >> 4 << 4) / 255),
    "sign": lambda model, x: model((x - 0.5).sign()),
    "a sigmoid of huge slope": DECOYS["a sigmoid of huge slope"],
}
"""Steps whose bridged gradient points the right way."""
MODULES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "NumPy": lambda model: nn.Sequential(InNumpy(), model),
    "median": lambda model: nn.Sequential(Median(), model),
    "zero": lambda model: nn.Sequential(Deaf(), model),
    "outside": Outside,
}


def slope_of(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of the true logits."""
    leaf = x.clone().requires_grad_()
    logits = model(leaf)
    (slope,) = torch.autograd.grad(logits.gather(1, y[:, None]).sum(), leaf)
    return logits.detach(), slope


@pytest.mark.parametrize("name", [*ROUNDING, *OTHERS])
def test_bridged_function_keeps_answers_and_has_a_gradient(name: str, linear: nn.Module) -> None:
    """Logits to the last bit; the gradient is the identity's, or points its way."""
    model = Decoy(linear, {**ROUNDING, **OTHERS}[name])
    logits, slope = slope_of(StraightThrough(model), X_FEW, Y_FEW)
    assert torch.equal(logits, model(X_FEW))
    _, identity = slope_of(linear, X_FEW, Y_FEW)
    if name in ROUNDING:
        torch.testing.assert_close(slope, identity, rtol=1e-4, atol=1e-6)
    else:
        assert nn.functional.cosine_similarity(slope.flatten(1), identity.flatten(1)).min() > 0.9


@pytest.mark.parametrize("name", MODULES)
def test_bridged_module_keeps_answers_and_has_a_gradient(name: str, linear: nn.Module) -> None:
    """The same for a sub-module that stops the gradient, whatever is inside; hooks are gone afterwards."""
    model = MODULES[name](linear)
    logits, slope = slope_of(StraightThrough(model), X_FEW, Y_FEW)
    assert torch.equal(logits, model(X_FEW))
    torch.testing.assert_close(slope, slope_of(linear, X_FEW, Y_FEW)[1], rtol=1e-4, atol=1e-6)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_honest_gradient_stays_as_it_is(net: nn.Module) -> None:
    """Where nothing stops the gradient, straight-through changes neither answer nor gradient."""
    net = copy.deepcopy(net).eval()
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    y = torch.arange(6)
    for mine, own in zip(slope_of(StraightThrough(net), x, y), slope_of(net, x, y), strict=True):
        assert torch.equal(mine, own)


def test_expectation_of_an_ordinary_model_has_its_margins(linear: nn.Module) -> None:
    """The mean over equal draws: the same differences of logits and the same gradient of them, up to rounding."""
    mean = Expectation(linear, 5)
    own, drawn = linear(X_FEW), mean(X_FEW)
    torch.testing.assert_close(own - own[:, :1], drawn - drawn[:, :1], rtol=1e-4, atol=1e-4)
    assert torch.allclose(drawn.exp().sum(1), torch.ones(len(X_FEW)), atol=1e-4)


def test_expectation_is_the_mean_of_probabilities(linear: nn.Module) -> None:
    """Not of logits: one confident draw does not outvote the others."""

    class Turns(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return torch.tensor([[100.0, 0.0]] if self.calls % 4 == 0 else [[0.0, 1.0]]).expand(len(x), 2)

    assert Expectation(Turns(), 4)(X_FEW).argmax(1).tolist() == [1] * len(X_FEW)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ATTACKS)
def test_draws_are_counted_and_the_generator_is_put_back(name: str, linear: nn.Module) -> None:
    """The result counts the model's own passes, one look at the first image apart; the same call gives the same."""
    model = Decoy(linear, lambda inner, x: inner(x + 0.05 * torch.randn_like(x)))
    passes = []
    state = torch.get_rng_state()
    with admitted(model, X_FEW):  # the look at what the model bears comes before
        handle = model.register_forward_hook(lambda _, given, __: passes.append(len(given[0])))
        made = ATTACKS[name](model, X_FEW, Y_FEW, eps=0.1, draws=3, straight_through=True)
    counted = sum(passes)
    handle.remove()
    assert torch.equal(state, torch.get_rng_state())
    looks = counted - int(made.forwards.sum())
    assert 0 < looks <= (24 if name == "hop" else 9)
    assert looks % 3 == 0
    assert (made.forwards % 3 == 0).all()
    assert (made.backwards % 3 == 0).all()
    assert made.backwards.max() > 0
    torch.rand(3)
    again = ATTACKS[name](model, X_FEW, Y_FEW, eps=0.1, draws=3, straight_through=True)
    assert torch.equal(again.x_adv, made.x_adv)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ATTACKS)
def test_attack_breaks_a_model_that_rounds(name: str, linear: nn.Module) -> None:
    """Straight through, each attack fools what it does not fool without: nothing but rounding stands in the way."""
    model = Decoy(linear, lambda inner, x: inner((16 * x).round() / 16))
    y = model(X_FEW).argmax(1)
    plain, bridged = (ATTACKS[name](model, X_FEW, y, eps=0.3, straight_through=way) for way in (False, True))
    assert bridged.success.float().mean() > plain.success.float().mean() + 0.3
    assert torch.equal(model(bridged.x_adv).argmax(1) != y, bridged.success)


def test_mask_stays_outermost(linear: nn.Module) -> None:
    """A masked model is masked as before: nothing outside moves, and the mask is seen by attacks."""
    mask = torch.zeros(8, 8)
    mask[2:6, 2:6] = 1
    model = Masked(Decoy(linear, ROUNDING["round"]), mask)
    assert isinstance(stand_in(model, 2, True), Masked)
    made = pgd(model, X_FEW, Y_FEW, eps=0.3, steps=5, draws=2, straight_through=True)
    moved = (made.x_adv != X_FEW).flatten(0, 1).any(0)
    assert moved.any()
    assert not moved[~mask.bool()].any()


def test_defaults_are_the_model_itself(linear: nn.Module) -> None:
    """One draw and no bridge put nothing around the model."""
    assert stand_in(linear) is linear


@pytest.mark.parametrize("draws", [0, -3, True])
def test_bad_draws_are_refused(draws: Any, linear: nn.Module) -> None:
    """In the words of every refusal."""
    with pytest.raises(ValueError, match="draws: expected a whole number of 1 or more, got"):
        pgd(linear, X_FEW, Y_FEW, eps=0.1, draws=draws, straight_through=True)


def test_budget_holds_with_draws(linear: nn.Module) -> None:
    """A budget is of the model's own passes, 8-bit images included; one too small for the draws is refused."""
    y = linear(X_FEW).argmax(1)
    method = specs.Pgd(draws=4)
    made = run_method(linear, X_FEW, y, method, eps=0.01, budget=100, eight_bit=True)
    assert (made.forwards + made.backwards).max() <= 100
    with pytest.raises(ValueError, match="budget: expected at least 20 for 4 draws, got 19"):
        pgd(linear, X_FEW, y, eps=0.1, draws=4, budget=19)


def test_sweep_of_fgsm_goes_straight_through(linear: nn.Module) -> None:
    """The one gradient that serves every ε is the bridged one, and its draws are counted."""
    model = Decoy(linear, ROUNDING["round"])
    images = _Images(X_FEW, Y_FEW, None, None)  # type: ignore[arg-type]
    ((_, x_adv, passes),) = _fgsm_ladder(model, images, specs.Fgsm(straight_through=True, draws=2), (0.2,), None)
    assert (x_adv != X_FEW).any()
    assert all((spent == 2).all() for spent in passes)


@pytest.mark.parametrize("name", KEYS)
def test_keys_are_those_of_before(name: str) -> None:
    """Settings that came later leave no trace at their defaults: what was made before is still found."""
    cls = specs.METHODS[name]
    assert cls().key() == KEYS[name]
    assert len({cls().key(), cls(draws=2).key(), cls(straight_through=True).key()}) == 3
    assert cls.model_validate(cls(draws=7, straight_through=True).body()) == cls(draws=7, straight_through=True)


def test_command_line_offers_both(capsys: pytest.CaptureFixture[str]) -> None:
    """The help texts of the fields are those of the flags."""
    with pytest.raises(SystemExit):
        parser(["attack", "--attack", "pgd", "--help"]).parse_args(["attack", "--attack", "pgd", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--draws DRAWS" in text
    assert "--straight-through" in text
    assert "gradients pass straight through such steps" in text
