"""The training loop: images in memory, one recipe, validation metrics each epoch, the best weights kept.

Recipes with a budget are watched for catastrophic overfitting (Wong, Rice, Kolter 2020, arXiv 2001.03994).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from core.attacks import Streams, fgsm, pgd
from core.data import Dataset, Split, to_float
from core.networks import build, centre_of, logits_of
from core.progress import Progress
from core.specs import DATASETS, TrainSpec
from core.training.augmentation import augmented
from core.training.recipes import BatchLoss, batch_loss, ramp

_REPORT_EVERY = 0.2  # seconds between progress reports inside an epoch
WATCHED = 512
"""Validation images on which the robust accuracy is measured after each epoch, by PGD of `WATCH_STEPS` steps."""
WATCH_STEPS = 10
FALL, SHARE = 0.2, 0.5
"""Catastrophic overfitting: PGD's accuracy falls by `FALL` below its best, or below this share of one step's."""


@dataclass(frozen=True)
class Trained:
    """A trained model (eval mode, weights of the best epoch), its history (a row an epoch) and what it cost."""

    model: nn.Module
    history: list[dict[str, float]]
    best_epoch: int
    seconds: float
    images_per_second: float


def train(spec: TrainSpec, data: Dataset, *, device: str = "cpu", on_progress: Progress | None = None) -> Trained:
    """Train a network from scratch.

    Args:
        spec: network, recipe, optimiser, schedule and seed.
        data: the data set that `spec.data` names.
        device: "cpu", "cuda" or "cuda:0"; data and model live there.
        on_progress: called with images seen and to be seen, a few times a second with the running loss, and after each
            epoch with the row of its history; what it raises stops the training.

    Returns:
        The model with the weights of the best epoch: the highest validation accuracy, under attack where the recipe
        has a budget (of equals, the lower validation loss); an epoch in which it overfitted to its own attack never
        is, nor one in which ε was still rising. Reproducible from the seed on one machine with one number of threads.
        For a recipe with a budget a row of the history has `eps`, `robust_accuracy` and `fgsm_accuracy` at it (on
        `WATCHED` validation images) and `overfitted`: then the weights went back to the best epoch's, and a recipe of
        one step takes twice the steps from there on.

    Raises:
        ValueError: a scalar network for a data set of other than two classes.
        FloatingPointError: the loss is no longer finite.
    """
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(spec.seed)
        model = new_model(spec, data).to(device)
        return _Loop(spec, data, model, device, on_progress).run()


def new_model(spec: TrainSpec, data: Dataset) -> nn.Module:
    """The untrained network, its normalisation set from the training images; seed torch first."""
    model = build(spec.network, data.shape, len(data.class_names), scalar=spec.scalar)
    if spec.init == "gaussian":
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.01)
            else:
                nn.init.zeros_(parameter)
    centre = centre_of(model)
    if centre is not None:
        centre.fit(to_float(data.train.x[:10_000]))
    return model.to(memory_format=torch.channels_last)


def make_optimizer(spec: TrainSpec, model: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum, or Adam; the weight decay is an l2 penalty in both."""
    if spec.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay, fused=True
        )
    return torch.optim.Adam(model.parameters(), lr=spec.lr, weight_decay=spec.weight_decay, fused=True)


def batches(
    split: Split, batch_size: int, generator: torch.Generator, device: str
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """One pass in random order: x (B, C, H, W) float32 in [0, 1], channels last; y (B,); positions in it (B,)."""
    for rows in torch.randperm(len(split), generator=generator).split(batch_size):
        rows = rows.to(split.x.device)
        yield to_float(split.x[rows]).contiguous(memory_format=torch.channels_last), split.y[rows], rows


def mixed_precision(device: str) -> torch.autocast:
    """Autocast to bfloat16 for a batch's loss where the hardware multiplies it natively, else a context without effect.

    1.6 times as fast on a CPU with AVX512-BF16. For training only: every verdict is in float32.
    """
    kind = device.split(":")[0]
    if kind == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # PyTorch has no public question for this
        asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        native = any(getattr(torch.cpu, question, bool)() for question in asked)
    # no cache: weights that were cast while gradients were off (TRADES) would be used again without a gradient
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=native, cache_enabled=False)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of: BatchLoss,
    precision: torch.autocast,
    x: Tensor,
    y: Tensor,
    rows: Tensor,
    progress: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """One step down a batch's loss; returns the loss and the logits that it was made from (see `BatchLoss`)."""
    with precision:
        loss, logits = loss_of(model, x, y, rows=rows, progress=progress)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss, logits


