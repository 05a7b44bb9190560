"""The training loop: images in memory, one recipe, validation metrics each epoch, the best weights kept."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.attacks.engine.losses import predicted
from core.data.sets import Dataset, Split
from core.networks.catalogue import logits_of
from core.progress import Progress
from core.specs import NETWORKS, TrainSpec
from core.storage import checkpoint
from core.training import parallel
from core.training.augmentation import augmented
from core.training.batch_loss import ramp
from core.training.recipes import batch_loss
from core.training.steps import (
    averaging,
    batch_sizes,
    batches,
    compiled,
    learning_rate,
    make_optimizer,
    mixed_precision,
    new_model,
    train_step,
)
from core.training.watch import LAST, overfitted, ranked, under_noise, watch

_REPORT_EVERY = 0.2  # seconds between progress reports inside an epoch
CHECKPOINT_EVERY = 10.0
"""The fewest seconds between two checkpoints: less is quickly trained again."""
_FACTS = ("history", "best", "best_epoch", "step", "seen", "seconds", "training_seconds")


@dataclass(frozen=True)
class TrainedModel:
    """A trained model (eval mode, weights of the best epoch), its history (a row an epoch) and what it cost.

    resumed: whether it resumed from the state of an earlier run.
    """

    model: nn.Module
    history: list[dict[str, float]]
    best_epoch: int
    seconds: float
    images_per_second: float
    resumed: bool = False


def train(
    spec: TrainSpec,
    data: Dataset,
    *,
    device: str = "cpu",
    keep: Path | None = None,
    on_progress: Progress | None = None,
) -> TrainedModel:
    """Train a network from scratch.

    Args:
        spec: network, recipe, optimiser, schedule and seed.
        data: the data set that `spec.data` names.
        device: "cpu", "cuda" or "cuda:0"; data and model live there.
        keep: file for the state of the unfinished training, written after an epoch, `CHECKPOINT_EVERY` seconds after
            the last time; training resumes from the state that is there, and ends in the weights of an unbroken run.
            A state that does not fit is set aside. Remove it when you have kept the model.
        on_progress: called with images seen and to be seen, a few times a second with the running loss, and after each
            epoch with the row of its history; what it raises stops the training.

    Returns:
        The model with the weights of the best epoch: the highest accuracy on the validation split, proven where the
        recipe proves, else under attack where it has a budget (of equals, by plain accuracy, then loss); the FGSM mix
        by FGSM, noise by accuracy under it, the others by PGD. Epochs of a rising ε, or in which the network overfitted
        to a single step, count only where there is no other (the FGSM mix overfits by its nature).
        With `patience`, training ends after so many epochs without a better one, a rollback restarts the count:
        `stopped` in the last row.
        Reproducible from the seed on one machine with one number of threads. For a recipe with a budget a row of the
        history has `eps`, `robust_accuracy` and `fgsm_accuracy` at it (on validation images, see `watch`), for one that
        proves `certified_accuracy`; `overfitted`; and `rolled_back`: the weights went back to the best epoch's, and the
        recipe takes twice the steps from there on (only recipes of one step do).

    Raises:
        ValueError: a scalar network for a data set of other than two classes, or, with batch normalisation, a batch of
            fewer than two images a process.
        FloatingPointError: the loss or a weight is no longer finite; the state that was kept before stays.
    """
    cuda = [torch.device(device)] if device.startswith("cuda") else []

    def first() -> _Loop:
        torch.manual_seed(spec.seed)
        return _Loop(spec, data, compiled(new_model(spec, data).to(device), spec, device), device, on_progress)

    with torch.random.fork_rng(devices=cuda):
        loop = first()
        state = None if keep is None else checkpoint.read(keep, loop.identity())
        if keep is not None and state is not None:
            try:
                loop.resume(state)
            except checkpoint.UNFIT as error:
                checkpoint.set_aside(keep, f"it does not fit this training ({type(error).__name__}: {error})")
                loop = first()
        return loop.run(keep)


class _Loop:
    """State of one training run."""

    def __init__(
        self, spec: TrainSpec, data: Dataset, model: nn.Module, device: str, on_progress: Progress | None
    ) -> None:
        self.spec, self.model, self.on_progress, self.device = spec, model, on_progress, device
        self.fingerprint = data.fingerprint
        self.train_split = _on(data.train, device)
        self.validation = _on(data.validation, device)
        self.group = parallel.group()
        self.loss = batch_loss(spec.recipe)
        self.eps, self.sigma = (getattr(spec.recipe, name, 0.0) for name in ("eps", "sigma"))
        self.optimizer = make_optimizer(spec, model)
        self.averaged = None if spec.average == 0 else averaging(model, spec.average)
        self.precision = mixed_precision(device)
        self.generator = torch.Generator().manual_seed(spec.seed)
        # of one image alone batch normalisation knows no variance
        self.min_batch = 2 * self.group.size if NETWORKS[spec.network].batch_norm else 1
        if spec.batch_size < self.min_batch:
            raise ValueError(
                f"batch_size: expected at least {self.min_batch} for the batch normalisation of {spec.network} in "
                f"{self.group.size} processes, two images each, got {spec.batch_size}"
            )
        steps = len(batch_sizes(len(self.train_split), spec.batch_size, self.min_batch))
        self.total_steps = spec.epochs * steps * self.loss.replays
        self.total_images = spec.epochs * len(self.train_split)
        self.seen, self.step = 0, 0
        self.reported = 0.0
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, ...] = LAST
        self.best_state: dict[str, Tensor] = {}
        self.best_epoch = 0
        self.epoch, self.kept_epoch = 0, 0
        self.seconds, self.training_seconds = 0.0, 0.0

    def run(self, keep: Path | None) -> TrainedModel:
        """All epochs, or those that a restored state has not seen; the state is written to `keep` now and then."""
        written = time.perf_counter()
        resumed = bool(self.history)
        for epoch in range(len(self.history) + 1, self.spec.epochs + 1):
            if self.history and self.history[-1].get("stopped"):
                break
            start = time.perf_counter()
            self._one_epoch(epoch)
            self.seconds += time.perf_counter() - start
            self._report(**self.history[-1])
            due = self.group.rank == 0 and time.perf_counter() - written > CHECKPOINT_EVERY
            if keep is not None and due:  # after the last epoch, too: the model may not be written at once
                if checkpoint.write(keep, self._state(), self.identity()):
                    self.kept_epoch = epoch
                written = time.perf_counter()
        self.judged.load_state_dict(self.best_state)
        return TrainedModel(
            model=self.judged.eval(),
            history=self.history,
            best_epoch=self.best_epoch,
            seconds=self.seconds,
            images_per_second=self.seen / self.training_seconds,
            resumed=resumed,
        )

    def _one_epoch(self, epoch: int) -> None:
        """Train, measure, add a row to the history, keep the weights if they are the best so far."""
        start = time.perf_counter()
        self.epoch = epoch
        self.group.seed(self.spec.seed, epoch)
        loss, accuracy, lr = self._epoch()
        self.training_seconds += time.perf_counter() - start
        validation_loss, validation_accuracy = self.group.agreed(_measure(self.judged, self.validation), self.device)
        self._sound("the loss on the validation images", validation_loss)
        if not all(value.isfinite().all() for value in self.model.state_dict().values()):
            raise self._diverged("a weight is no longer finite")
        row = {
            "epoch": epoch,
            "loss": loss,
            "train_accuracy": accuracy,
            "validation_loss": validation_loss,
            "validation_accuracy": validation_accuracy,
            "lr": lr,
        }
        collapsed, settled = False, True
        if self.eps:
            settled = self.eps_now() == self.eps  # while ε rises, epochs cannot be compared
            row |= self._agreed(self._watch())
            collapsed = settled and overfitted(row, self.history)
            row["overfitted"] = float(collapsed)
            row["rolled_back"] = float(collapsed and bool(self.best_state) and self.loss.strengthen())
        if self.sigma:
            row |= self._agreed(under_noise(self.judged, self.validation, self.sigma, seed=self.spec.seed))
        row["seconds"] = time.perf_counter() - start
        self.history.append(row)
        kept = settled and not (collapsed and self.loss.selected_by == "robust_accuracy")
        rank = ranked(row, self.loss.selected_by) if kept else LAST
        if row.get("rolled_back"):
            for network in (self.model, self.judged):
                network.load_state_dict(self.best_state)
            self.optimizer.state.clear()  # its momentum leads on to where the network collapsed
        elif rank > self.best or not self.best_state or not settled:
            self.best, self.best_epoch = rank, epoch
            self.best_state = {name: value.clone() for name, value in self.judged.state_dict().items()}
        # from a rollback on it trains again, so the epochs before it do not count
        since = max([self.best_epoch, *(int(past["epoch"]) for past in self.history if past.get("rolled_back"))])
        if self.spec.patience and settled and epoch - since >= self.spec.patience:
            row["stopped"] = 1.0

    def _state(self) -> checkpoint.State:
        tensors = {
            "model": self.model.state_dict(),
            "best": self.best_state,
            "optimizer": checkpoint.moments(self.optimizer),
            "random": checkpoint.random_states(self.generator, self.device),
            "recipe": self.loss.state(),
            "averaged": {} if self.averaged is None else self.averaged.state_dict(),
        }
        return checkpoint.State(tensors, {name: getattr(self, name) for name in _FACTS})

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to resume from a state, the versions of the program and PyTorch aside."""
        return {"task": self.spec.key(), "data": self.fingerprint, "device": self.group.named(self.device)}

    def resume(self, state: checkpoint.State) -> None:
        """Restore the state of an earlier run. Raises one of `checkpoint.UNFIT` in the middle of it where it cannot."""
        self.model.load_state_dict(state.tensors["model"])
        self.best_state = {name: value.to(self.device) for name, value in state.tensors["best"].items()}
        if self.averaged is not None:
            self.averaged.load_state_dict(state.tensors["averaged"])
        checkpoint.restore_moments(self.optimizer, state.tensors.get("optimizer", {}))
        self.loss.restore({name: value.to(self.device) for name, value in state.tensors.get("recipe", {}).items()})
        checkpoint.restore_random_states(state.tensors["random"], self.generator, self.device)
        for name in _FACTS:
            setattr(self, name, state.facts[name])
        self.best = tuple(self.best)
        self.kept_epoch = len(self.history)

    def eps_now(self) -> float:
        """The recipe's budget at this point of the training."""
        return ramp(self.eps, getattr(self.spec.recipe, "warmup", 0.0), self.step / self.total_steps)

    @property
    def judged(self) -> nn.Module:
        """The network that is measured and kept: with averaged weights, if they are averaged."""
        return self.model if self.averaged is None else self.averaged.module

    def _watch(self) -> dict[str, float]:
        return watch(self.judged, self.validation, self.eps_now(), seed=self.spec.seed, certifies=self.loss.certifies)

    def _agreed(self, measured: dict[str, float]) -> dict[str, float]:
        return dict(zip(measured, self.group.agreed(measured.values(), self.device), strict=True))

    def _epoch(self) -> tuple[float, float, float]:
        """One pass; returns mean loss, accuracy on the fly, and the last learning rate."""
        self.model.train()
        self.loss.begin_epoch(self.model, self.train_split)
        total_loss = torch.zeros((), device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        lr = self.spec.lr
        count = 0
        for batch in batches(self.train_split, self.spec.batch_size, self.generator, self.device, self.min_batch):
            x, y, rows = (self.group.share(part) for part in batch)
            x = augmented(x, self.spec.augment)
            for _ in range(self.loss.replays):
                lr = self._set_lr()
                done = self.step / self.total_steps
                loss, logits = train_step(
                    self.model, self.optimizer, self.loss, self.precision, x, y, rows, done, self.group
                )
                self.step += 1
                if self.averaged is not None:
                    self.averaged.update_parameters(self.model)
            total_loss += loss.detach() * len(y)
            correct += (logits.detach().argmax(dim=1) == y).sum()
            count += len(y)
            self.seen += len(batch[1])
            if time.perf_counter() - self.reported > _REPORT_EVERY:
                self._report(loss=self._sound("the loss", loss.item()))
        self.group.average_buffers(self.model, self.averaged)
        total_loss, correct, n = self.group.total(total_loss, correct, torch.tensor(count, device=self.device))
        return self._sound("the loss", (total_loss / n).item()), int(correct) / int(n), lr

    def _set_lr(self) -> float:
        lr = learning_rate(self.spec, self.step / max(1, self.total_steps - 1))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _sound(self, what: str, value: float) -> float:
        """The value, if it is finite."""
        if not math.isfinite(value):
            raise self._diverged(f"{what} became {value}")
        return value

    def _diverged(self, what: str) -> FloatingPointError:
        """The error: what happened and where, what is kept, and what to change."""
        kept = f"the state after epoch {self.kept_epoch} is kept" if self.kept_epoch else "no state was kept yet"
        slower = ", or let ε rise over more of the training" * hasattr(self.spec.recipe, "warmup")
        return FloatingPointError(
            f"epoch {self.epoch}: {what} after {self.seen} images; {kept}, and the same request "
            f"resumes from {'it' if self.kept_epoch else 'the start'}, most likely with the same result. "
            f"Lower the learning rate (it is {self.spec.lr:g}){slower}"
        )

    def _report(self, **metrics: Any) -> None:
        self.reported = time.perf_counter()
        if self.on_progress:
            self.on_progress(self.seen, self.total_images, phase="training", **metrics)


def _on(split: Split, device: str) -> Split:
    return split if device == "cpu" else Split(split.x.to(device), split.y.to(device), split.index)


def _measure(model: nn.Module, split: Split) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on a split, in eval mode."""
    logits = logits_of(model, split.x)
    return float(F.cross_entropy(logits, split.y)), float((predicted(logits) == split.y).float().mean())
