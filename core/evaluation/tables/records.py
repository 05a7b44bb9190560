"""What is known of every image of a model: how near an adversarial example was found, how far none can be.

The record merges every artifact of the model for a norm, and only tightens: `upper` is the smallest distance found by
any attack, `lower` the largest that any certificate proves. Accuracy under attack at any ε is then a lookup, no model
is called: at most the share with `upper` > ε, at least the share with `lower` >= ε.

An image that is neither fooled nor proven at ε counts as robust only where a search at that ε looked at it: one at
this budget, one for the smallest change, or one that failed in a larger ball. Elsewhere nothing is known of it, and the
share is unknown (NaN), as is the proven share where no proof was tried. Every comparison with ε is that of
`core.epsilon`. Imports no torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.checks import check_choice
from core.data import shown
from core.epsilon import SAME, reaches, within
from core.evaluation.tables import paired
from core.evaluation.tables.artifact_bounds import (
    NAMES,
    Look,
    Proofs,
    answers_of,
    bounds_of,
    looks_of,
    norm_of,
    proofs_of,
)
from core.evaluation.tables.metrics import intervals
from core.evaluation.tables.record import Record, Source
from core.specs import DataSpec, ModelSpec
from core.specs.methods.base import NORMS
from core.storage import store

__all__ = ["NORMS", "SEARCHES", "TASKS", "Record", "Source", "common", "curve", "load", "merge", "tests"]
SEARCHES = ("radii", "evaluate", "certify")
"""Tasks about images as such: a record is about all images that any of them was run on in its norm. Sweeps, of
which each is one attack, say so only where there is none of these; attacks on chosen images never do. All tighten."""
TASKS = (*SEARCHES, "sweep", "attack")


def curve(record: Record, eps: Sequence[float] | np.ndarray) -> pd.DataFrame:
    """Accuracy at each ε by lookup in the bounds, as an interval; NaN where it is not known.

    Returns:
        A row an ε: eps, n, `proven` and `attacked` (robust accuracy is at least the one and at most the other), and the
        exact 95 % intervals of both (`proven_low`, `proven_high`, `attacked_low`, `attacked_high`). The accuracy on all
        images of this kind lies, at that level, between `proven_low` and `attacked_high`.

        `attacked` is NaN where nothing is known of some image at that ε (`not_searched`: how many). The share that is
        fooled within ε, `fooled_at_least`, holds at every ε. `proven` is NaN where no proof was tried at that ε or a
        larger one, or where all of them failed at a larger one; `no_proof_tried` counts the images that are neither
        fooled nor proven and of which no proof failed at that ε; `single_attacks` those of which only single attacks
        say that they are not fooled. `passes`: as in `Record.passes`. `note`: what is not
        known and why, "" where all is.

    Raises:
        ValueError: an ε that is negative or not finite.
    """
    values = np.asarray(eps, dtype=np.float64).ravel()
    if (wrong := values[~((values >= 0) & np.isfinite(values))]).size:
        raise ValueError(f"eps: expected finite budgets of 0 or more, got {wrong[0]:g}")
    rows = [_at(record, float(value)) for value in values]
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    n = len(record)
    for name in ("proven", "attacked"):
        known = table[name].notna().to_numpy()
        low, high = intervals(np.where(known, np.rint(table[name].fillna(0).to_numpy() * n), 0), n)
        table[f"{name}_low"], table[f"{name}_high"] = np.where(known, low, np.nan), np.where(known, high, np.nan)
    return table


_INTERVALS = ("proven", "proven_low", "proven_high", "attacked", "attacked_low", "attacked_high")
_COLUMNS = (
    "eps",
    "n",
    *_INTERVALS,
    "fooled_at_least",
    "not_searched",
    "no_proof_tried",
    "single_attacks",
    "passes",
    "note",
)


def _at(record: Record, eps: float) -> dict[str, Any]:
    n, table = max(len(record), 1), record.table
    fooled, unknown = record.fooled(eps), int(record.unknown(eps).sum())
    proven, untried = record.proven(eps), int(record.unproven(eps).sum())
    share, at = float(proven.sum() / n), record.budget(eps)
    # at 0 the model's own answer is the proof
    if at > 0:
        covered = reaches(table["proof_tried"].to_numpy(), at) | within(table["proof_failed"].to_numpy(), at)
        tried = proven.any() or (table["proof_tried"] > 0).any()
        if not (tried and (covered | proven | fooled).all() and (proven.any() or not untried)):
            share = float("nan")
    attacked = float("nan") if unknown or not len(record) else float((~fooled).sum() / n)
    return {
        "eps": eps,
        "n": len(record),
        "proven": share if len(record) else float("nan"),
        "attacked": attacked,
        "fooled_at_least": float(fooled.sum() / n),
        "not_searched": unknown,
        "no_proof_tried": untried,
        "single_attacks": int(record.single(eps).sum()),
        "passes": record.passes(eps),
        "note": _note(record, eps, unknown, untried, np.isnan(share)),
    }


def _note(record: Record, eps: float, unknown: int, untried: int, unproven: bool) -> str:
    """What is not known at ε and why, in words."""
    n, said = len(record), []
    if unknown:
        where = [value for value in record.budgets() if value > 0]
        listed = ", ".join(f"{value:g}" for value in where[:8]) + (", …" if len(where) > 8 else "")
        others = f" (searched at ε = {listed})" if where else ""
        said.append(f"{unknown:,} of {n:,} images were not searched at this ε{others}")
        if fooled := int((record.fooled(eps) & record.table["clean_correct"].to_numpy()).sum()):
            nearest = record.table.loc[record.fooled(eps), "upper"].max()
            said.append(f"at least {fooled:,} correctly classified images are fooled, at distances up to {nearest:.4g}")
    if unproven:
        said.append("no proof was tried at this ε")
    elif untried:
        said.append(f"no proof was tried at this ε for {untried:,} of {n:,} images")
    return "; ".join(said)


def common(records: Sequence[Record]) -> list[Record]:
    """The records of the images that all of them have: what a comparison of models must be made on."""
    shared = set.intersection(*(set(record.table["index"]) for record in records)) if records else set()
    return [record.take(np.array(sorted(shared), dtype=np.int64)) for record in records]


def tests(found: Mapping[str, Record], eps: float) -> pd.DataFrame:
    """McNemar's test of each pair of models on the images that are not fooled at ε; the models are of one data set.

    Only images count that radii, or an evaluation at this ε, searched for both models. Elsewhere an image may count as
    not fooled because no search looked at it. See `paired.pairs`.
    """
    index = pd.Index(next(iter(found.values())).table["index"] if found else [])
    masks = {name: record.looked(eps, hard=True) for name, record in found.items()}
    if all(masks[name].all() and index.equals(pd.Index(record.table["index"])) for name, record in found.items()):
        right = {name: pd.Series(record.robust(eps), index=index) for name, record in found.items()}
        return paired.pairs(right, {name: record.search for name, record in found.items()})
    looked = {name: record.table.loc[masks[name], "index"].to_numpy() for name, record in found.items()}
    rows = []
    for pair in itertools.combinations([name for name in found if len(looked[name])], 2):
        shared = np.intersect1d(looked[pair[0]], looked[pair[1]])
        taken = {name: found[name].take(shared) for name in pair if len(shared)}
        right = {name: pd.Series(part.robust(eps), index=part.table["index"]) for name, part in taken.items()}
        rows.append(paired.pairs(right, {name: part.search for name, part in taken.items()}))
    return paired.corrected(pd.concat(rows, ignore_index=True)) if rows else paired.pairs({})


def load(model_id: str, norm: str, root: Path, *, n: int | None = None, data: DataSpec | None = None) -> Record | None:
    """Merge all that the store holds of a model in one norm; None where neither sweep nor search was run in it.

    Args:
        model_id: id of a saved model.
        norm: linf, l2, l1 or l0.
        root: the store's folder.
        n: only the first n images.
        data: the images that it is about; None: the model's own. Results on others have no part in it.

    Raises:
        ValueError: an unknown norm or model, no images, or `data` that the model cannot be shown. A damaged artifact is
            set aside by the store and left out.
    """
    check_choice("norm", norm, NORMS)
    if n is not None and n < 1:
        raise ValueError(f"n: expected 1 or more images, got {n}")
    model = store.open_model(model_id, root)
    return merge(model, norm, store.results(model.id, root, *TASKS, data=data), n=n)


def merge(
    model: store.Artifact, norm: str, artifacts: Sequence[store.Artifact], *, n: int | None = None
) -> Record | None:
    """The record of these artifacts of one model, all of them about the same data set; see `load`.

    Raises ValueError where they are about several: there the same numbers are other images.
    """
    data = _one_data_set(artifacts)
    ours, left_out = _same_images(artifacts, model, data)
    read = [(artifact, bounds) for artifact in ours if (bounds := bounds_of(artifact, norm)) is not None]
    images = _images(read, norm)
    if images is None:
        return None
    tests = _unchanged(model, data, [artifact for artifact, _ in read], images).iloc[:n]
    y, right = tests["y"].to_numpy(), tests["right"].to_numpy()
    size = len(y)
    upper, lower = np.where(right, np.inf, 0.0), np.zeros(size)
    found_by = np.where(right, "", NAMES["clean"]).astype(object)
    found_in, proven_in = np.full(size, "", dtype=object), np.full(size, "", dtype=object)
    spent = {name: np.zeros(size, dtype=np.int64) for name in ("forwards", "backwards")}
    looked: dict[str, np.ndarray] = {}
    looks: list[Look] = []
    proofs: list[Proofs] = []
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
            mine = looks_of(artifact, norm)
            looks += mine
            proofs += [made] if (made := proofs_of(artifact, norm)) is not None else []
            sources.append(_source(artifact, bounds))
            if (text := sources[-1].search) and sources[-1].norm == norm:
                looked[text] = looked.get(text, False) | covered
    tried, failed = _proof_reach(proofs, tests.index)
    stood, smallest = _stood(looks, tests.index, upper)
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
            "stood": stood,
            "smallest": smallest,
            "proof_tried": tried,
            "proof_failed": failed,
        }
    )
    wrong = (lower >= upper) & right  # at the same ε, too: both are about the closed ball
    columns = ["index", "y", "lower", "upper", "found_by", "found_in", "proven_in"]
    contradictions = table.loc[wrong, columns].reset_index(drop=True)
    # the example was confirmed by a forward pass: what is proven must end before it, as `reaches` reads it
    table["lower"] = np.minimum(lower, upper * (1 - 4 * SAME))
    counted = tuple(
        replace(source, uppers=int((found_in == source.id).sum()), lowers=int((proven_in == source.id).sum()))
        for source in sources
    )
    spec = model.spec()
    assert isinstance(spec, ModelSpec)
    return Record(
        model.id,
        str(data or spec.data),
        norm,
        table,
        counted,
        contradictions,
        left_out,
        tuple(looks),
        shown.title(data or spec.data),
    )


def _stood(looks: Sequence[Look], index: pd.Index, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`stood` and `smallest` of a record's table.

    A search at ε' that did not fool an image looked in every smaller ball, too. One that did, at a distance d, says
    nothing of ε < d: it was content with the first example in its ball.
    """
    stood, smallest = np.zeros(len(index)), np.zeros(len(index), dtype=bool)
    for look in looks:
        there = index.isin(look.index)
        if look.eps is None:
            stood[there], smallest = np.inf, smallest | there
        else:
            missed = there & ~within(upper, look.eps)
            stood[missed] = np.maximum(stood[missed], look.eps)
    return stood, smallest


