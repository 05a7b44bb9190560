"""PGD: optimal on linear models, never weaker than FGSM, honest counts, refilled batches, restarts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.attacks import fgsm, pgd
from core.attacks.engine.engine import admitted
from core.attacks.engine.losses import Goal
from core.attacks.engine.streams import Streams
from core.attacks.minimal.minimum import minimum

Batch = tuple[Tensor, Tensor]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_pgd_reaches_the_optimum_of_a_linear_model(
    scalar_linear: Callable[[Tensor, float], nn.Module], linear_optimum: Callable[..., Tensor], norm: str
) -> None:
    """With box, to a fraction of a percent (MATHEMATICS section 1)."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, generator=generator, dtype=torch.float64)
    x = torch.rand(20, 1, 2, 4, generator=generator, dtype=torch.float64)
    model = scalar_linear(weight, 100.0)  # out of reach: every image withstands and keeps its best iterate
    y = torch.zeros(20, dtype=torch.int64)
    eps = torch.linspace(0.1, 0.9, 20, dtype=torch.float64)
    result = pgd(model, x, y, eps=eps, norm=norm, steps=100, relative_step=0.5)
    most = (linear_optimum(weight, x, eps, norm) * weight.abs()).sum(1)
    gain = model.score(result.x_adv) - model.score(x)
    assert (gain <= most + 1e-9).all()
    assert (gain >= (0.998 if norm == "l1" else 0.999) * most).all()


@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_pgd_is_stronger_than_fgsm(net: nn.Module, digits: Batch, loss: Any) -> None:
    """Over 200 images it fools at least as many, and every success is inside the ball."""
    x, y = digits[0][1400:1600], digits[1][1400:1600]
    strong = pgd(net, x, y, eps=0.2, loss=loss, steps=15, relative_step=0.3)
    assert strong.success.sum() >= fgsm(net, x, y, eps=0.2).success.sum()
    assert (strong.distance["linf"] <= 0.2).all()


def test_pgd_counts_every_pass(net: nn.Module, few: Batch) -> None:
    """A survivor costs one look, (steps + 1) passes and `steps` gradients a start; the wrong ones cost one look."""
    x, y = few
    steps, restarts = 5, 3
    result = pgd(net, x, y, eps=0.08, steps=steps, restarts=restarts, batch=1)
    right = copy.deepcopy(net).eval()(x).argmax(1) == y
    stood = ~result.success
    assert stood.any()
    assert (result.forwards[stood] == 1 + restarts * (steps + 1)).all()
    assert (result.backwards[stood] == restarts * steps).all()
    assert (result.forwards[~right] == 2).all()  # the look and the verification
    assert (result.backwards[~right] == 0).all()
    quick = result.success & right
    assert (result.forwards[quick] < 1 + restarts * (steps + 1)).all()


def test_pgd_drops_an_image_as_soon_as_it_is_fooled(net: nn.Module, few: Batch) -> None:
    """At a generous budget the first steps fool, and the other steps are not paid for."""
    result = pgd(net, *few, eps=0.5, steps=50)
    assert result.success.all()
    assert result.backwards.max() < 10
    assert torch.equal(result.forwards - 3, (result.backwards - 1).clamp(min=-1))  # look, last verdict, verification


def test_pgd_refills_its_batch(exactly: tuple[nn.Module, Tensor, Tensor]) -> None:
    """Batches stay full while images wait, whatever was fooled, and the result does not depend on their size."""
    net, x, y = exactly
    sizes: list[int] = []
    with admitted(net, x):  # the look at what the model bears comes before
        handle = net.register_forward_hook(lambda module, args, out: sizes.append(len(args[0])))
        small = pgd(net, x, y, eps=0.2, steps=8, batch=7)
        handle.remove()
    whole = pgd(net, x, y, eps=0.2, steps=8)
    assert torch.equal(small.success, whole.success)
    torch.testing.assert_close(small.x_adv, whole.x_adv, rtol=0, atol=1e-6)
    # the look at the class count and at the clean images, full steps, then a shrinking rest, then the verification
    steps = sizes[2 : -math.ceil(int(small.success.sum()) / 4)]
    first_short = next(place for place, size in enumerate(steps) if size < 7)
    assert first_short > 10
    assert steps[first_short:] == sorted(steps[first_short:], reverse=True)


