"""Universal perturbations: inside ball, box and mask, better than noise, counted, the same on every run."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from core.attacks.engine import masks
from core.attacks.engine.engine import admitted, frozen, predict
from core.attacks.engine.geometry import distances, norm_of
from core.attacks.engine.streams import Streams
from core.attacks.universal import universal
from core.attacks.universal.universal import Universal, apply, uap, universal_gradient

Making = Callable[..., Universal]
BUDGETS = {"linf": 0.25, "l2": 1.6, "l1": 9.0}


def _gradient(model: nn.Module, x: Tensor, y: Tensor, **options: object) -> Universal:
    return universal_gradient(model, x, y, **{"eps": 0.25, "minibatch": 32, **options})


def _uap(model: nn.Module, x: Tensor, y: Tensor, **options: object) -> Universal:
    return uap(model, x, y, **{"eps": 0.25, "epochs": 2, "steps": 5, "together": 8, **options})


@pytest.fixture(params=[_gradient, _uap], ids=["gradient", "uap"])
def making(request: pytest.FixtureRequest) -> Making:
    """Both ways to make a universal perturbation, with small settings."""
    return request.param


@pytest.fixture(scope="module")
def parts(net: nn.Module, digits: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """120 images to make a perturbation from and 200 others, all read correctly."""
    x, y = digits
    with frozen(net):
        right = (predict(net, x).argmax(1) == y).nonzero()[:, 0]
    fit, held = right[:120], right[-200:]
    return x[fit], y[fit], x[held], y[held]


def _rate(net: nn.Module, x: Tensor, y: Tensor, delta: Tensor) -> float:
    return apply(net, x, y, delta).success.float().mean().item()


@pytest.mark.parametrize("norm", BUDGETS)
def test_gradient_beats_noise_on_images_it_never_saw(net: nn.Module, parts: tuple[Tensor, ...], norm: str) -> None:
    """In every norm: inside the ball, and it fools several times as many held-out images as noise of the same size."""
    x, y, held, truth = parts
    made = _gradient(net, x, y, norm=norm, eps=BUDGETS[norm])
    assert distances(made.delta[None], torch.zeros_like(made.delta[None]))[norm] <= torch.tensor(BUDGETS[norm])
    noise = torch.randn(made.delta.shape, generator=torch.Generator().manual_seed(0)).sign()
    noise = noise * BUDGETS[norm] / norm_of(noise[None], norm).item()
    assert _rate(net, held, truth, made.delta) > max(0.35, 2.5 * _rate(net, held, truth, noise))


@pytest.mark.slow
@pytest.mark.parametrize("together", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_uap_beats_noise_on_images_it_never_saw(together: int, net: nn.Module, parts: tuple[Tensor, ...]) -> None:
    """The classical algorithm, its images one by one and several at a time; noise of the same l2 length is weaker."""
    x, y, held, truth = parts
    noise = torch.randn(20, *x[0].shape, generator=torch.Generator().manual_seed(0))
    noise = noise / noise.flatten(1).norm(dim=1)[:, None, None, None]
    made = _uap(net, x, y, together=together)
    assert made.delta.abs().max() <= 0.25
    usual = sum(_rate(net, held, truth, made.delta.norm() * direction) for direction in noise) / len(noise)
    assert _rate(net, held, truth, made.delta) > 1.3 * usual


@pytest.mark.slow
def test_uap_follows_the_paper(net: nn.Module, parts: tuple[Tensor, ...]) -> None:
    """Looking ahead changes nothing: algorithm 1 written out, image by image, gives the same perturbation."""
    net, x, y = copy.deepcopy(net).double(), parts[0][:25].double(), parts[1][:25]
    streams = Streams.of(3, torch.arange(25))
    made = uap(net, x, y, eps=0.2, epochs=2, steps=5, together=1, streams=streams)
    delta, best, most = torch.zeros_like(x[:1]), torch.zeros_like(x[:1]), 0.0
    for epoch in (1, 2):
        for k in streams.fork(epoch).uniform(0, 1, ()).argsort(stable=True).tolist():
            point = (x[k : k + 1] + delta).clamp(0, 1)
            found = universal.deepfool(net, point, y[k : k + 1], steps=5)
            delta = (delta + found.x_adv - point).clamp(-0.2, 0.2)
        share = _rate(net, x, y, delta[0])
        if share >= most:
            best, most = delta, share
    torch.testing.assert_close(made.delta, best[0], rtol=0, atol=1e-6)


def test_target_is_reached(net: nn.Module, parts: tuple[Tensor, ...], making: Making) -> None:
    """Towards a class: what counts is that class, not any wrong one."""
    x, y, held, truth = parts
    keep, others = y != 3, truth != 3
    goal = torch.full_like(y[keep], 3)
    made = making(net, x[keep], y[keep], y_target=goal, eps=0.35)
    target = torch.full_like(truth[others], 3)
    result = apply(net, held[others], truth[others], made.delta, y_target=target)
    with frozen(net):
        pred = predict(net, result.x_adv).argmax(1)
    assert torch.equal(result.success, pred == 3)
    assert result.success.float().mean() > 0.2


def test_counts_and_verdicts_are_true(
    net: nn.Module, parts: tuple[Tensor, ...], making: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passes are what the model saw; success is what another forward pass says of the clipped images."""
    x, y = parts[0][:40], parts[1][:40]
    seen, checks, plain = [], [1], universal.deepfool

    def counted(*args: object, **options: object) -> object:
        checks.append(1)
        return plain(*args, **options)

    monkeypatch.setattr(universal, "deepfool", counted)
    with admitted(net, x):  # the look at what the model bears comes before
        handle = net.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
        made = making(net, x, y)
        handle.remove()
    assert sum(seen) == made.forwards.sum().item() + len(checks)  # each check of the arguments looks at one image
    with frozen(net):
        pred = predict(net, (x + made.delta).clamp(0, 1)).argmax(1)
    assert torch.equal(made.success, pred != y)


