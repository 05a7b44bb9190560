"""The checks for anybody's attack: an honest one passes, and each kind of fault is found and named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.attacks import AttackResult, attack_checks, check_attack
from core.attacks.engine.checks import check_eps
from core.attacks.engine.engine import frozen
from core.attacks.engine.geometry import distances, linf_bounds

Fault = Callable[[AttackResult, Tensor], AttackResult]


def one_step(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    y_target: Tensor | None = None,
    on_progress: Any = None,
) -> AttackResult:
    """A signed gradient step in plain torch, as a stranger might write it."""
    if not len(x):
        raise ValueError("x: expected at least one image, got none")
    towards, label = (1, y) if y_target is None else (-1, y_target)
    with frozen(model):
        leaf = x.clone().requires_grad_()
        logits = model(leaf)
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(logits, label, reduction="sum"), leaf)
        clean = logits.detach().argmax(1)
        done = clean != y if y_target is None else clean == y_target
        low, high = linf_bounds(x, check_eps(eps, x))
        x_adv = torch.where(towards * gradient > 0, high, torch.where(gradient == 0, x, low))
        x_adv = torch.where(done[:, None, None, None], x, x_adv)
        if on_progress:
            on_progress(1, 1)
        with torch.no_grad():
            found = model(x_adv).argmax(1)
    success = found != y if y_target is None else found == y_target
    one = torch.ones_like(y)
    return AttackResult(x_adv, success, distances(x_adv, x), 2 * one, one)


def test_an_honest_attack_passes() -> None:
    """All checks, at once and one by one; the ball's check needs a budget."""
    check_attack(one_step, eps=0.02)
    names = [name for name, _ in attack_checks(one_step, eps=0.02)]
    assert names[:5] == ["result", "float64", "small ball", "targeted", "misclassified"]
    assert ("cuda" in names) == torch.cuda.is_available()


def with_x(change: Callable[[Tensor, Tensor], Tensor]) -> Fault:
    """A fault of the images that come back; their distances are right."""

    def fault(result: AttackResult, x: Tensor) -> AttackResult:
        x_adv = change(result.x_adv, x)
        return replace(result, x_adv=x_adv, distance=distances(x_adv, x))

    return fault


def with_field(name: str, change: Callable[[Tensor], object]) -> Fault:
    """A fault of another field of the result."""
    return lambda made, x: replace(made, **{name: change(getattr(made, name))})


