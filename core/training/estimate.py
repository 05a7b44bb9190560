"""How long a training will take here."""

from __future__ import annotations

import statistics
import time

import torch

from core.networks import build
from core.specs import DATASETS, TrainSpec
from core.training.recipes import batch_loss
from core.training.steps import make_optimizer, mixed_precision, train_step

PATIENCE = 0.5
"""Seconds for an estimate of the training time."""


def estimate_seconds(spec: TrainSpec, *, device: str = "cpu") -> float | None:
    """Seconds that training would take here, from a few timed steps on random images; None for image folders.

    Takes about `PATIENCE` seconds at most, or one step of a small batch. Validation and start-up are not counted;
    expect ± 30 % on a busy machine.
    """
    info = DATASETS.get(spec.data.dataset)
    if info is None:
        return None
    classes = spec.data.classes or tuple(range(len(info.class_names)))
    model = build(spec.network, info.shape, len(classes), scalar=spec.scalar)
    model = model.to(device).to(memory_format=torch.channels_last).train()
    optimizer, loss_of = make_optimizer(spec, model), batch_loss(spec.recipe)
    size = min(spec.batch_size, 64)
    x = torch.rand(size, *info.shape, device=device).contiguous(memory_format=torch.channels_last)
    y, rows = torch.randint(len(classes), (size,), device=device), torch.arange(size)
    times: list[float] = []
    while len(times) < 6 and sum(times) < PATIENCE:
        start = time.perf_counter()
        for _ in range(loss_of.replays):
            loss, _logits = train_step(model, optimizer, loss_of, mixed_precision(device), x, y, rows)
        loss.item()  # waits for the device
        times.append(time.perf_counter() - start)
    train_size = 0.9 * info.train_size * len(classes) / len(info.class_names)
    return statistics.median(times[1:] or times) * spec.epochs * train_size / size