def test_gradient_counts_exactly(net: nn.Module, parts: tuple[Tensor, ...]) -> None:
    """One of each a step, one forward a verdict on validation, one to verify."""
    made = _gradient(net, parts[0], parts[1], epochs=4, validation=0.25)
    judges = made.trace["validates"]
    assert judges.sum() == 30
    assert (made.forwards[judges] == 4 + 1).all()
    assert (made.forwards[~judges] == 4 + 1).all()
    assert (made.backwards == torch.where(judges, 0, 4)).all()


@pytest.mark.sampled(5)
@pytest.mark.parametrize("budget", [9, 14, 40])
def test_budget_is_hard(net: nn.Module, parts: tuple[Tensor, ...], making: Making, budget: int) -> None:
    """No image gets more passes than the budget."""
    for more in ({}, {"validation": 0.0}) if making is _gradient else ({}, {"together": 1}):
        made = making(net, parts[0][:40], parts[1][:40], budget=budget, **more)
        assert (made.forwards + made.backwards).max() <= budget


@pytest.mark.sampled(3)
def test_same_again_and_in_double(net: nn.Module, parts: tuple[Tensor, ...], making: Making) -> None:
    """Same streams, same perturbation to the last bit; other streams, another; float64 stays float64."""
    x, y = parts[0][:40], parts[1][:40]
    streams = [Streams.of(seed, torch.arange(40)) for seed in (0, 0, 1)]
    first, again, other = (making(net, x, y, streams=s).delta for s in streams)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    double = net.double()
    try:
        assert making(double, x.double(), y).delta.dtype == torch.float64
    finally:
        net.float()


@pytest.mark.slow
def test_mask_holds(net: nn.Module, parts: tuple[Tensor, ...], making: Making) -> None:
    """With a mask, nothing outside it moves: the perturbation is 0 there, and so is the change of every image."""
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, 2:5] = True
    masked = masks.Masked(net, mask)
    made = making(masked, parts[0], parts[1], eps=0.8)
    assert (made.delta[~mask] == 0).all()
    assert (made.delta[mask] != 0).any()
    result = apply(masked, parts[2], parts[3], made.delta)
    assert torch.equal(result.x_adv[:, ~mask], parts[2][:, ~mask])


def test_nothing_to_gain(parts: tuple[Tensor, ...], net: nn.Module, making: Making) -> None:
    """A zero budget, a constant model and one that gives NaN: no crash, no success that is none, no change."""

    class Constant(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def forward(self, x: Tensor) -> Tensor:
            return torch.eye(10)[torch.zeros(len(x), dtype=torch.long)] * self.value

    x, y = parts[0][:20], parts[1][:20]
    assert (making(net, x, y, eps=0.0).delta == 0).all()
    for value in (1.0, float("nan")):
        made = making(Constant(value), x, y.clamp(max=0))
        assert (made.success == (value != 1)).all()  # who answers NaN has no image right
        assert (made.delta == 0).all()


def test_model_is_left_alone(net: nn.Module, parts: tuple[Tensor, ...], making: Making) -> None:
    """Mode, weights, buffers and gradients are as before."""
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    making(net, parts[0][:20], parts[1][:20])
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert modes == [module.training for module in net.modules()]
    assert all(p.requires_grad for p in net.parameters())


def test_refusals_name_the_argument(net: nn.Module, parts: tuple[Tensor, ...], making: Making) -> None:
    """Bad input: a ValueError with the argument's name."""
    x, y = parts[0][:10], parts[1][:10]
    for bad, match in (
        ({"eps": -0.1}, "eps: expected"),
        ({"eps": 1.5}, "eps: expected"),
        ({"norm": "l0"}, "norm: expected"),
        ({"epochs": 0}, "epochs: expected"),
        ({"budget": 3}, "budget: expected at least"),
    ):
        with pytest.raises(ValueError, match=match):
            making(net, x, y, **bad)
    with pytest.raises((ValueError, TypeCheckError), match="eps"):  # shapes are checked before the code where they are
        making(net, x, y, eps=torch.full((10,), 0.1))
    for bad, match in (({"validation": 0.95}, "validation"), ({"momentum": 1.0}, "momentum"), ({"kappa": -1}, "kappa")):
        with pytest.raises(ValueError, match=match):
            _gradient(net, x, y, **bad)
    with pytest.raises(ValueError, match="norm: expected linf or l2, got 'l1'"):
        _uap(net, x, y, norm="l1")
    with pytest.raises(ValueError, match="rate: expected"):
        _uap(net, x, y, rate=0.0)
    with pytest.raises((ValueError, TypeCheckError), match="delta"):
        apply(net, x, y, torch.zeros(1, 7, 8))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("together", [pytest.param(1, marks=pytest.mark.slow), 8, 50])
def test_uap_asks_about_every_image_in_an_epoch(net: nn.Module, parts: tuple[Tensor, ...], together: int) -> None:
    """None is dropped with those before it: a look, the verdict after the epoch, and the verification."""
    made = _uap(net, parts[0], parts[1], eps=0.2, epochs=1, together=together)
    assert (made.forwards >= 3).all()
