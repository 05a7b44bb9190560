"""Make a reference model: train it or load the training from the store, measure it, and bundle it.

One that is bundled already can be measured again as it is. Everything but times, the machine's name and the date is the
same on every run of the same machine.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from core import specs
from core.attacks.engine.losses import predicted
from core.attacks.engine.result import AttackResult
from core.attacks.engine.streams import Streams
from core.attacks.run import run_method
from core.certification.proof import proven
from core.checks import check_choice
from core.data.sets import Dataset, first_of_test, load, to_float
from core.evaluation.tables.metrics import clopper_pearson, five_metrics
from core.evaluation.tasks.answers import test_table
from core.jobs import devices, running
from core.models import reference
from core.networks.catalogue import build, logits_of
from core.networks.layers import Shape
from core.progress import Progress, part
from core.storage import bundled, cards, store
from core.training.task import machine

LARGEST = 10_000_000
"""Bytes that a bundled model may take."""
PGD = specs.Pgd(steps=50, restarts=10)
DRAWN = (specs.GeneratorMethod(), specs.GeneratorStrong())
DRAWN_N = 200
"""Test images that the generator attacks are measured on, each towards one wrong class."""
SEED = 0
_LOST = 1000  # one prediction in so many may differ in half precision
_FACTS = ("weights_dtype", "predictions_that_differ")
_NUMBERS = ("eps", "median_l2", "median_linf", "forwards", "backwards")  # NaN where a row has none

Row = dict[str, Any]


def make(
    name: str,
    root: Path,
    *,
    device: str | None = None,
    n: int | None = None,
    on_progress: Progress | None = None,
) -> store.Artifact:
    """Make one reference model and bundle it, in the place of the one before.

    Args:
        name: one of `reference.REFERENCES`.
        root: the user's store; a finished training of the same spec is taken from there, else it is left there.
        device: "cpu" or "cuda"; None takes CUDA where there is one.
        n: test images for PGD and for proofs, the first of the fixed order; None: all.
        on_progress: as in training; then images attacked.

    Raises:
        ValueError: an unknown name, a model of more than `LARGEST` bytes, or nowhere to put it.
        DataMissing: the data set cannot be had.
    """
    wanted, device = _asked(name, n), devices.settled(device, root)
    trained = running.run(wanted.spec, root, device=device, allow_bundled=False, on_progress=on_progress)
    assert isinstance(trained, store.Artifact)
    data = load(wanted.spec.data)
    weights, facts = in_half(trained, data, device)
    return _bundled(wanted, trained, weights, facts, data, device, n, on_progress)


def measure_again(
    name: str,
    *,
    device: str | None = None,
    n: int | None = None,
    on_progress: Progress | None = None,
) -> store.Artifact:
    """Measure a bundled model as it is: its weights and what is bundled of them stay, its figures are new.

    Args:
        name: one of `reference.REFERENCES`.
        device: as for `make`.
        n: as for `make`.
        on_progress: as for `make`.

    Raises:
        ValueError: an unknown name, or a model that is not bundled.
        DataMissing: the data set cannot be had.
        Damage: its files are not what its card says.
    """
    wanted, device = _asked(name, n), devices.settled(device)
    folder = bundled.folder(wanted.spec.artifact_name())
    if folder is None:
        raise ValueError(f"name: expected a bundled model, got {name!r}, which is not")
    there = store.Artifact(folder, cards.verified(folder))
    facts = {fact: there.card["reference"][fact] for fact in _FACTS}
    return _bundled(wanted, there, there.arrays("weights"), facts, load(wanted.spec.data), device, n, on_progress)


def _asked(name: str, n: int | None) -> reference.Reference:
    check_choice("name", name, reference.REFERENCES)
    if n is not None and n < 1:
        raise ValueError(f"n: expected at least 1, got {n}")
    return reference.REFERENCES[name]


def _bundled(
    wanted: reference.Reference,
    trained: store.Artifact,
    weights: dict[str, np.ndarray],
    facts: Row,
    data: Dataset,
    device: str,
    n: int | None,
    on_progress: Progress | None,
) -> store.Artifact:
    """The model with these weights, measured and bundled."""
    model = _model(trained, weights, device)
    tests = test_table(model, data)
    start, cpu = time.perf_counter(), time.process_time()
    rows = measure(model, data, wanted, tests, n=n, on_progress=on_progress)
    card = {key: value for key, value in trained.card.items() if key not in cards.WRITTEN_BY_STORE}
    scores = five_metrics(tests["y"], tests["pred"], tests["confidence"])
    named = {"test_accuracy": scores.accuracy, "test_low": scores.low, "test_high": scores.high, "test_n": scores.n}
    card["metrics"] = {**card["metrics"], **named, **scores.row()}
    card["reference"] = {
        "name": wanted.name,
        "purpose": wanted.purpose,
        **facts,
        "measured": _summary(wanted, rows),
        "measuring": {
            **cards.made_now(),
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - cpu,
            "device": device,
            "threads": torch.get_num_threads(),
            "machine": machine(device),
        },
    }
    tables = {"test": pd.DataFrame(tests), "measurements": pd.DataFrame(rows).astype(dict.fromkeys(_NUMBERS, float))}
    body, files = cards.compose(wanted.spec, card, {"weights": weights}, tables, before=trained.card)
    size = sum(map(len, files.values()))
    if size > LARGEST:
        raise ValueError(f"{wanted.name}: expected at most {LARGEST:,} bytes for a bundled model, got {size:,}")
    return store.Artifact(bundled.replace(wanted.spec.artifact_name(), files), body)


# ---------------------------------------------------------------- weights


def in_half(trained: store.Artifact, data: Dataset, device: str) -> tuple[dict[str, np.ndarray], Row]:
    """The weights as they are bundled: in float16 where that does not lower the test accuracy, else as they are.

    They stay as they are where fewer test images would be correctly classified, where more than one prediction in a
    thousand would differ, or where a weight leaves float16's range.

    Returns:
        Weights by name, and `weights_dtype` and `predictions_that_differ` (of float16, whichever is taken).
    """
    full = trained.arrays("weights")
    with np.errstate(over="ignore"):  # looked for below
        half = {name: value.astype(np.float16) if value.dtype == np.float32 else value for name, value in full.items()}
    y = data.test.y.numpy()
    before, after = (
        logits_of(_model(trained, weights, device), data.test.x).argmax(dim=1).cpu().numpy() for weights in (full, half)
    )
    differ = int((before != after).sum())
    finite = all(bool(np.isfinite(value).all()) for value in half.values())
    keeps = finite and (after == y).sum() >= (before == y).sum() and differ * _LOST <= len(y)
    return (half if keeps else full), {
        "weights_dtype": "float16" if keeps else "float32",
        "predictions_that_differ": differ,
    }


def _model(trained: store.Artifact, weights: dict[str, np.ndarray], device: str) -> nn.Module:
    spec, card = trained.spec(), trained.card
    assert isinstance(spec, specs.TrainSpec)
    model = build(spec.network, cast(Shape, tuple(card["shape"])), len(card["class_names"]), scalar=spec.scalar)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})  # into float32
    return model.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)


# ---------------------------------------------------------------- measurements


def measure(
    model: nn.Module,
    data: Dataset,
    wanted: reference.Reference,
    tests: dict[str, np.ndarray],
    *,
    n: int | None = None,
    on_progress: Progress | None = None,
) -> list[Row]:
    """Rows of the table `measurements`: clean, PGD at the reference's ε, proven, and the generator attacks.

    `value` is a share of n images: correctly classified (clean), still so (pgd), proven so (proven), or fooled
    (generator: of the images that were correctly classified). Passes are means over these images; medians are over the
    fooled ones.
    """
    hits = int((tests["y"] == tests["pred"]).sum())
    rows = [_share("clean", "", hits, len(tests["y"]))]
    device = next(model.parameters()).device
    batch = first_of_test(data, n or len(data.test))
    x, y, eps = to_float(batch.x).to(device), batch.y.to(device), wanted.eps

    result = run_method(
        model,
        x,
        y,
        PGD,
        eps=eps,
        streams=Streams.of(SEED, batch.index.to(device)),
        on_progress=part(on_progress, 0, len(x), len(x), phase="PGD"),
    )
    settings = f"linf, {PGD.steps} steps, {PGD.restarts} restarts, first step {PGD.relative_step:g} ε, seed {SEED}"
    rows.append(
        _share("pgd", settings, int((~result.success).sum()), len(y), eps)
        | {"forwards": result.forwards.double().mean().item(), "backwards": result.backwards.double().mean().item()}
    )
    found = _provable(wanted)
    if found is not None:
        held = proven(model, x, y, eps, method=found[0])
        rows.append(_share("proven", f"linf, {found[1]}", int(held.sum()), len(y), eps))
    if wanted.drawn:
        rows += [_drawn(model, data, method, on_progress) for method in DRAWN]
    return rows


def _provable(wanted: reference.Reference) -> tuple[str, str] | None:
    """By which bounds a model is measured that was trained to be proven, and in words; None for others."""
    if wanted.spec.recipe.name == "ibp":
        return "ibp", "interval bounds"
    return ("crown", "linear bounds (CROWN)") if getattr(wanted.spec.recipe, "stability", 0.0) else None


def drawn(
    model: nn.Module, data: Dataset, method: specs.Method, *, n: int, on_progress: Progress | None = None
) -> AttackResult:
    """A generator attack on the first n correctly classified test images, each towards one wrong class.

    The class is made from the image's number, so that it is the same for two models.
    """
    device = next(model.parameters()).device
    ordered = first_of_test(data, len(data.test))
    right = predicted(logits_of(model, ordered.x)).cpu() == ordered.y
    batch = ordered.take(right.nonzero()[:n, 0])
    classes = len(data.class_names)
    target: Tensor = (batch.y + 1 + batch.index % (classes - 1)) % classes
    return run_method(
        model,
        to_float(batch.x).to(device),
        batch.y.to(device),
        method,
        y_target=target.to(device),
        streams=Streams.of(SEED, batch.index.to(device)),
        on_progress=part(on_progress, 0, len(batch), len(batch), phase=method.title),
    )


def _drawn(model: nn.Module, data: Dataset, method: specs.Method, on_progress: Progress | None) -> Row:
    result = drawn(model, data, method, n=DRAWN_N, on_progress=on_progress)
    won = result.success
    share = _share(method.slug(), f"one wrong class an image, seed {SEED}", int(won.sum()), len(won))
    return share | {
        "median_l2": result.distance["l2"][won].median().item() if won.any() else None,
        "median_linf": result.distance["linf"][won].median().item() if won.any() else None,
        "forwards": result.forwards.double().mean().item(),
        "backwards": result.backwards.double().mean().item(),
    }


def _share(measure: str, settings: str, hits: int, n: int, eps: float | None = None) -> Row:
    low, high = clopper_pearson(hits, n)
    row: Row = {"measure": measure, "eps": eps, "n": n, "value": hits / n, "low": low, "high": high}
    return row | dict.fromkeys(_NUMBERS[1:]) | {"settings": settings}


def _summary(wanted: reference.Reference, rows: list[Row]) -> Row:
    """What a list shows without reading the table."""
    shares = {row["measure"]: row["value"] for row in rows}
    counted = next(row["n"] for row in rows if row["measure"] == "pgd")
    return {"eps": wanted.eps, "n": counted, **shares}
