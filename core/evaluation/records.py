"""What is known of every image of a model: how near an adversarial example was found, how far none can be.

The record merges every artifact of the model for a norm, and only tightens: `upper` is the smallest distance found by
any attack, `lower` the largest that any certificate proves. Accuracy under attack at any ε is then a lookup, no model
is called: at most the share with `upper` > ε, at least the share with `lower` >= ε. Imports no torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core import store
from core.evaluation import paired
from core.evaluation.artifact_bounds import NAMES, NORMS, bounds_of, norm_of
from core.evaluation.metrics import intervals
from core.specs import TrainSpec

SEARCHES = ("radii", "evaluate", "certify")
"""Tasks that speak of images as such: a record is about all images that any of them was run on in its norm. Sweeps, of
which each is one attack, say so only where there is none of these; attacks on chosen images never do. All tighten."""
TASKS = (*SEARCHES, "sweep", "attack")
SAME = 1e-12
"""Relative; an ε that is asked for is a bound's own if they differ by no more: 3 · 0.1 is not 0.3 in floating point."""


@dataclass(frozen=True)
class Source:
    """An artifact that a record rests on, and of how many images it gave the bound that counts."""

    id: str
    task: str
    norm: str
    eps: float | None
    n: int
    passes: float
    uppers: int = 0
    lowers: int = 0
    search: str = ""
    """Of radii and evaluations: how hard they looked, such as `radii of 200 passes`."""


@dataclass(frozen=True)
class Record:
    """Bounds of every image in one norm.

    Attributes:
        model: id of the model.
        data: the data set and the classes that its images are of; only in the same one do indices name the same images.
        norm: linf, l2, l1 or l0.
        table: a row an image, in the test set's fixed order: index, y, clean_correct, lower (0 where nothing is
            proven), upper (inf where nothing was found, 0 where the image is wrong as it is), found_by, found_in and
            proven_in (ids of artifacts, "" for none), forwards and backwards (all that was spent on it), search (the
            radii and evaluations in this norm that looked at it, in words, "" for none).
        sources: what it was merged from.
        contradictions: the images for which a certificate and a verified adversarial example disagree, with both bounds
            and where they come from: a bug in one of the two. The example counts, since a forward pass confirms it.
        left_out: ids of artifacts that were made from other data than the model's, so that their images are others.
    """

    model: str
    data: str
    norm: str
    table: pd.DataFrame
    sources: tuple[Source, ...]
    contradictions: pd.DataFrame
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def uppers(self) -> np.ndarray:
        """The distances found, sorted."""
        return np.sort(self.table["upper"].to_numpy())

    @cached_property
    def lowers(self) -> np.ndarray:
        """The proven radii, sorted; below 0 for images that are wrong as they are."""
        return np.sort(np.where(self.table["clean_correct"], self.table["lower"], -1.0))

    def robust(self, eps: float) -> np.ndarray:
        """(n,) bool: still standing at ε, whatever was tried."""
        return self.table["upper"].to_numpy() > eps * (1 + SAME)

    def proven(self, eps: float) -> np.ndarray:
        """(n,) bool: proven to stand at ε."""
        return (self.table["lower"].to_numpy() >= eps * (1 - SAME)) & self.table["clean_correct"].to_numpy()

    @cached_property
    def searched(self) -> bool:
        """Whether radii or an evaluation in this norm looked at every image; sweeps alone may be weak attacks."""
        return bool((self.table["search"] != "").all())

    @cached_property
    def search(self) -> str:
        """How hard radii and evaluations in this norm looked, in words; equal for models that were searched alike."""
        counts = self.table["search"].value_counts()
        if len(counts) <= 1:
            return str(next(iter(counts.index), ""))
        return "; ".join(f"{text or 'single attacks'} on {count:,} images" for text, count in counts.items())

    def median(self) -> float:
        """Median distance found, over the images that are read correctly; inf where most were never fooled."""
        held = self.table.loc[self.table["clean_correct"], "upper"]
        return float(held.median()) if len(held) else float("nan")

    def take(self, index: np.ndarray) -> Record:
        """The record of some of its images, in its own order; `index` names each once."""
        if len(index) == len(self) and np.isin(self.table["index"], index).all():
            return self
        return replace(self, table=self.table[self.table["index"].isin(index)].reset_index(drop=True))