def test_pgd_restarts_only_help(net: nn.Module, digits: Batch) -> None:
    """What one start fools stays exactly as it was; more starts fool more, on images where one is not enough."""
    x, y = digits[0][1400:1600], digits[1][1400:1600]
    one = pgd(net, x, y, eps=0.12, steps=3, relative_step=0.5, restarts=1)
    many = pgd(net, x, y, eps=0.12, steps=3, relative_step=0.5, restarts=8)
    torch.testing.assert_close(many.x_adv[one.success], one.x_adv[one.success], rtol=0, atol=1e-6)
    assert (many.success >= one.success).all()
    assert many.success.sum() > one.success.sum()
    assert (many.trace["margin"] <= one.trace["margin"] + 1e-4).all()


def test_pgd_keeps_the_best_iterate_of_those_that_stand(net: nn.Module, few: Batch) -> None:
    """The stored margin is the stored image's, and never above the clean one."""
    x, y = few
    result = pgd(net, x, y, eps=0.05, steps=6, relative_step=1.5)  # steps so large that later iterates can be worse
    model = copy.deepcopy(net).eval()
    goal = Goal.of(y, None)
    torch.testing.assert_close(goal.margin(model(result.x_adv)).detach(), result.trace["margin"], rtol=1e-4, atol=1e-4)
    assert (result.trace["margin"] <= goal.margin(model(x)).detach() + 1e-5).all()


def test_pgd_random_start_belongs_to_the_image(net: nn.Module, few: Batch) -> None:
    """Seeds differ, images of one batch differ, and without a random start no seed matters."""
    x, y = few[0][:1].expand(4, -1, -1, -1).clone(), few[1][:1].expand(4).clone()

    def found(seed: int, random_start: bool) -> Tensor:
        streams = Streams.of(seed, torch.arange(4))
        options: dict[str, Any] = {"steps": 1, "relative_step": 0.01, "random_start": random_start}
        return pgd(net, x, y, eps=0.01, streams=streams, **options).x_adv

    assert not torch.equal(found(0, True), found(1, True))
    assert not torch.equal(found(0, True)[0], found(0, True)[1])
    assert torch.equal(found(0, False), found(1, False))
    assert torch.equal(found(0, True), found(0, True))


def test_pgd_takes_l2_budgets_above_one(net: nn.Module, few: Batch) -> None:
    """An l2 distance may well be larger than a pixel's range."""
    result = pgd(net, *few, eps=3.0, norm="l2", steps=10)
    assert result.success.all()


@pytest.mark.parametrize("count", [1, 5, 20])
def test_pgd_in_l0_is_exact_on_linear_models(scalar_linear: Callable[..., nn.Module], count: int) -> None:
    """One step from the image moves the best features to their ends: no image in the ball does better."""
    generator = torch.Generator().manual_seed(3)
    x, weight = torch.rand(30, 1, 6, 6, generator=generator), torch.randn(36, generator=generator)
    model = scalar_linear(weight, -1e3)  # class 1 everywhere, out of reach, so that all of the ball is used
    result = pgd(model, x, torch.ones(30, dtype=torch.int64), eps=count, norm="l0", steps=1, random_start=False)
    flat = x.flatten(1)
    best = torch.maximum(weight * flat, -weight * (1 - flat)).sort(1, descending=True).values[:, :count].sum(1)
    torch.testing.assert_close(model.score(x) - model.score(result.x_adv), best, rtol=1e-4, atol=1e-4)
    assert (result.distance["l0"] <= count).all()


def test_pgd_in_l0_counts_features_rounded_down(net: nn.Module, few: Batch) -> None:
    """3.9 features are three; less than one is none; more than there are is all; budgets differ by image."""
    x, y = few
    assert (pgd(net, x, y, eps=3.9, norm="l0").distance["l0"] <= 3).all()
    assert torch.equal(pgd(net, x, y, eps=0.9, norm="l0").x_adv, x)
    assert pgd(net, x, y, eps=1000, norm="l0").success.all()
    ladder = torch.arange(len(x)) * 0.5
    result = pgd(net, x, y, eps=ladder, norm="l0", restarts=2)
    assert (result.distance["l0"] <= ladder.floor()).all()


def test_pgd_in_l0_fools_what_long_searches_fool(net: nn.Module, digits: Batch) -> None:
    """With 5 features it leaves hardly more standing than the best of several attacks on the smallest count."""
    x, y = digits[0][1400:1500], digits[1][1400:1500]
    least = minimum(net, x, y, norm="l0", budget=300)
    few_enough = least.success & (least.distance["l0"] <= 5)
    found = pgd(net, x, y, eps=5, norm="l0", restarts=5, steps=20)
    assert found.success.sum() >= 0.95 * few_enough.sum()
