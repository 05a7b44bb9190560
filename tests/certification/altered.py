# ruff: noqa: D102  # what the modules compute is all there is to say of them
"""Networks that compute something else than the classes of their layers say, each in another way."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune

from core.networks.layers import ScalarScore
from core.networks.residual import PreActBlock

SHAPE = (1, 8, 8)
Make = Callable[[], nn.Module]


class Normalised(nn.Sequential):
    """An operation before the layers."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - 0.5) / 0.1)


class Residual(nn.Sequential):
    """An operation after the layers."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Called(nn.Sequential):
    """Another call."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x / 255)


class Leaky(nn.ReLU):
    """Not a ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, -0.5)


class Cosine(nn.Linear):
    """Normalised inputs and weights."""

    def forward(self, x: Tensor) -> Tensor:
        return 20 * F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1))


class Standardised(nn.Conv2d):
    """Below `forward`, in the method that it calls."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(input, weight / weight.std() * 3, bias)


class Named(nn.Sequential):
    """A network that only says how it is made."""

    def __init__(self) -> None:
        super().__init__(*layers(nn.Linear(32, 32), Renamed()))


class Renamed(nn.ReLU):
    """Nothing of its own."""


class Shared(nn.BatchNorm2d):
    """Nothing below `forward` is another, but what it reads is."""

    @property
    def eps(self) -> float:  # type: ignore[override]
        return 1.0

    @eps.setter
    def eps(self, value: float) -> None:
        pass


class Twice(nn.Module):
    """Layers that are not called in the order in which they are listed."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + self.inner(1 - x)


class Doubled(nn.Module):
    """A parametrisation."""

    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def layers(*middle: nn.Module) -> list[nn.Module]:
    """A small dense network, with something in its middle."""
    return [nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), *middle, nn.Linear(32, 5)]


def dense(*middle: nn.Module) -> nn.Sequential:
    """The same as a sequence."""
    return nn.Sequential(*layers(*middle))


def pre_hooked() -> nn.Module:
    """The whole network reads another image."""
    model = dense()
    model.register_forward_pre_hook(lambda module, inputs: ((inputs[0] - 0.5) / 0.1,))
    return model


def hooked() -> nn.Module:
    """One layer's output is changed."""
    model = dense()
    model[1].register_forward_hook(lambda module, inputs, output: -output)
    return model


def replaced() -> nn.Module:
    """A method of one instance is another."""
    model = dense()
    model[2].forward = torch.abs
    return model


def conv_replaced() -> nn.Module:
    """The same, below `forward`."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    plain = model[0]._conv_forward
    model[0]._conv_forward = lambda x, weight, bias: plain(x, -weight, bias)  # type: ignore[union-attr]
    return model


def parametrised() -> nn.Module:
    """New style: the class of the instance is changed."""
    model = dense()
    parametrize.register_parametrization(model[1], "weight", Doubled())
    return model


def spectral() -> nn.Module:
    """Power iterations in every call in train mode."""
    model = dense()
    parametrizations.spectral_norm(model[1])
    return model


def weight_norm() -> nn.Module:
    """New style."""
    model = dense()
    parametrizations.weight_norm(model[1])
    return model


def old_spectral() -> nn.Module:
    """Old style: a hook computes the weight."""
    model = dense()
    nn.utils.spectral_norm(model[1])
    return model


def pruned() -> nn.Module:
    """A hook masks the weight."""
    model = dense()
    prune.random_unstructured(model[1], "weight", 0.5)
    return model


def block_hooked() -> nn.Module:
    """Inside a residual block, whose parts no sequence calls."""
    model = nn.Sequential(PreActBlock(1, 2, 1), nn.Flatten(), nn.Linear(128, 5))
    model[0].conv1.register_forward_hook(lambda module, inputs, output: 3 * output)  # type: ignore[union-attr]
    return model


def block_of_others() -> nn.Module:
    """A block whose part is of another class."""
    model = nn.Sequential(PreActBlock(1, 2, 1), nn.Flatten(), nn.Linear(128, 5))
    model[0].conv2 = Standardised(2, 2, 3, padding=1, bias=False)
    return model


def score_replaced() -> nn.Module:
    """A scalar network whose score is another."""
    model = ScalarScore(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)))
    model.score = lambda x: 1 - x.mean((1, 2, 3))  # type: ignore[method-assign]
    return model


ALTERED: dict[str, Make] = {
    "sequence with an operation before": lambda: Normalised(*layers()),
    "sequence with an operation after": lambda: dense(Residual(nn.Linear(32, 32), nn.ReLU())),
    "sequence with another call": lambda: Called(*layers()),
    "subclass of ReLU": lambda: dense(nn.Linear(32, 32), Leaky()),
    "subclass of Linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), Cosine(32, 5)),
    "subclass of Conv2d": lambda: nn.Sequential(Standardised(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)),
    "subclass with a property": lambda: nn.Sequential(Shared(1), *layers()),
    "ReLU6": lambda: dense(nn.ReLU6()),
    "leaky ReLU": lambda: dense(nn.LeakyReLU()),
    "sequence called twice": lambda: Twice(dense()),
    "DataParallel": lambda: nn.DataParallel(dense()),
    "script": lambda: torch.jit.script(dense()),
    "trace": lambda: torch.jit.trace(dense().eval(), torch.zeros(1, *SHAPE)),
    "compiled copy": lambda: torch.compile(dense(), backend="eager"),
    "forward pre-hook": pre_hooked,
    "forward hook": hooked,
    "method of the instance": replaced,
    "method below forward": conv_replaced,
    "parametrised": parametrised,
    "spectral norm": spectral,
    "weight norm": weight_norm,
    "spectral norm, old style": old_spectral,
    "pruned": pruned,
    "hook inside a block": block_hooked,
    "other layer inside a block": block_of_others,
    "score replaced": score_replaced,
    "lazy": lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(5)),
    "indices of the maxima": lambda: nn.Sequential(nn.MaxPool2d(2, return_indices=True)),
    "batch norm without statistics": lambda: nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), *layers()),
}
