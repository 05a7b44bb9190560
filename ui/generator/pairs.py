"""What a generator attack made: its pairs of image and target, from one stored run or from several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from core import specs
from core.storage import store
from ui.app import sources

METHODS = ("generator", "generator_strong")
"""The two modes of the attack, by the names of their methods."""


class Summary(NamedTuple):
    """Figures of the pairs that count. Medians are over the successes, NaN where there is none.

    `confidence` is the probability of the target, `linf` the largest change of a pixel in [0, 1].
    """

    won: int
    n: int
    l2: float
    linf: float
    confidence: float


@dataclass(frozen=True)
class Pairs:
    """The pairs of image and target of an attack, ordered by image, then by target.

    Attributes:
        arrays: x, x_adv (N, C, H, W) in [0, 1], probabilities before and after (N, K), traces (rounds, N).
        table: a row for each pair, as the attack's table `images`.
        names: of the classes.
    """

    arrays: dict[str, np.ndarray]
    table: pd.DataFrame
    names: Sequence[str]

    @classmethod
    def of(cls, *results: store.Artifact) -> Pairs:
        """The pairs of saved attacks on the same images with the same settings, each towards other targets."""
        tables = [result.table("images") for result in results]
        arrays = [result.arrays("images") for result in results]
        table = pd.concat(tables, ignore_index=True)
        images = {index: place for place, index in enumerate(dict.fromkeys(tables[0]["index"]))}
        order = np.lexsort((table["target"], table["index"].map(images)))
        joined = {
            name: np.concatenate([part[name] for part in arrays], axis=_axis(name)).take(order, axis=_axis(name))
            for name in arrays[0]
        }
        table = table.iloc[order].reset_index(drop=True)
        table["row"] = np.arange(len(table))
        return cls(joined, table, results[0].card["class_names"])

    @property
    def targets(self) -> list[int]:
        """Target classes that are known, in order."""
        return sorted(int(target) for target in self.table["target"].unique())

    @property
    def samples(self) -> list[int]:
        """The first row of each image, in order."""
        return [int(row) for row in self.table.drop_duplicates("index")["row"]]

    def row(self, sample: int, target: int) -> int | None:
        """The row of the image at this place with this target; None where it is not known."""
        index = self.table["index"].iloc[self.samples[sample]]
        found = self.table.loc[(self.table["index"] == index) & (self.table["target"] == target), "row"]
        return int(found.iloc[0]) if len(found) else None

    def summary(self, target: int | None = None) -> Summary:
        """The figures of all pairs, or of those with this target."""
        table = self.table if target is None else self.table[self.table["target"] == target]
        right = table[counted(table)]
        won = right[right["success"]]
        reached = self.arrays["probabilities"][won["row"], won["target"]]
        medians = (float(np.median(values)) if len(won) else np.nan for values in (won["l2"], won["linf"], reached))
        return Summary(len(won), len(right), *medians)


def _axis(name: str) -> int:
    """The axis of an array that runs over the pairs."""
    return 1 if name.startswith("trace_") else 0


def counted(table: pd.DataFrame) -> pd.Series:
    """Which rows count: the image was classified correctly before, and the target is another class."""
    return (table["target"] != table["y"]) & (table["pred_clean"] == table["y"])


# ---------------------------------------------------------------- what is stored


def spec_of(result: store.Artifact) -> specs.AttackSpec:
    """The request of a stored attack."""
    spec = result.spec()
    assert isinstance(spec, specs.AttackSpec)
    return spec


def known(spec: specs.AttackSpec) -> list[store.Artifact]:
    """The stored runs of these settings: the one with every target, else those with one target each, else none."""
    every = sources.artifact(spec.model_copy(update={"target": "all"}))
    if every is not None:
        return [every]
    found: dict[str | int, store.Artifact] = {}
    for result in grids(spec):
        target = spec_of(result).target
        if spec_of(result) == spec.model_copy(update={"target": target}):
            found.setdefault(target, result)
    return list(found.values())


def grids(spec: specs.AttackSpec) -> list[store.Artifact]:
    """All stored generator attacks on chosen images of the same model and data, newest first."""
    return [result for result in sources.results(spec.model, "attack", data=spec.data) if is_grid(result)]


def is_grid(result: store.Artifact) -> bool:
    """Whether a stored result is a generator attack on chosen images."""
    spec = result.spec()
    return isinstance(spec, specs.AttackSpec) and spec.attack.slug() in METHODS and spec.indices is not None


def instead(spec: specs.AttackSpec) -> store.Artifact | None:
    """A stored grid with other settings, to show until these are drawn: of the same mode, with the most pairs."""

    def rank(result: store.Artifact) -> tuple[bool, bool, int]:
        theirs = spec_of(result)
        return theirs.attack.slug() == spec.attack.slug(), theirs.target == "all", len(theirs.indices or ())

    own = grids(spec.model_copy(update={"data": None}))  # what was drawn on the model's own images
    return max(grids(spec) or own, key=rank, default=None)


def differences(shown: specs.AttackSpec, wanted: specs.AttackSpec) -> str:
    """What differs between two requests, such as `rounds 100 instead of 200, other samples`."""
    if shown.attack.slug() != wanted.attack.slug():
        parts = [f"{shown.attack.title} instead of {wanted.attack.title}"]
    else:
        ours, theirs = wanted.attack.model_dump(), shown.attack.model_dump()
        other = [name for name in ours if ours[name] != theirs[name]]
        parts = [f"{_field(shown, name)} {theirs[name]} instead of {ours[name]}" for name in other]
    if shown.data != wanted.data:
        parts.append("other images")
    elif shown.indices != wanted.indices:
        parts.append("other samples")
    if shown.seed != wanted.seed:
        parts.append(f"seed {shown.seed} instead of {wanted.seed}")
    return ", ".join(parts)


def _field(spec: specs.AttackSpec, name: str) -> str:
    return str(type(spec.attack).model_fields[name].title or name).lower()


def rows_of(spec: specs.AttackSpec, classes: int) -> int:
    """How many images a request draws, those towards an image's own class included."""
    return len(spec.indices or ()) * (classes if spec.target == "all" else 1)


def wrong_pairs(labels: Iterable[int], targets: Iterable[int]) -> int:
    """How many pairs of label and target are of different classes: those that count."""
    wanted = list(targets)
    return sum(label != target for label in labels for target in wanted)


def noun(names: Sequence[str]) -> str:
    """What the images are called: `digits` where the classes are, else `images`."""
    return "digits" if all(name.isdigit() for name in names) else "images"