class _Loop:
    """State of one training run."""

    def __init__(
        self, spec: TrainSpec, data: Dataset, model: nn.Module, device: str, on_progress: Progress | None
    ) -> None:
        self.spec, self.model, self.on_progress, self.device = spec, model, on_progress, device
        self.train_split = _on(data.train, device)
        self.validation = _on(data.validation, device)
        self.loss = batch_loss(spec.recipe)
        self.eps = getattr(spec.recipe, "eps", 0.0)
        self.optimizer = make_optimizer(spec, model)
        self.averaged = None if spec.average == 0 else _average(model, spec.average)
        self.precision = mixed_precision(device)
        self.generator = torch.Generator().manual_seed(spec.seed)
        self.total_steps = spec.epochs * math.ceil(len(self.train_split) / spec.batch_size) * self.loss.replays
        self.total_images = spec.epochs * len(self.train_split)
        self.seen, self.step = 0, 0
        self.reported = 0.0

    def run(self) -> Trained:
        history: list[dict[str, float]] = []
        best: tuple[float, ...] = (-1.0,)
        best_state: dict[str, Tensor] = {}
        best_epoch = 0
        start = time.perf_counter()
        training_seconds = 0.0
        for epoch in range(1, self.spec.epochs + 1):
            epoch_start = time.perf_counter()
            loss, accuracy, lr = self._epoch()
            training_seconds += time.perf_counter() - epoch_start
            validation_loss, validation_accuracy = _measure(self.judged, self.validation)
            row = {
                "epoch": epoch,
                "loss": loss,
                "train_accuracy": accuracy,
                "validation_loss": validation_loss,
                "validation_accuracy": validation_accuracy,
                "lr": lr,
            }
            overfitted, settled = False, True
            if self.eps:
                settled = self.eps_now() == self.eps  # while ε rises, epochs cannot be compared
                row |= self._watch()
                robust = row["robust_accuracy"]
                overfitted = settled and (robust < best[0] - FALL or robust < SHARE * row["fgsm_accuracy"])
                row["overfitted"] = float(overfitted)
            row["seconds"] = time.perf_counter() - epoch_start
            history.append(row)
            rank = (row.get("robust_accuracy", validation_accuracy), validation_accuracy, -validation_loss)
            if overfitted and best_state:
                for network in (self.model, self.judged):
                    network.load_state_dict(best_state)
                self.loss.strengthen()
            elif (settled and rank > best) or not best_state:
                best, best_epoch = rank if settled else (-1.0,), epoch
                best_state = {name: value.clone() for name, value in self.judged.state_dict().items()}
            self._report(**row)
        self.model.load_state_dict(best_state)
        return Trained(
            model=self.model.eval(),
            history=history,
            best_epoch=best_epoch,
            seconds=time.perf_counter() - start,
            images_per_second=self.seen / training_seconds,
        )

    def eps_now(self) -> float:
        """The recipe's budget at this point of the training."""
        return ramp(self.eps, getattr(self.spec.recipe, "warmup", 0.0), self.step / self.total_steps)

    @property
    def judged(self) -> nn.Module:
        """The network that is measured and kept: with averaged weights, if they are averaged."""
        return self.model if self.averaged is None else self.averaged.module

    def _watch(self) -> dict[str, float]:
        """Accuracy under many steps and under one, on the same validation images every epoch."""
        part = Split(*(values[:WATCHED] for values in (self.validation.x, self.validation.y, self.validation.index)))
        x, streams = to_float(part.x), Streams.of(self.spec.seed, torch.arange(len(part), device=part.y.device))
        eps = self.eps_now()
        many = pgd(self.judged, x, part.y, eps=eps, steps=WATCH_STEPS, relative_step=0.25, streams=streams)
        one = fgsm(self.judged, x, part.y, eps=eps)
        return {
            "eps": eps,
            "robust_accuracy": 1 - many.success.float().mean().item(),
            "fgsm_accuracy": 1 - one.success.float().mean().item(),
        }

    def _epoch(self) -> tuple[float, float, float]:
        """One pass; returns mean loss, accuracy on the fly, and the last learning rate."""
        self.model.train()
        self.loss.begin_epoch(self.model, self.train_split)
        total_loss = torch.zeros((), device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        lr = self.spec.lr
        for x, y, rows in batches(self.train_split, self.spec.batch_size, self.generator, self.device):
            x = augmented(x, self.spec.augment)
            for _ in range(self.loss.replays):
                lr = self._set_lr()
                done = self.step / self.total_steps
                loss, logits = train_step(self.model, self.optimizer, self.loss, self.precision, x, y, rows, done)
                self.step += 1
                if self.averaged is not None:
                    self.averaged.update_parameters(self.model)
            total_loss += loss.detach() * len(y)
            correct += (logits.detach().argmax(dim=1) == y).sum()
            self.seen += len(y)
            if time.perf_counter() - self.reported > _REPORT_EVERY:
                self._report(loss=self._finite(loss))
        n = len(self.train_split)
        return self._finite(total_loss / n), int(correct) / n, lr

    def _set_lr(self) -> float:
        lr = learning_rate(self.spec, self.step / max(1, self.total_steps - 1))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _finite(self, loss: Tensor) -> float:
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss became {value} after {self.seen} images: lower the learning rate (it is {self.spec.lr:g})"
            )
        return value

    def _report(self, **metrics: Any) -> None:
        self.reported = time.perf_counter()
        if self.on_progress:
            self.on_progress(self.seen, self.total_images, phase="training", **metrics)


