"""Run a TrainSpec: train, measure, and the contents of a model artifact."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import torch

from core.data.sets import load
from core.evaluation.tasks.answers import test_table
from core.evaluation.tasks.opening import card_of_model
from core.networks.table import layer_table, parameter_count
from core.progress import Progress
from core.specs import TrainSpec
from core.storage import cards, store
from core.training import parallel
from core.training.loop import train
from core.training.watch import WATCHED


def run(spec: TrainSpec, root: Path, *, device: str, on_progress: Progress | None = None) -> store.Outcome:
    """Train what the spec asks for and measure it once on the test split.

    Returns:
        Outcome: array file `weights`, table `test` (one row a test image) and the card's contents. Nothing is written.

    Raises:
        DataMissing: the data set cannot be had; see `core.data.sets.load`.
    """
    with parallel.group().one_first():
        data = load(spec.data, on_progress=on_progress)
    cpu = time.process_time()
    trained = train(spec, data, device=device, keep=store.unfinished(spec, root), on_progress=on_progress)
    cpu_seconds = None if trained.resumed else time.process_time() - cpu  # of one that was stopped, a part is not known
    table = test_table(trained.model, data)
    best = trained.history[trained.best_epoch - 1]
    card = {
        **card_of_model(
            data,
            table,
            validation_accuracy=best["validation_accuracy"],
            **_under_attack(best, len(data.validation)),
        ),
        "history": trained.history,
        "best_epoch": trained.best_epoch,
        "network": {
            "parameters": parameter_count(trained.model),
            "layers": [vars(layer) for layer in layer_table(trained.model, data.shape)],
        },
        "timing": {
            "seconds": trained.seconds,
            "images_per_second": trained.images_per_second,
            "cpu_seconds": cpu_seconds,
        },
        "device": device,
        "machine": machine(device),
        "threads": torch.get_num_threads(),
    }
    weights = {name: value.cpu().contiguous().numpy() for name, value in trained.model.state_dict().items()}
    return store.Outcome(card=card, arrays={"weights": weights}, tables={"test": pd.DataFrame(table)})


def machine(device: str) -> str:
    """The processor, and the GPU where that was the device, in words."""
    gpu = [torch.cuda.get_device_name(device)] if device.startswith("cuda") else []
    return ", ".join([*gpu, cards.machine()])


def _under_attack(best: dict[str, float], n: int) -> dict[str, float]:
    """The best epoch's accuracy under PGD, proven, or under noise, on validation images; with its ε or σ, and n."""
    found: dict[str, float] = {}
    if "robust_accuracy" in best:
        found = {"robust_accuracy": best["robust_accuracy"], "robust_eps": best["eps"], "robust_n": min(WATCHED, n)}
    if "certified_accuracy" in best:
        found |= {"certified_accuracy": best["certified_accuracy"], "certified_n": n}
    if "noise_accuracy" in best:
        found = {"noise_accuracy": best["noise_accuracy"], "noise_sigma": best["sigma"], "noise_n": min(WATCHED, n)}
    return found
