"""What a store holds that answers an exercise: saved models and their results, your own and the bundled ones.

Only cards are read here. Nothing imports torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core import specs
from core.data import shown
from core.epsilon import same
from core.specs.tasks import MODELS
from core.storage import bundled, store

RESULTS = tuple(name for name in specs.TASKS if name not in (*MODELS, "compare"))
"""The tasks whose results lie with a model."""

Stamp = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Found:
    """A saved model, or a result on one.

    Attributes:
        artifact: the artifact itself.
        spec: what it was made from.
        model: what its model was made from: its training, or its import.
        bundled: whether it came with the project: not trained, or not run, by you.
        saved: the artifact of its model; of a model, the artifact itself.
    """

    artifact: store.Artifact
    spec: specs.Task
    model: specs.ModelSpec
    bundled: bool
    saved: store.Artifact

    @property
    def data(self) -> specs.DataSpec:
        """The data set whose test images were used."""
        return getattr(self.spec, "data", None) or self.model.data

    @property
    def attack(self) -> Any:
        """The attack, or the method of a universal perturbation; None for a model."""
        return getattr(self.spec, "attack", None) or getattr(self.spec, "method", None)

    def name(self) -> str:
        """The model in words, such as `MNIST · LeNet · FGSM-trained`."""
        if isinstance(self.model, specs.ImportSpec):
            return f"{shown.title(self.model.data)} · {self.model.label} · {specs.IMPORTED}"
        one = ", one output" if self.model.scalar else ""
        network = specs.NETWORKS[self.model.network].called
        return f"{shown.title(self.model.data)} · {network}{one} · {self.model.recipe.kind()}"

    def provenance(self) -> str:
        """Where its figures come from, in a line: model, images, attack, seed, n, id, day."""
        parts = [f"model {self.name()}", f"{shown.title(self.data)} test images"]
        if self.attack is not None and not isinstance(self.attack, str):
            parts.append(self.attack.title)
        eps = getattr(self.spec, "eps", None)
        if isinstance(eps, tuple):
            parts.append(f"ε {min(eps):g} to {max(eps):g}")
        elif eps is not None:
            parts.append(f"ε {eps:g}")
        seed = getattr(self.spec, "seed", None)
        parts += [] if seed is None else [f"seed {seed}"]
        n = count(self.artifact)
        parts += [] if n is None else [f"n = {n:,}"]
        parts += [self.artifact.id, f"made {str(self.artifact.card.get('created', ''))[:10]}"]
        return " · ".join([*parts, "bundled"] if self.bundled else parts)


@dataclass(frozen=True)
class Reading:
    """A figure that was read from the store: its value, the ends of its 95 % interval if it has one, n, and whence."""

    value: float
    low: float | None
    high: float | None
    n: int | None
    found: Found


@dataclass(frozen=True)
class Evidence:
    """All models and results of a store, your own first, each kind newest first; and what is noted by hand."""

    models: tuple[Found, ...] = ()
    results: tuple[Found, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)

    def all(self, task: type[specs.Spec], fits: Callable[[Found], bool] = lambda found: True) -> list[Found]:
        """Everything made by this kind of task that fits, your own first."""
        kind = self.models if issubclass(task, specs.ModelSpec) else self.results
        return [found for found in kind if isinstance(found.spec, task) and fits(found)]

    def first(self, task: type[specs.Spec], fits: Callable[[Found], bool] = lambda found: True) -> Found | None:
        """The one that counts: your newest, else a bundled one; None where there is none."""
        return next(iter(self.all(task, fits)), None)


def gather(root: Path, notes: dict[str, Any] | None = None) -> Evidence:
    """Read the cards of all models and results in the store at `root`, and of the bundled ones."""
    models, results = [], []
    for saved in store.models(root):
        made = saved.spec()
        assert isinstance(made, specs.ModelSpec)
        models.append(Found(saved, made, made, bundled.is_copy(saved.card), saved))
        for result in store.all_results(saved.id, root, *RESULTS):
            results.append(Found(result, result.spec(), made, _is_bundled(result), saved))
    return Evidence(_own_first(models), _own_first(results), notes or {})


def stamp(root: Path) -> Stamp:
    """What changes when a model or a result is added to the store, or taken away: cheap to look at."""
    found = []
    for where in (Path(root), bundled.root()):
        for folder in _folders(where):
            for place in (folder, folder / "results"):
                try:
                    found.append((str(place), place.stat().st_mtime_ns))
                except OSError:
                    continue
    return tuple(sorted(found))


def count(artifact: store.Artifact) -> int | None:
    """How many images an artifact's figures rest on; None where its card does not say."""
    card = artifact.card
    metrics = card.get("metrics") or {}
    rows = card.get("rows") or [{}]
    for value in (metrics.get("test_n"), metrics.get("n"), card.get("n"), rows[0].get("n")):
        if value is not None:
            return int(value)
    return None


def row_at(found: Found, eps: float) -> dict[str, Any] | None:
    """The row of a sweep at exactly this ε; None where it was not run."""
    return next((row for row in found.artifact.card["rows"] if same(row["eps"], eps)), None)


def of_row(found: Found | None, eps: float, column: str = "accuracy") -> Reading | None:
    """A figure of a sweep at one ε. Only the accuracy has an interval."""
    row = None if found is None else row_at(found, eps)
    if found is None or row is None or row.get(column) is None:
        return None
    ends = (row.get("low"), row.get("high")) if column == "accuracy" else (None, None)
    return Reading(float(row[column]), *ends, int(row["n"]), found)


def of_metric(found: Found | None, name: str, *, interval: tuple[str, str] | None = None) -> Reading | None:
    """A figure of a card's `metrics`; `interval` names its two ends there."""
    metrics = {} if found is None else found.artifact.card.get("metrics") or {}
    if found is None or metrics.get(name) is None:
        return None
    low, high = (metrics.get(end) for end in interval) if interval else (None, None)
    return Reading(float(metrics[name]), low, high, count(found.artifact), found)


def test_accuracy(found: Found | None) -> Reading | None:
    """A model's accuracy on its whole test set."""
    return of_metric(found, "test_accuracy", interval=("test_low", "test_high"))


def of_measurement(found: Found | None, measure: str, column: str = "value") -> Reading | None:
    """A figure of what was measured on a bundled model when it was made; None for other models."""
    if found is None or "measurements.parquet" not in found.artifact.card["files"]:
        return None
    try:
        table = found.artifact.table("measurements")
    except (store.DamagedArtifact, ValueError, OSError):
        return None
    row = table[table["measure"] == measure]
    if not len(row) or row[column].isna().all():
        return None
    first = row.iloc[0]
    low, high = (float(first[end]) if column == "value" else None for end in ("low", "high"))
    return Reading(float(first[column]), low, high, int(first["n"]), found)


def _is_bundled(result: store.Artifact) -> bool:
    where = bundled.root()
    return where is not None and where.resolve() in result.folder.resolve().parents


def _own_first(found: Iterable[Found]) -> tuple[Found, ...]:
    def place(one: Found) -> tuple[bool, bool]:
        return one.bundled, one.data.dataset != "mnist" if one.bundled else False

    newest = sorted(found, key=lambda one: str(one.artifact.card.get("created", "")), reverse=True)
    return tuple(sorted(newest, key=place))


def _folders(where: Path | None) -> list[Path]:
    try:
        with os.scandir(where) if where is not None else os.scandir(os.devnull) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return []