FAULTS: dict[str, tuple[str, str, Fault]] = {
    "out of the box": ("result", r"pixels in \[0, 1\]", with_x(lambda made, x: made - 0.2)),
    "out of the ball": ("result", "linf distance: expected at most ε = 0.02", with_x(lambda made, x: 1 - x)),
    "claims all": ("result", "result.success: expected what", with_field("success", torch.ones_like)),
    "claims none": ("result", "result.success: expected what", with_field("success", torch.zeros_like)),
    "float success": ("result", "result.success: expected shape", with_field("success", Tensor.float)),
    "no distances": ("result", "result.distance: expected", with_field("distance", lambda old: {})),
    "wrong distances": (
        "result",
        r"result.distance\['l2'\]",
        with_field("distance", lambda old: old | {"l2": 2 * old["l2"]}),  # type: ignore[operator, index]
    ),
    "no passes": ("result", "result.forwards: expected 1", with_field("forwards", torch.zeros_like)),
    "a graph": ("result", "without a graph", with_field("x_adv", lambda old: old.clone().requires_grad_())),
    "float32 only": ("float64", "result.x_adv: expected shape, dtype", with_x(lambda made, x: made.float())),
    "uncounted": ("counted", "result.backwards: expected", with_field("backwards", torch.zeros_like)),
    "by place in the batch": (
        "slices",
        "x_adv of a slice",
        with_x(lambda made, x: torch.where(torch.arange(len(x))[:, None, None, None] % 2 == 0, made, x)),
    ),
    "drawn anywhere": (
        "seed",
        "the same seed",
        with_x(lambda made, x: torch.where(torch.rand(x.shape) > 0.5, made, x)),
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_found_by_its_check(kind: str) -> None:
    """The check of that name raises, and the message says what was expected."""
    name, message, fault = FAULTS[kind]

    def faulty(model: nn.Module, x: Tensor, y: Tensor, *, eps: float, y_target: Tensor | None = None) -> AttackResult:
        made = fault(one_step(model, x, y, eps=eps, y_target=y_target), x)
        if kind in ("by place in the batch", "drawn anywhere"):  # honest otherwise
            made = replace(made, success=copy.deepcopy(model).eval()(made.x_adv).argmax(1) != y)
        return made

    with pytest.raises(AssertionError, match=message):
        dict(attack_checks(faulty, eps=0.02))[name]()
    with pytest.raises(AssertionError):
        check_attack(faulty, eps=0.02)


def leaves_eval(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> None:
    """The model stays in eval mode."""
    model.eval()


def leaves_frozen(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> None:
    """The parameters stay without gradients."""
    model.requires_grad_(False)


def leaves_gradients(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> None:
    """The parameters have gradients afterwards."""
    model(x).sum().backward()


def leaves_a_hook(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> None:
    """A hook stays on the model."""
    model.register_forward_hook(lambda *_: None)


def learns(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> None:
    """Batch normalisation goes on learning."""
    model.train()(x)


def writes_images(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> None:
    """The images are changed in place."""
    x.mul_(0.5)


@pytest.mark.parametrize("spoil", [leaves_eval, leaves_frozen, leaves_gradients, leaves_a_hook, learns, writes_images])
def test_traces_in_the_model_or_the_images_are_found(spoil: Callable[..., None]) -> None:
    """Whatever an attack leaves behind is named."""

    def faulty(model: nn.Module, x: Tensor, y: Tensor, *, eps: float) -> AttackResult:
        made = one_step(model, x, y, eps=eps)
        spoil(model, x, y)
        return made

    with pytest.raises(AssertionError, match=r"of the model after the attack|^x: expected the tensor as it was given"):
        dict(attack_checks(faulty, eps=0.02))["untouched"]()


def test_an_attack_that_cannot_be_stopped_is_found() -> None:
    """What on_progress raises must come through."""

    def deaf(model: nn.Module, x: Tensor, y: Tensor, *, eps: float, on_progress: Any = None) -> AttackResult:
        with suppress(Exception):  # the fault
            on_progress(0, 1)
        return one_step(model, x, y, eps=eps)

    with pytest.raises(AssertionError, match="on_progress: expected"):
        dict(attack_checks(deaf, eps=0.02))["cancelled"]()


def test_images_that_are_wrong_already_are_left_alone() -> None:
    """An attack that changes them is found."""

    def busy(model: nn.Module, x: Tensor, y: Tensor, *, eps: float) -> AttackResult:
        made = one_step(model, x, y, eps=eps)
        x_adv = torch.where(made.x_adv == x, (x + eps / 2).clamp(0, 1), made.x_adv)
        success = copy.deepcopy(model).eval()(x_adv).argmax(1) != y
        return replace(made, x_adv=x_adv, distance=distances(x_adv, x), success=success)

    with pytest.raises(AssertionError, match="misclassified images: expected"):
        dict(attack_checks(busy, eps=0.02))["misclassified"]()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "eps: expected a budget, as the attack's signature says, got None"),
        ({"eps": 0.0}, "eps: expected a budget greater than 0"),
        ({"eps": 0.1, "norm": "l7"}, "norm: expected one of linf"),
        ({"eps": 0.1, "model": nn.Flatten()}, "model: expected all of model, x and y"),
    ],
)
def test_checks_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    """Before anything is run."""
    with pytest.raises(ValueError, match=message):
        check_attack(one_step, **options)
