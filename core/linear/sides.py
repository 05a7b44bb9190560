"""Images on one device, a linear model in float64 on another: problems are solved beside the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M")


def beside_model(
    function: Callable[Concatenate[M, Tensor, Tensor, P], R],
) -> Callable[Concatenate[M, Tensor, Tensor, P], R]:
    """Solve where the linear model's `weight` lies; every tensor of the answer comes back to the images' device.

    `function` takes the model, images and their labels, and returns a tensor, a tuple of them, or a dataclass of them.
    """

    @wraps(function)
    def run(linear: M, x: Tensor, labels: Tensor, *args: P.args, **kwargs: P.kwargs) -> R:
        here = cast(Any, linear).weight.device
        if x.device == here and labels.device == here:
            return function(linear, x, labels, *args, **kwargs)
        return cast(R, _moved(function(linear, x.to(here), labels.to(here), *args, **kwargs), x.device))

    return run


def _moved(made: Any, device: torch.device) -> Any:
    if isinstance(made, Tensor):
        return made.to(device)
    if is_dataclass(made) and not isinstance(made, type):
        return replace(made, **{field.name: _moved(getattr(made, field.name), device) for field in fields(made)})
    return tuple(_moved(part, device) for part in made)
