"""Defences that are known to break, each in a small network that is trained on 8x8 digits in a second, and honest ones.

`softened` gives what an attacker who knows the defence follows instead: the same weights with smooth layers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.evaluation.trust.decoys import TRAINED, X, Y


class Defence(nn.Module):
    """A layer that a network is defended with; `smooth` is the same without what stops or bends its gradient."""

    def smooth(self, x: Tensor) -> Tensor:
        """What an attacker puts in its place; the identity unless a defence says otherwise."""
        return x


class Winners(Defence):
    """Only the largest activations of an image remain (k-winners-take-all, arXiv 1905.10510)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape."""
        flat = x.flatten(1)
        lowest = flat.topk(max(1, int(self.share * flat.shape[1]))).values[:, -1:]
        return (flat * (flat >= lowest)).view_as(x)

    def smooth(self, x: Tensor) -> Tensor:
        """Its threshold at 0."""
        return x.relu()


class MeanSparse(Defence):
    """What is near a channel's mean becomes the mean (arXiv 2406.05927); a ReLU follows."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.mean: Tensor | None = None

    def fit(self, x: Tensor) -> Tensor:
        """Take mean and deviation of each channel from these features, and return what follows from them."""
        over = [axis for axis in range(x.ndim) if axis != 1]
        self.mean, self.band = x.mean(over, keepdim=True), self.alpha * x.std(over, keepdim=True)
        return self(x)

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape."""
        if self.mean is None:
            return x.relu()
        return torch.where((x - self.mean).abs() <= self.band, self.mean, x).relu()

    def smooth(self, x: Tensor) -> Tensor:
        """The ReLU alone."""
        return x.relu()


class Stable(Defence):
    """Many small steps of an ordinary differential equation with attractors (SODEF, arXiv 2110.12976)."""

    def __init__(self, width: int, time: float, steps: int) -> None:
        super().__init__()
        self.field, self.time, self.steps = nn.Linear(width, width), time, steps
        nn.init.orthogonal_(self.field.weight, 1.2)

    def forward(self, x: Tensor) -> Tensor:
        """The state at the end."""
        return self._until(x, self.time)

    def smooth(self, x: Tensor) -> Tensor:
        """The state earlier."""
        return self._until(x, min(self.time, 2.0))

    def _until(self, x: Tensor, time: float) -> Tensor:
        for _ in range(self.steps):
            x = x + time / self.steps * (self.field(x).tanh() - x)
        return x


class Levels(Defence):
    """Values from 0 to `top` in a few levels; in training inside a network, with a gradient that passes through."""

    def __init__(self, levels: int, top: float = 1.0) -> None:
        super().__init__()
        self.levels, self.top = levels, top

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape."""
        kept = x.clamp(0, self.top)
        rounded = (kept / self.top * (self.levels - 1)).round() / (self.levels - 1) * self.top
        return kept + (rounded - kept).detach() if self.training else rounded

    def smooth(self, x: Tensor) -> Tensor:
        """No levels."""
        return x.clamp(0, self.top)


class Resized(Defence):
    """A random size in a random place (arXiv 1711.01991)."""

    def __init__(self, smallest: int) -> None:
        super().__init__()
        self.smallest = smallest

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape."""
        side = int(torch.randint(self.smallest, 9, (1,)))
        left, upper = (int(torch.randint(9 - side, (1,))) for _ in range(2))
        small = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
        return F.pad(small, (left, 8 - side - left, upper, 8 - side - upper))


class Blocks(Defence):
    """Cosine coefficients of 8x8 blocks, rounded, more coarsely the higher they are (as JPEG does)."""

    def __init__(self, coarse: float) -> None:
        super().__init__()
        k = torch.arange(8.0)
        waves = (math.pi * (2 * k + 1) * k[:, None] / 16).cos() / 2
        waves[0] /= math.sqrt(2)
        self.register_buffer("waves", waves)
        self.register_buffer("step", coarse * (1 + k + k[:, None]) / 8)

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape."""
        coefficients = self.waves @ x @ self.waves.T / self.step
        return (self.waves.T @ (coefficients.round() * self.step) @ self.waves).clamp(0, 1)