def _average(model: nn.Module, decay: float) -> AveragedModel:
    """The running mean of weights and buffers, w ← decay·w + (1 − decay)·new; the decay rises to its value at first."""

    def mean(old: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        return torch.lerp(old, new, 1 - now) if old.is_floating_point() else new

    return AveragedModel(model, avg_fn=mean, use_buffers=True)


def learning_rate(spec: TrainSpec, progress: float) -> float:
    """Learning rate at a progress in [0, 1]: constant, or up for a quarter and down to a thousandth, both by cosine."""
    if spec.schedule == "constant":
        return spec.lr
    rise, start, end = 0.25, 1 / 25, 1e-3  # Smith and Topin 2018, arXiv 1708.07120; PyTorch's default start
    if progress < rise:
        share = 0.5 - 0.5 * math.cos(math.pi * progress / rise)
        return spec.lr * (start + (1 - start) * share)
    share = 0.5 + 0.5 * math.cos(math.pi * (progress - rise) / (1 - rise))
    return spec.lr * (end + (1 - end) * share)


def _on(split: Split, device: str) -> Split:
    return split if device == "cpu" else Split(split.x.to(device), split.y.to(device), split.index)


def _measure(model: nn.Module, split: Split) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on a split, in eval mode."""
    logits = logits_of(model, split.x)
    return float(F.cross_entropy(logits, split.y)), float((logits.argmax(dim=1) == split.y).float().mean())


def estimate_seconds(spec: TrainSpec, *, device: str = "cpu") -> float | None:
    """Seconds that training would take here, from a few timed steps on random images; None for image folders.

    Takes a fraction of a second. Validation and start-up are not counted; expect ± 30 % on a busy machine.
    """
    info = DATASETS.get(spec.data.dataset)
    if info is None:
        return None
    classes = spec.data.classes or tuple(range(len(info.class_names)))
    model = build(spec.network, info.shape, len(classes), scalar=spec.scalar)
    model = model.to(device).to(memory_format=torch.channels_last).train()
    optimizer, loss_of = make_optimizer(spec, model), batch_loss(spec.recipe)
    x = torch.rand(spec.batch_size, *info.shape, device=device).contiguous(memory_format=torch.channels_last)
    y, rows = torch.randint(len(classes), (spec.batch_size,), device=device), torch.arange(spec.batch_size)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        for _ in range(loss_of.replays):
            loss, _logits = train_step(model, optimizer, loss_of, mixed_precision(device), x, y, rows)
        loss.item()  # waits for the device
        times.append(time.perf_counter() - start)
    train_size = 0.9 * info.train_size * len(classes) / len(info.class_names)
    return statistics.median(times[1:]) * spec.epochs * train_size / spec.batch_size
