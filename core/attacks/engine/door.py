"""The door of every attack: images, labels and model are made fit for it, and what comes out fits what went in."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from core.attacks.engine.bears import HALF, bears_of
from core.attacks.engine.eight_bit import in_dtype
from core.attacks.engine.engine import admitted, is_batch, plain, wide
from core.attacks.engine.result import AttackResult
from core.attacks.engine.room import at_once, halving

_F = TypeVar("_F", bound=Callable[..., Any])


def attack(function: _F | None = None, *, gradients: bool = True) -> Any:
    """Decorator of an attack `(model, x, y, *, ...)`, and of whatever else asks a model about images.

    Inside, tensors carry no graph and were not made in inference mode, images are float32 or float64, and the model
    bears what attacks do with it (`fitted`). Outside, the images that are returned have the dtype of those that came:
    in half precision they are rounded inside the ball, and each success is verified again on what is returned.

    Args:
        function: the attack. One that returns no `AttackResult` (or tensor) refuses images in half precision.
        gradients: whether it takes any.
    """
    if function is None:
        return lambda inner: attack(inner, gradients=gradients)
    named = inspect.signature(function).parameters
    usual = {name: named[name].default for name in ("norm", "count") if name in named}

    @wraps(function)
    def entered(model: nn.Module, x: Tensor, *args: Any, **settings: Any) -> Any:
        if not isinstance(model, nn.Module) or not is_batch(x):
            return function(model, x, *args, **settings)  # its own check says what is wrong
        with torch.inference_mode(False):
            half = x.dtype in HALF
            given = plain(x)
            images = given.float() if half else given
            args = tuple(wide(plain(value)) for value in args)
            settings = {name: wide(plain(value)) for name, value in settings.items()}
            with admitted(model, images, gradients=gradients) as fit:
                if "batch" in named:
                    batch = at_once(model, images, named["batch"].default, settings.pop("batch", None), fit)
                    result = halving(model, lambda most: function(fit, images, *args, batch=most, **settings), batch)
                else:
                    result = function(fit, images, *args, **settings)
                if half and isinstance(result, AttackResult):
                    result = _in_half(fit, given, args[0] if args else settings["y"], result, usual | settings)
                notes = bears_of(fit).notes
        if isinstance(result, AttackResult):
            return replace(result, notes=(*notes, *result.notes)) if notes else result
        if half and isinstance(result, Tensor):
            return result.to(x.dtype)
        if half:
            raise ValueError(f"x: expected float32 or float64 images for {function.__name__}, got {x.dtype}")
        return result

    return cast(_F, entered)


def _in_half(model: nn.Module, x: Tensor, y: Tensor, made: AttackResult, asked: dict[str, Any]) -> AttackResult:
    """The result on images of the half-precision dtype that came."""
    norm = "pixels" if asked.get("count") == "pixels" else asked.get("norm", "l0" if "count" in asked else "linf")
    return in_dtype(model, x, y, made, norm=norm, eps=asked.get("eps"), y_target=asked.get("y_target"))
