"""Every attack refuses a bad setting itself, in a sentence that names the argument: Python callers pass no spec.

What is bad is read from the methods' specs, so that a new attack and a new setting are tested without another line.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import core.attacks
from core.attacks.engine.result import AttackResult
from core.attacks.engine.streams import Streams
from core.attacks.run import run_method
from core.specs import METHODS, Method

Batch = tuple[Tensor, Tensor]
WIDER = {("jacobian_dense", "factor", "below"), ("sigma_zero", "sigma", "above")}
"""Where a function takes more than the form offers: a factor from 0 to 1 is how ties are shown, any sharpness works."""


def beyond(kind: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Values that the JSON schema of a setting leaves out, each with a name. Counts have no upper end here."""
    whole = kind.get("type") == "integer"
    if "minimum" in kind:
        yield "below", kind["minimum"] - (1 if whole else 0.5)
    if "exclusiveMinimum" in kind:
        yield "at the open lower end", float(kind["exclusiveMinimum"])
    if "exclusiveMaximum" in kind:
        yield "at the open upper end", float(kind["exclusiveMaximum"])
    if kind.get("maximum") == 1:
        yield "above", 1.5
    if kind.get("type") == "number":
        yield from (("nan", float("nan")), ("infinite", float("inf")))
    if "enum" in kind:
        yield "no choice", "bogus"


def cases() -> Iterator[Any]:
    """Every method, setting and value beyond its bounds."""
    for name, method in METHODS.items():
        for field, schema in method.model_json_schema()["properties"].items():
            for kind in schema.get("anyOf", [schema]):
                for what, value in beyond(kind):
                    if (name, field, what) in WIDER:
                        continue
                    yield pytest.param(method, field, value, id=f"{name}-{field}-{what}")


@pytest.mark.parametrize(("method", "field", "value"), list(cases()))
def test_a_bad_setting_is_refused_by_its_name(
    method: type[Method], field: str, value: Any, net: nn.Module, few: Batch
) -> None:
    """A ValueError with the argument's name, what was expected and what came."""
    x, y = few[0][:2], few[1][:2]
    with pytest.raises(ValueError, match=f"^{field}: expected .*, got '?{value}"):
        attacked(net, x, y, method().model_copy(update={field: value}))  # a copy is not checked


def attacked(net: nn.Module, x: Tensor, y: Tensor, method: Method, **options: Any) -> AttackResult:
    """The method's attack with what it needs, unless told otherwise."""
    needed: dict[str, Any] = {}
    if method.needs_eps:
        needed["eps"] = 0.1
    if method.needs_target:
        needed["y_target"] = (y + 1) % 10
    if method.needs_surrogate:
        needed["surrogate"] = net
    return run_method(net, x, y, method, **(needed | options))


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.fixed_cost])
def test_a_budget_too_small_is_refused_and_the_smallest_is_enough(name: str, net: nn.Module, few: Batch) -> None:
    """The refusal says what is needed; one pass less is refused too, and that much is never exceeded."""
    x, y, method = few[0][:2], few[1][:2], METHODS[name]()
    with pytest.raises(ValueError, match=r"^budget: expected at least \d+, got 0$") as caught:
        attacked(net, x, y, method, budget=0)
    least = int(str(caught.value).split()[4].rstrip(","))
    with pytest.raises(ValueError, match=f"^budget: expected at least {least}, got {least - 1}$"):
        attacked(net, x, y, method, budget=least - 1)
    result = attacked(net, x, y, method, budget=least)
    assert (result.forwards + result.backwards <= least).all()


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.needs_eps])
@pytest.mark.parametrize("eps", [-0.1, float("nan"), float("inf")])
def test_what_is_no_size_of_a_ball_is_refused(name: str, eps: float, net: nn.Module, few: Batch) -> None:
    """For every attack inside a ball."""
    with pytest.raises(ValueError, match=r"^eps: expected finite budgets .*, got "):
        attacked(net, *few, METHODS[name](), eps=eps)


def draws(name: str) -> bool:
    """Whether a method's function takes random streams."""
    function = getattr(core.attacks, {"generator": "generator_attack"}.get(name, name))
    return "streams" in inspect.signature(function).parameters


@pytest.mark.parametrize("name", [name for name in METHODS if draws(name)])
def test_as_many_streams_as_images(name: str, net: nn.Module, few: Batch) -> None:
    """For every attack that draws."""
    with pytest.raises(ValueError, match=r"^streams: expected 40 of them, one an image, got 3$"):
        attacked(net, *few, METHODS[name](), streams=Streams.of(0, torch.arange(3)))