def curve(record: Record, eps: Sequence[float] | np.ndarray) -> pd.DataFrame:
    """Accuracy at each ε by lookup in the sorted bounds, as an interval.

    Returns:
        A row an ε: eps, n, `proven` (at least so many stand) and `attacked` (at most so many), and the exact 95 %
        intervals of both (`proven_low`, `proven_high`, `attacked_low`, `attacked_high`). What holds for the model on
        all images of its kind lies, at that level, between `proven_low` and `attacked_high`.
    """
    at, n = np.asarray(eps, dtype=np.float64), len(record)
    attacked = n - np.searchsorted(record.uppers, at * (1 + SAME), side="right")
    proven = n - np.searchsorted(record.lowers, at * (1 - SAME), side="left")
    columns: dict[str, Any] = {"eps": at, "n": n}
    for name, hits in (("proven", proven), ("attacked", attacked)):
        low, high = intervals(hits, n)
        columns |= {name: hits / max(n, 1), f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame(columns)


def common(records: Sequence[Record]) -> list[Record]:
    """The records of the images that all of them have: what a comparison of models must be made on."""
    shared = set.intersection(*(set(record.table["index"]) for record in records)) if records else set()
    return [record.take(np.array(sorted(shared), dtype=np.int64)) for record in records]


def tests(found: Mapping[str, Record], eps: float) -> pd.DataFrame:
    """McNemar's test of each pair of models on what stands at ε (see `paired.pairs`), of models of one data set.

    On the images that radii or an evaluation looked at for both; elsewhere an image may stand because nobody tried.
    """
    index = pd.Index(next(iter(found.values())).table["index"] if found else [])
    if all(record.searched and index.equals(pd.Index(record.table["index"])) for record in found.values()):
        right = {name: pd.Series(record.robust(eps), index=index) for name, record in found.items()}
        return paired.pairs(right, {name: record.search for name, record in found.items()})
    looked = {
        name: record.table.loc[record.table["search"] != "", "index"].to_numpy() for name, record in found.items()
    }
    rows = []
    for pair in itertools.combinations([name for name in found if len(looked[name])], 2):
        shared = np.intersect1d(looked[pair[0]], looked[pair[1]])
        taken = {name: found[name].take(shared) for name in pair if len(shared)}
        right = {name: pd.Series(part.robust(eps), index=part.table["index"]) for name, part in taken.items()}
        rows.append(paired.pairs(right, {name: part.search for name, part in taken.items()}))
    return paired.corrected(pd.concat(rows, ignore_index=True)) if rows else paired.pairs({})


def load(model_id: str, norm: str, root: Path, *, n: int | None = None) -> Record | None:
    """Merge all that the store holds of a model in one norm; None where neither sweep nor search was run in it.

    Args:
        model_id: id of a saved model.
        norm: linf, l2, l1 or l0.
        root: the store's folder.
        n: only the first n images.

    Raises:
        ValueError: an unknown norm or model. A damaged artifact is set aside by the store and left out.
    """
    if norm not in NORMS:
        raise ValueError(f"norm: expected one of {', '.join(NORMS)}, got {norm!r}")
    model = store.open_model(model_id, root)
    return merge(model, norm, store.results(model.id, root, *TASKS), n=n)


def merge(
    model: store.Artifact, norm: str, artifacts: Sequence[store.Artifact], *, n: int | None = None
) -> Record | None:
    """The record of these artifacts of one model; see `load`."""
    ours = [artifact for artifact in artifacts if _same_data(artifact, model)]
    read = [(artifact, bounds) for artifact in ours if (bounds := bounds_of(artifact, norm)) is not None]
    images = _images(read, norm)
    if images is None:
        return None
    tests = model.table("test").set_index("index").loc[images[:n]]
    y, right = tests["y"].to_numpy(), (tests["pred"] == tests["y"]).to_numpy()
    size = len(y)
    upper, lower = np.where(right, np.inf, 0.0), np.zeros(size)
    found_by = np.where(right, "", NAMES["clean"]).astype(object)
    found_in, proven_in = np.full(size, "", dtype=object), np.full(size, "", dtype=object)
    spent = {name: np.zeros(size, dtype=np.int64) for name in ("forwards", "backwards")}
    looked: dict[str, np.ndarray] = {}
    sources = []
    for artifact, bounds in read:
        here = bounds.reindex(tests.index)
        nearer = (here["upper"] < upper).to_numpy()
        farther = (here["lower"] > lower).to_numpy() & right
        upper[nearer], lower[farther] = here["upper"].to_numpy()[nearer], here["lower"].to_numpy()[farther]
        found_by[nearer], found_in[nearer] = here["found_by"].to_numpy()[nearer], artifact.id
        proven_in[farther] = artifact.id
        for name, total in spent.items():
            total += here[name].fillna(0).to_numpy().astype(np.int64)
        covered = here["upper"].notna().to_numpy()
        if covered.any():
            sources.append(_source(artifact, bounds))
            if (text := sources[-1].search) and sources[-1].norm == norm:
                looked[text] = looked.get(text, False) | covered
    table = pd.DataFrame(
        {
            "index": tests.index.to_numpy(),
            "y": y,
            "clean_correct": right,
            "lower": lower,
            "upper": upper,
            "found_by": found_by,
            "found_in": found_in,
            "proven_in": proven_in,
            **spent,
            "search": _joined(looked, size),
        }
    )
    wrong = (lower >= upper) & right  # at the same ε, too: both speak of the closed ball
    columns = ["index", "y", "lower", "upper", "found_by", "found_in", "proven_in"]
    contradictions = table.loc[wrong, columns].reset_index(drop=True)
    # the example was confirmed by a forward pass: what is proven must end before it
    table["lower"] = np.minimum(lower, upper * (1 - 4 * SAME))
    counted = tuple(
        replace(source, uppers=int((found_in == source.id).sum()), lowers=int((proven_in == source.id).sum()))
        for source in sources
    )
    spec = model.spec()
    assert isinstance(spec, TrainSpec)
    left_out = tuple(artifact.id for artifact in artifacts if not _same_data(artifact, model))
    return Record(model.id, str(spec.data), norm, table, counted, contradictions, left_out)


def _images(read: Sequence[tuple[store.Artifact, pd.DataFrame]], norm: str) -> np.ndarray | None:
    """The images that the record is about (see `SEARCHES`): those of the artifact with most of them, then the rest."""
    for tasks in (SEARCHES, ("sweep",)):
        tables = [bounds for artifact, bounds in read if artifact.card["task"] in tasks and norm_of(artifact) == norm]
        if tables:
            return pd.unique(np.concatenate([table.index for table in sorted(tables, key=len, reverse=True)]))
    return None


def _same_data(artifact: store.Artifact, model: store.Artifact) -> bool:
    """Whether an artifact's images are the model's: in another data set the same numbers are other images."""
    made_from, trained_on = (part.card.get("data", {}).get("fingerprint") for part in (artifact, model))
    return made_from is None or made_from == trained_on


def _joined(looked: dict[str, np.ndarray], size: int) -> np.ndarray:
    """For each image the texts whose mask holds it, in one line."""
    made = np.full(size, "", dtype=object)
    for text in sorted(looked):
        made[looked[text]] += np.where(made[looked[text]] == "", text, f", {text}")
    return made


def _source(artifact: store.Artifact, bounds: pd.DataFrame) -> Source:
    passes = float((bounds["forwards"] + bounds["backwards"]).mean())
    eps = artifact.card.get("eps", artifact.card["spec"].get("eps"))
    return Source(
        id=artifact.id,
        task=artifact.card["task"],
        norm=norm_of(artifact),
        eps=float(eps) if isinstance(eps, int | float) else None,
        n=len(bounds),
        passes=passes,
        search=_search(artifact),
    )


def _search(artifact: store.Artifact) -> str:
    spec = artifact.card["spec"]
    if artifact.card["task"] == "radii":
        return f"radii of {spec['budget']} passes"
    if artifact.card["task"] == "evaluate":
        return f"evaluation {spec['effort']} at ε {spec['eps']:g}"
    return ""