def _proof_reach(proofs: Sequence[Proofs], index: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """`proof_tried` and `proof_failed` of a record's table."""
    tried, failed = np.zeros(len(index)), np.full(len(index), np.inf)
    for made in proofs:
        place = pd.Index(made.index).get_indexer(index)
        there = place >= 0
        tried[there] = np.maximum(tried[there], made.tried)
        failed[there] = np.minimum(failed[there], made.failed[place[there]])
    return tried, failed


def _images(read: Sequence[tuple[store.Artifact, pd.DataFrame]], norm: str) -> np.ndarray | None:
    """The images that the record is about (see `SEARCHES`): those of the artifact with most of them, then the rest."""
    for tasks in (SEARCHES, ("sweep",)):
        tables = [bounds for artifact, bounds in read if artifact.card["task"] in tasks and norm_of(artifact) == norm]
        if tables:
            return pd.unique(np.concatenate([table.index for table in sorted(tables, key=len, reverse=True)]))
    return None


def _one_data_set(artifacts: Sequence[store.Artifact]) -> DataSpec | None:
    """The data set that these artifacts are about; None: the model's own. Raises ValueError where there are several."""
    found = list(dict.fromkeys(store.data_of(artifact) for artifact in artifacts))
    if len(found) > 1:
        named = ", ".join("the model's own" if data is None else data.slug() for data in found)
        raise ValueError(f"artifacts: expected results on the images of one data set, got several ({named})")
    return found[0] if found else None


def _same_images(
    artifacts: Sequence[store.Artifact], model: store.Artifact, data: DataSpec | None
) -> tuple[list[store.Artifact], tuple[str, ...]]:
    """The artifacts about the very images that the model was trained on, and the ids of the others.

    Of another data set than the model's, about the images of the newest artifact.
    """
    newest = max(artifacts, key=lambda artifact: str(artifact.card["created"]), default=model)
    prints = {part.id: part.card.get("data", {}).get("fingerprint") for part in (model, *artifacts)}
    wanted = prints[model.id if data is None else newest.id]
    ours = [artifact for artifact in artifacts if prints[artifact.id] in (None, wanted)]
    return ours, tuple(artifact.id for artifact in artifacts if prints[artifact.id] not in (None, wanted))


def _unchanged(
    model: store.Artifact, data: DataSpec | None, read: Sequence[store.Artifact], images: np.ndarray
) -> pd.DataFrame:
    """By index `y` and `right`, whether the model classifies the unchanged image correctly.

    Of the model's own images its test table knows it; of others the artifacts do, and images of which none says it are
    left out.
    """
    if data is None:
        tests = model.table("test").set_index("index").loc[images]
        return pd.DataFrame({"y": tests["y"], "right": tests["pred"] == tests["y"]})
    known = pd.concat([answers_of(artifact) for artifact in read])
    known = known[~known.index.duplicated()]
    return known.loc[[index for index in images if index in known.index]]


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
