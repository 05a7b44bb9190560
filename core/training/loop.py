"""The training loop: images in memory, one recipe, validation metrics each epoch, the best weights kept.

Recipes with a budget are watched for catastrophic overfitting (Wong, Rice, Kolter 2020, arXiv 2001.03994).
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from core.attacks import Streams, fgsm, pgd
from core.certification import proven
from core.data import Dataset, Split, to_float
from core.networks import build, centre_of, logits_of
from core.progress import Progress
from core.specs import DATASETS, TrainSpec
from core.training import checkpoint
from core.training.augmentation import augmented
from core.training.batch_loss import BatchLoss, ramp
from core.training.recipes import batch_loss

Tensors = tuple[Tensor, ...] | list[Tensor]
_REPORT_EVERY = 0.2  # seconds between progress reports inside an epoch
CHECKPOINT_EVERY = 10.0
"""Seconds between two looks back, at least: less is quickly trained again."""
_FACTS = ("history", "best", "best_epoch", "step", "seen", "seconds", "training_seconds")
PATIENCE = 0.5
"""Seconds for an estimate of the training time."""
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


def train(
    spec: TrainSpec,
    data: Dataset,
    *,
    device: str = "cpu",
    keep: Path | None = None,
    on_progress: Progress | None = None,
) -> Trained:
    """Train a network from scratch.

    Args:
        spec: network, recipe, optimiser, schedule and seed.
        data: the data set that `spec.data` names.
        device: "cpu", "cuda" or "cuda:0"; data and model live there.
        keep: file for the state of the unfinished training, written after an epoch, `CHECKPOINT_EVERY` seconds after
            the last time; training goes on from the state that is there, and ends in the weights of an unbroken run.
        on_progress: called with images seen and to be seen, a few times a second with the running loss, and after each
            epoch with the row of its history; what it raises stops the training.

    Returns:
        The model with the weights of the best epoch: the highest accuracy on the validation split, proven where the
        recipe proves, else under attack where it has a budget (of equals, by plain accuracy, then loss). Epochs of a
        rising ε, or in which the network overfitted to a single step, count only where there is no other.
        Reproducible from the seed on one machine with one number of threads. For a recipe with a budget a row of the
        history has `eps`, `robust_accuracy` and `fgsm_accuracy` at it (on `WATCHED` validation images), for one that
        proves `certified_accuracy`; `overfitted`; and `rolled_back`: the weights went back to the best epoch's, and the
        recipe takes twice the steps from there on (only recipes of one step do).

    Raises:
        ValueError: a scalar network for a data set of other than two classes.
        FloatingPointError: the loss is no longer finite.
    """
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(spec.seed)
        model = new_model(spec, data).to(device)
        return _Loop(spec, data, model, device, on_progress).run(keep)


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
    if loss_of.largest_gradient is not None:
        nn.utils.clip_grad_norm_(model.parameters(), loss_of.largest_gradient)
    optimizer.step()
    return loss, logits


class _Loop:
    """State of one training run."""

    def __init__(
        self, spec: TrainSpec, data: Dataset, model: nn.Module, device: str, on_progress: Progress | None
    ) -> None:
        self.spec, self.model, self.on_progress, self.device = spec, model, on_progress, device
        self.fingerprint = data.fingerprint
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
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, ...] = (-1.0,)
        self.best_state: dict[str, Tensor] = {}
        self.best_epoch = 0
        self.seconds, self.training_seconds = 0.0, 0.0

    def run(self, keep: Path | None) -> Trained:
        """All epochs, or those that the state in `keep` has not seen; the state is written there now and then."""
        if keep is not None:
            self._go_on(checkpoint.read(keep))
        written = time.perf_counter()
        for epoch in range(len(self.history) + 1, self.spec.epochs + 1):
            start = time.perf_counter()
            self._one_epoch(epoch)
            self.seconds += time.perf_counter() - start
            self._report(**self.history[-1])
            if keep is not None and time.perf_counter() - written > CHECKPOINT_EVERY and epoch < self.spec.epochs:
                with contextlib.suppress(OSError):  # a full disk ends no training: the state is a convenience
                    checkpoint.write(keep, self._state())
                written = time.perf_counter()
        self.judged.load_state_dict(self.best_state)
        return Trained(
            model=self.judged.eval(),
            history=self.history,
            best_epoch=self.best_epoch,
            seconds=self.seconds,
            images_per_second=self.seen / self.training_seconds,
        )

    def _one_epoch(self, epoch: int) -> None:
        """Train, measure, add a row to the history, keep the weights if they are the best so far."""
        start = time.perf_counter()
        loss, accuracy, lr = self._epoch()
        self.training_seconds += time.perf_counter() - start
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
            before = [past["robust_accuracy"] for past in self.history if past["eps"] == self.eps]
            fell = robust < max(before, default=0.0) - FALL
            overfitted = settled and (fell or robust < SHARE * row["fgsm_accuracy"])
            row["overfitted"] = float(overfitted)
            row["rolled_back"] = float(overfitted and bool(self.best_state) and self.loss.strengthen())
        row["seconds"] = time.perf_counter() - start
        self.history.append(row)
        first = row.get("certified_accuracy", row.get("robust_accuracy", validation_accuracy))
        rank = (first, validation_accuracy, -validation_loss) if settled and not overfitted else (-1.0,)
        if row.get("rolled_back"):
            for network in (self.model, self.judged):
                network.load_state_dict(self.best_state)
            self.optimizer.state.clear()  # its momentum leads on to where the network collapsed
        elif rank > self.best or not self.best_state or not settled:
            self.best, self.best_epoch = rank, epoch
            self.best_state = {name: value.clone() for name, value in self.judged.state_dict().items()}

    def _state(self) -> checkpoint.State:
        moments = {
            f"{number}.{name}": torch.as_tensor(value)
            for number, values in self.optimizer.state_dict()["state"].items()
            for name, value in values.items()
            if value is not None
        }
        random = {"cpu": torch.get_rng_state(), "order": self.generator.get_state()}
        if self.device.startswith("cuda"):
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        tensors = {
            "model": self.model.state_dict(),
            "best": self.best_state,
            "optimizer": moments,
            "random": random,
            "recipe": self.loss.state(),
            "averaged": {} if self.averaged is None else self.averaged.state_dict(),
        }
        facts = {name: getattr(self, name) for name in _FACTS}
        return checkpoint.State(tensors, {**facts, "of": self._identity()})

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on from a state."""
        return {"format": 1, "data": self.fingerprint, "torch": torch.__version__, "device": self.device}

    def _go_on(self, state: checkpoint.State | None) -> None:
        """Take up the state of an earlier run, if it was on the same data and device with the same PyTorch."""
        if state is None or state.facts.get("of") != self._identity():
            return
        self.model.load_state_dict(state.tensors["model"])
        self.best_state = {name: value.to(self.device) for name, value in state.tensors["best"].items()}
        if self.averaged is not None:
            self.averaged.load_state_dict(state.tensors["averaged"])
        moments: dict[int, dict[str, Tensor]] = {}
        parameters = list(self.model.parameters())
        for key, value in state.tensors.get("optimizer", {}).items():
            number, _, name = key.partition(".")
            like = parameters[int(number)]
            # in the parameter's memory layout: fused optimisers walk through both as they lie
            value = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
            moments.setdefault(int(number), {})[name] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.loss.restore({name: value.to(self.device) for name, value in state.tensors.get("recipe", {}).items()})
        random = state.tensors["random"]
        torch.set_rng_state(random["cpu"])
        self.generator.set_state(random["order"])
        if "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], self.device)
        for name in _FACTS:
            setattr(self, name, state.facts[name])
        self.best = tuple(self.best)

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
        sure = {}
        if self.loss.certifies:
            held = proven(self.judged, to_float(self.validation.x), self.validation.y, eps)
            sure = {"certified_accuracy": held.float().mean().item()}
        return sure | {
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

    @torch.no_grad()
    def mean(old: Tensors, new: Tensors, count: Tensor | int) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        if old[0].is_floating_point():
            torch._foreach_lerp_(old, new, 1 - now)
        else:  # counters
            torch._foreach_copy_(old, new)

    return AveragedModel(model, multi_avg_fn=mean, use_buffers=True)


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
