"""An attack with its settings, and what it is tried on by the checks: a small model and images."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from core.attacks.engine.result import AttackResult
from core.attacks.engine.streams import Streams


def expect(holds: bool, what: str, expected: str, got: object) -> None:
    """Raise an AssertionError that says what was expected of what, and what came, unless it holds."""
    if not holds:
        raise AssertionError(f"{what}: expected {expected}, got {got}")


@dataclass(frozen=True)
class Subject:
    """An attack, its settings, and what it is tried on.

    Attributes:
        function: the attack.
        settings: its keyword arguments.
        model: logits (N, K) of images in [0, 1].
        x: (N, C, H, W) float32 images, N of 8 or more.
        y: (N,) int64 classes.
        eps: budget, or None where the attack takes none.
        norm: what the budget is measured in, a name in `AttackResult.distance`.
        strict: whether a success asks for more than that the returned image fools.
    """

    function: Callable[..., AttackResult]
    settings: dict[str, Any]
    model: nn.Module
    x: Tensor
    y: Tensor
    eps: float | None = None
    norm: str = "linf"
    strict: bool = False

    @property
    def takes(self) -> Mapping[str, inspect.Parameter]:
        """The arguments of the attack by their names."""
        return inspect.signature(self.function).parameters

    @property
    def only_targeted(self) -> bool:
        """Whether the attack cannot be run without targets."""
        return "y_target" in self.takes and self.takes["y_target"].default is inspect.Parameter.empty

    def clean(self) -> Tensor:
        """(N,) int64: the class that the model predicts for each image as it is."""
        return classified(self.model, self.x)

    def partner(self) -> Tensor:
        """(N,) int64: for each image the place of another one, of which the model predicts a class that is not `y`."""
        clean, n = self.clean(), len(self.x)
        places = torch.arange(n, device=self.x.device)
        order = (places[:, None] + places[None, 1:]) % n
        other = clean[order] != self.y[:, None]
        expect(bool(other.any(1).all()), "model", "a model that predicts more than one class for the images", "one")
        return order.gather(1, other.int().argmax(1, keepdim=True))[:, 0]

    def targets(self) -> Tensor | None:
        """(N,) int64 for an attack that needs targets, else None."""
        return self.clean()[self.partner()] if self.only_targeted else None

    def run(
        self, *, y_target: Tensor | None = None, seed: int = 0, streams: Streams | None = None, **options: Any
    ) -> AttackResult:
        """Attack the images. An attack that takes streams gets these, or those of the seed and the images' places."""
        if "streams" in self.takes:
            places = torch.arange(len(self.x), device=self.x.device)
            options["streams"] = Streams.of(seed, places) if streams is None else streams
        y_target = self.targets() if y_target is None else y_target
        if y_target is not None:
            options["y_target"] = y_target
            if "x_init" in self.takes and "x_init" not in options:
                options["x_init"] = self.x[self.partner()]
        if self.eps is not None:
            options["eps"] = self.eps
        return self.function(self.model, self.x, self.y, **{**self.settings, **options})

    def on(self, device: str | None = None, dtype: torch.dtype | None = None) -> Subject:
        """The same on another device, or in another floating dtype; copies of models among the settings too."""

        def moved(value: Any) -> Any:
            if isinstance(value, nn.Module):
                return copy.deepcopy(value).to(device=device, dtype=dtype)
            if isinstance(value, Tensor):
                return value.to(device=device, dtype=dtype if value.is_floating_point() else None)
            return value

        settings = {name: moved(value) for name, value in self.settings.items()}
        return replace(self, model=moved(self.model), x=moved(self.x), y=moved(self.y), settings=settings)

    def take(self, rows: Tensor) -> Subject:
        """The same with some of the images."""
        return replace(self, x=self.x[rows], y=self.y[rows])


def toy() -> tuple[nn.Module, Tensor, Tensor]:
    """A small network with batch normalisation and dropout, in train mode, and 12 images; y is what it predicts.

    The weights are random, from a seed of their own; the logits are centred, so that all 4 classes occur.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2)),
            nn.Linear(72, 4),
        )
        x = torch.rand(12, 1, 8, 8)
        last = model[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            logits = model.eval()(x)
            last.bias.sub_(logits.mean(0))
            last.weight.mul_(8)
            last.bias.mul_(8)
    return model.train(), x, classified(model, x)


def classified(model: nn.Module, x: Tensor) -> Tensor:
    """(N,) int64: what a copy of the model in eval mode predicts."""
    with torch.no_grad():
        predicted: Tensor = copy.deepcopy(model).eval()(x).argmax(1)
    return predicted