class Scaled(Defence):
    """Features times a factor that depends on them and that no gradient passes through."""

    def __init__(self, factor: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape."""
        flat = x.flatten(1)
        return (flat * self.factor(flat).detach()).view_as(x)

    def smooth(self, x: Tensor) -> Tensor:
        """With the whole gradient."""
        flat = x.flatten(1)
        return (flat * self.factor(flat)).view_as(x)


def by_norm(x: Tensor) -> Tensor:
    """Divided by the norm."""
    return 10 / (x.norm(dim=1, keepdim=True) + 1e-6)


def by_gate(x: Tensor) -> Tensor:
    """Closed for what is below the mean."""
    return (8 * (x - x.mean(1, keepdim=True))).sigmoid()


class Smooth(nn.Module):
    """A defence's `smooth` in its place."""

    def __init__(self, layer: Defence) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape."""
        return self.layer.smooth(x)


def softened(model: nn.Module) -> nn.Module:
    """A copy of the model in which each defence is the smooth one."""
    made = copy.deepcopy(model)
    for parent in list(made.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, Defence):
                setattr(parent, name, Smooth(layer))
    return made


# ---------------------------------------------------------------- networks


def body(
    first: nn.Module | None = None,
    inside: nn.Module | None = None,
    late: nn.Module | None = None,
    act: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Module:
    """Two convolutions and a hidden layer, with a layer before them, between them or at the end."""
    layers = [
        *(first, nn.Conv2d(1, 12, 3, padding=1), act(), nn.Conv2d(12, 24, 3, stride=2, padding=1), act(), inside),
        *(nn.Flatten(), nn.Linear(384, 64), act(), late, nn.Linear(64, 10)),
    ]
    return nn.Sequential(*(layer for layer in layers if layer is not None))


def trained(
    model: nn.Module, *, epochs: int = 12, eps: float = 0.0, temperature: float = 1.0, y: Tensor | None = None
) -> nn.Module:
    """Adam with one cycle of the rate, against seven steps of PGD if eps is above 0; `y` may be probabilities."""
    x, y = X[:TRAINED], Y[:TRAINED] if y is None else y
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=14 * epochs)
    for _ in range(epochs):
        for rows in torch.randperm(TRAINED).split(100):
            images = moved(model.eval(), x[rows], y[rows], eps) if eps else x[rows]
            loss = F.cross_entropy(model.train()(images) / temperature, y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def moved(model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int = 7) -> Tensor:
    """PGD in linf, from a random point."""
    x_adv = (x + eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    for _ in range(steps):
        leaf = x_adv.requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(model(leaf), y), leaf)
        x_adv = (x_adv + 2.5 * eps / steps * slope.sign()).detach()
        x_adv = torch.minimum(torch.maximum(x_adv, x - eps), x + eps).clamp(0, 1)
    return x_adv


def distilled(temperature: float) -> nn.Module:
    """A student of a teacher's probabilities, both at a temperature (Papernot et al. 2016, arXiv 1511.04508)."""
    teacher = trained(body(), temperature=temperature)
    with torch.no_grad():
        soft = (teacher(X[:TRAINED]) / temperature).softmax(1)
    return trained(body(), temperature=temperature, y=soft, epochs=20)


def sparse(alpha: float, eps: float = 0.0) -> nn.Module:
    """A network whose activations are thresholded around their means once it is trained."""
    model = trained(body(act=partial(MeanSparse, alpha)), eps=eps)
    x = X[:TRAINED]
    with torch.no_grad():
        for layer in model:
            x = layer.fit(x) if isinstance(layer, MeanSparse) else layer(x)
    return model


DEFENCES: dict[str, Callable[[], nn.Module]] = {
    "k-WTA, 10 %": lambda: trained(body(act=partial(Winners, 0.1)), epochs=20),
    "k-WTA, 20 %": lambda: trained(body(act=partial(Winners, 0.2)), epochs=20),
    "k-WTA inside, trained by PGD": lambda: trained(body(inside=Winners(0.2)), eps=0.1),
    "mean-centred thresholds, .25": lambda: sparse(0.25),
    "mean-centred thresholds, .5, trained by PGD": lambda: sparse(0.5, eps=0.1),
    "stable ODE, time 5": lambda: trained(body(late=Stable(64, 5, 25)), epochs=15),
    "stable ODE, time 8": lambda: trained(body(late=Stable(64, 8, 25)), epochs=15),
    "four levels": lambda: trained(body(Levels(4))),
    "eight levels": lambda: trained(body(Levels(8))),
    "four levels inside, trained by PGD": lambda: trained(body(inside=Levels(4, 2.0)), eps=0.1),
    "random size, 7 to 8": lambda: trained(body(Resized(7))),
    "random size, 6 to 8": lambda: trained(body(Resized(6))),
    "coarse blocks": lambda: trained(body(Blocks(2.0))),
    "fine blocks": lambda: trained(body(Blocks(0.5))),
    "detached norm": lambda: trained(body(inside=Scaled(by_norm))),
    "detached norm, late": lambda: trained(body(late=Scaled(by_norm))),
    "detached gate": lambda: trained(body(inside=Scaled(by_gate))),
    "detached gate, trained by PGD": lambda: trained(body(inside=Scaled(by_gate)), eps=0.1),
    "distillation, T = 20": lambda: distilled(20),
    "distillation, T = 100": lambda: distilled(100),
}
"""Each way of defending, in two strengths or places."""

HONEST: dict[str, Callable[[], nn.Module]] = {
    "ReLU": lambda: trained(body()),
    "ReLU, trained by PGD": lambda: trained(body(), eps=0.1),
    "tanh": lambda: trained(body(act=nn.Tanh)),
    "GELU, trained by PGD": lambda: trained(body(act=nn.GELU), eps=0.1),
    "softplus": lambda: trained(body(act=nn.Softplus)),
    "norm with its gradient": lambda: trained(body(inside=Smooth(Scaled(by_norm)))),
    "gate with its gradient": lambda: trained(body(inside=Smooth(Scaled(by_gate)))),
    "layer norm, trained by PGD": lambda: trained(body(inside=nn.LayerNorm([24, 4, 4])), eps=0.1),
}
"""Networks of the same shape whose gradients say what they do."""


@cache
def made(name: str) -> nn.Module:
    """One of `DEFENCES` or `HONEST`, trained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {**DEFENCES, **HONEST}[name]()
