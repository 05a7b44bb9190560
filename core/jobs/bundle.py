"""Make the results that lie with the bundled models: `core.models.bundled_results` says which."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.jobs import devices, running
from core.models import bundled_results, reference, trained_on
from core.progress import Progress
from core.specs import CertifySpec, EvaluateSpec, ModelTask, RadiiSpec, SweepSpec, TransferSpec, task_name
from core.storage import bundled, cards, store

LARGEST = 10_000_000
"""Bytes that all bundled results may take together."""
KEPT = 20
"""Images that are kept of a result that has them all; its tables stay whole."""
_OF_ALL_IMAGES = (RadiiSpec, EvaluateSpec, TransferSpec, CertifySpec)


@dataclass(frozen=True)
class Item:
    """A request, and the folder of its result; None where it is missing or was made on other weights."""

    spec: ModelTask
    folder: Path | None

    @property
    def size(self) -> int:
        """Bytes of its files as they lie on disk; 0 where it is missing."""
        return 0 if self.folder is None else _size(self.folder)

    def row(self) -> dict[str, Any]:
        """What a list shows of it."""
        names = {one.spec.artifact_name(): name for name, one in reference.REFERENCES.items()}
        kind = task_name(self.spec)
        said = {name: getattr(self.spec, name, None) for name in ("attack", "method", "norm", "eps")}
        said = {name: getattr(value, "name", value) for name, value in said.items() if value is not None}
        if isinstance(self.spec, SweepSpec):
            del said["eps"]
        return {
            "model": " ".join(names[model] for model in trained_on.models_of(self.spec)),
            "task": kind,
            "settings": " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in said.values()),
            "result": self.spec.artifact_name(),
            "bundled": self.folder is not None,
            "bytes": self.size,
        }


def items(only: list[str] | None = None) -> list[Item]:
    """Every request, or those on the reference models named in `only`, and where its result lies."""
    ids = {reference.REFERENCES[name].spec.artifact_name() for name in only or ()}
    wanted = [spec for spec in bundled_results.requests() if not only or ids.intersection(trained_on.models_of(spec))]
    return [Item(spec, _folder(spec)) for spec in wanted]


def total() -> int:
    """Bytes of all bundled results."""
    where = bundled.root()
    return 0 if where is None else sum(_size(folder) for folder in where.glob("*/results/*"))


def make(spec: ModelTask, *, device: str | None = None, on_progress: Progress | None = None) -> Item:
    """Run a request on the bundled models, and bundle its result in the place of the one before.

    Nothing is read from or written to a user's store. Images beyond `KEPT` are left out of results that keep all of
    theirs; `index` says which are there.

    Raises:
        ValueError: a model that is not bundled, nowhere to put it, or more than `LARGEST` bytes together.
        DataMissing: the images cannot be had.
    """
    device = devices.settled(device)
    models = {name: bundled.folder(name) for name in trained_on.models_of(spec)}
    weights: dict[str, str | None] = {}
    for name, folder in models.items():
        if folder is None:
            raise ValueError(f"model: expected a bundled one, got {name!r}")
        weights[name] = bundled.weights_of(cards.verified(folder))
    with tempfile.TemporaryDirectory() as empty:
        resolved = store.resolve(spec, Path(empty))
        made = running.runner_for(resolved)(resolved, Path(empty), device=device, on_progress=on_progress)
    card, arrays = {**made.card, "bundled": {"weights": weights}}, made.arrays
    if isinstance(spec, _OF_ALL_IMAGES):
        arrays = {name: first_images(group, KEPT) for name, group in arrays.items()}
        card["bundled"]["images_kept"] = KEPT
    _, data = cards.compose(spec, card, arrays, made.tables)
    before = bundled.folder(spec.model)
    assert before is not None
    there = total() - _size(before / "results" / spec.artifact_name())
    folder = bundled.add_result(spec.model, spec.artifact_name(), data.pop(cards.CARD), data)
    if there + _size(folder) > LARGEST:
        size = _size(folder)
        bundled.drop_result(folder)
        raise ValueError(
            f"bundle: expected at most {LARGEST:,} bytes of results together, got {there:,} and {size:,} of "
            f"{spec.artifact_name()}"
        )
    return Item(spec, folder)


def first_images(group: dict[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
    """The arrays of a result's first n images: those of a group with `index`, along the axis that is as long as it."""
    length = len(group.get("index", ()))
    if length <= n:
        return group
    return {
        name: array.take(range(n), axis=array.shape.index(length)) if length in array.shape else array
        for name, array in group.items()
    }


def _folder(spec: ModelTask) -> Path | None:
    """Where the result of a request is bundled, of the weights that are bundled now."""
    with tempfile.TemporaryDirectory() as empty:
        return store.located(spec, Path(empty))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*")) if folder.is_dir() else 0
