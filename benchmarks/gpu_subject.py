"""What `benchmarks.gpu` trains and attacks: how much of it, the images, the network, and the table so far."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, count
from typing import Any

import torch
from torch import Tensor, nn

from core.attacks.fixed_budget.pgd import pgd
from core.data.folder import is_present
from core.data.sets import Dataset, Split, first_of_test, load, to_float
from core.jobs import devices
from core.specs import DataSpec, TrainSpec
from core.training.augmentation import augmented
from core.training.recipes import batch_loss
from core.training.steps import batches, make_optimizer, mixed_precision, new_model, train_step


@dataclass(frozen=True)
class Size:
    """How much is run.

    Attributes:
        network: the network that is trained and attacked.
        batch: images of a training step.
        seconds: how long a rate is measured.
        trained: training steps before it is attacked.
        images: images under attack.
        compared: how many of them AutoAttack gets, which takes ten thousand passes for each that stands.
        steps: of PGD.
        effort: of `evaluate`.
        lengths: steps of APGD and FAB, queries of Square.
        side: of the matrices whose product is timed; None: the device's own.
    """

    network: str
    batch: int
    seconds: float
    trained: int
    images: int
    compared: int
    steps: int
    effort: str
    lengths: tuple[int, int]
    side: int | None = None


FULL = Size("preactresnet18", 512, 8.0, 400, 512, 128, 40, "standard", (100, 5000))
SMALL = Size("resnet_small", 64, 0.2, 40, 8, 4, 3, "quick", (4, 30), side=128)


@dataclass
class Bench:
    """What is measured where, and the rows of the table so far."""

    device: str
    size: Size
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    model: nn.Module | None = None
    eps: float = 0.0
    rates: dict[str, float] = field(default_factory=dict)

    def add(self, what: str, figure: str, how: str = "") -> None:
        """A row of the table, told at once on standard error."""
        self.rows.append((what, figure, how))
        print(f"{what}: {figure}", file=sys.stderr, flush=True)

    def rate(self, kind: str) -> float:
        """The device's rate of matrix products, in 10^12 operations a second; measured once."""
        if kind not in self.rates:
            self.rates[kind] = devices.matrix_rate(
                self.device, kind, side=self.size.side, seconds=self.size.seconds / 8
            )
        return self.rates[kind]

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()

    def timed(self, work: Callable[[], Any]) -> float:
        """Seconds that a piece of work takes."""
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def data(self) -> Dataset:
        """CIFAR-10 where it is in the data folder, else made images of its shape, as for a small run."""
        return load(DataSpec(dataset="cifar10")) if is_present("cifar10") and self.size is not SMALL else made()

    def images(self) -> tuple[Tensor, Tensor]:
        """The images that are attacked and their classes, on the device."""
        first = first_of_test(self.data(), self.size.images)
        return to_float(first.x).to(self.device), first.y.to(self.device)


@lru_cache(maxsize=1)
def made(n: int = 5000) -> Dataset:
    """Ten classes of 3×32×32 images: a coarse pattern each, under noise. To be had without a download."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(10, 3, 4, 4, generator=generator)
    patterns = nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")
    y = torch.randint(10, (n,), generator=generator)
    noise = torch.randn(n, 3, 32, 32, generator=generator)
    x = (0.5 + 0.7 * (patterns[y] - 0.5) + 0.2 * noise).clamp(0, 1).mul(255).round().to(torch.uint8)
    every = Split(x, y, torch.arange(n))
    part = [every.take(torch.arange(*ends)) for ends in ((0, n - 2000), (n - 2000, n - 1500), (n - 1500, n))]
    return Dataset("made images", tuple("0123456789"), *part, fingerprint="made")


def spec_of(size: Size, recipe: str = "standard") -> TrainSpec:
    """How the network is trained."""
    settings = {"name": recipe, "eps": 8 / 255} if recipe != "standard" else {"name": recipe}
    return TrainSpec(
        data=DataSpec(dataset="cifar10"),
        network=size.network,
        recipe=settings,
        batch_size=size.batch,
        lr=0.05,
        augment="crop_flip",
    )


def steps_of(bench: Bench, model: nn.Module, precision: torch.autocast, recipe: str = "standard") -> Callable[[], None]:
    """One training step on the next batch, as a function."""
    spec, found = spec_of(bench.size, recipe), bench.data().train
    split = Split(found.x.to(bench.device), found.y.to(bench.device), found.index)
    optimizer, loss_of = make_optimizer(spec, model), batch_loss(spec.recipe)
    generator = torch.Generator().manual_seed(0)
    endless = chain.from_iterable(
        batches(split, spec.batch_size, generator, bench.device, spec.batch_size) for _ in count()
    )
    model.train()

    def step() -> None:
        x, y, rows = next(endless)
        train_step(model, optimizer, loss_of, precision, augmented(x, spec.augment), y, rows)

    return step


def subject(bench: Bench) -> nn.Module:
    """The network that is attacked, trained once on single steps; sets the ε at which PGD leaves half of the images."""
    if bench.model is None:
        torch.manual_seed(0)
        model = new_model(spec_of(bench.size), bench.data()).to(bench.device)
        step = steps_of(bench, model, mixed_precision(bench.device), "fgsm")
        for _ in range(bench.size.trained):
            step()
        bench.model = model.eval().requires_grad_(False)
        x, y = bench.images()
        low, high = 0.0, 0.1
        for _ in range(7):
            bench.eps = (low + high) / 2
            left = 1 - pgd(bench.model, x[:64], y[:64], eps=bench.eps, steps=10).success.float().mean().item()
            low, high = (bench.eps, high) if left > 0.5 else (low, bench.eps)
    return bench.model
