"""How long a training will take here."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from core.certification.proof import proven
from core.data.sets import VALIDATION_LIMIT
from core.networks.catalogue import build, logits_of
from core.specs import DATASETS, TrainSpec
from core.training.crafting import ascent_sign, evaluating
from core.training.recipes import batch_loss
from core.training.steps import make_optimizer, mixed_precision, train_step
from core.training.watch import WATCH_STEPS, WATCHED

TIME_LIMIT = 0.5
"""Seconds that an estimate of the training time may take."""


def estimate_seconds(spec: TrainSpec, *, device: str = "cpu") -> float | None:
    """Seconds that training would take here, from a few timed steps on random images; None for image folders.

    Takes about `TIME_LIMIT` seconds at most, or one step of a small batch. What follows each epoch is counted: accuracy
    on the validation split, under attack where the recipe has a budget, and what is proven. Start-up is not; expect
    ± 30 % on a busy machine.
    """
    info = DATASETS.get(spec.data.dataset)
    if info is None:
        return None
    classes = spec.data.classes or tuple(range(len(info.class_names)))
    model = build(spec.network, info.shape, len(classes), scalar=spec.scalar)
    model = model.to(device).to(memory_format=torch.channels_last).train()
    optimizer, recipe = make_optimizer(spec, model), batch_loss(spec.recipe)
    size = min(spec.batch_size, 64)
    x = torch.rand(size, *info.shape, device=device).contiguous(memory_format=torch.channels_last)
    y, rows = torch.randint(len(classes), (size,), device=device), torch.arange(size)
    times: list[float] = []
    while len(times) < 6 and sum(times) < TIME_LIMIT:
        start = time.perf_counter()
        for _ in range(recipe.replays):
            loss, _logits = train_step(model, optimizer, recipe, mixed_precision(device), x, y, rows)
        loss.item()  # waits for the device
        times.append(time.perf_counter() - start)
    images = info.train_size * len(classes) // len(info.class_names)
    validation = min(VALIDATION_LIMIT, images // 10)
    epoch = statistics.median(times[1:] or times) * (images - validation) / size
    return spec.epochs * (epoch + _measuring(spec, model, x, y, validation, recipe.certifies))


def _measuring(spec: TrainSpec, model: nn.Module, x: Tensor, y: Tensor, validation: int, certifies: bool) -> float:
    """Seconds that the measurements after an epoch take, from one timed piece of each on a few images."""
    watched = min(WATCHED, validation)
    once = _seconds(lambda: logits_of(model, x))
    total = once * validation
    if getattr(spec.recipe, "sigma", 0.0):
        total += once * watched
    eps = getattr(spec.recipe, "eps", 0.0)
    if eps:  # PGD and one step of FGSM: a pass forward and back each, and a last look
        with evaluating(model):
            step = _seconds(lambda: ascent_sign(model, x, y))
        total += watched * ((WATCH_STEPS + 1) * step + 2 * once)
    if certifies:
        with evaluating(model):
            total += validation * _seconds(lambda: proven(model, x, y, eps))
    return total / len(y)


def _seconds(work: Callable[[], Tensor]) -> float:
    """Seconds that a piece of work takes, the device's part included; done once before the clock starts."""
    work().sum().item()
    start = time.perf_counter()
    work().sum().item()
    return time.perf_counter() - start
