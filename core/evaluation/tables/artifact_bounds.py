"""What one artifact says about each image: how near an adversarial example was found, and how far none can be.

An artifact in one norm bounds the others, too: a change δ inside the box has ‖δ‖∞ ≤ ‖δ‖₂ ≤ ‖δ‖₁ ≤ ‖δ‖₀. So distances
bound every smaller norm from above, and proven radii every larger norm from below (`NORMS` is in that order). A search
says something about its own norm only: what was not found there may be in the larger ball of another. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from core.epsilon import reaches
from core.specs import METHODS
from core.specs.methods.base import NORMS
from core.storage import store

ROUNDING = 1e-6
"""Relative; a distance that is above ε by no more is float32's rounding of ε itself. In what older versions stored."""
COARSE = 1e-3
"""The same of float16."""
SMALLEST = (
    "minimum",
    "fmn",
    "ddn",
    "deepfool",
    "fab",
    "pdpgd",
    "carlini_wagner",
    "ead",
    "sigma_zero",
    "hop_skip_jump",
    "jacobian_sparse",
)
"""Attacks that look for the smallest change with all features free: they hold for every ε, as radii do."""

NAMES = {
    **{name: method.title for name, method in METHODS.items()},
    "generator_attack": METHODS["generator"].title,
    "clean": "clean image",
    "greedy": METHODS["jacobian_sparse"].title,
    "sigma-zero": METHODS["sigma_zero"].title,
    "milp": "MILP",
}
"""What found an image, as runs call it → as people read it; names that are missing here are readable as they are."""


def norm_of(artifact: store.Artifact) -> str:
    """The norm that an artifact's ε, or its search, is measured in."""
    said = artifact.card.get("norm") or artifact.card["spec"].get("norm")
    if said:
        return str(said)
    method = artifact.card["spec"].get("attack", {})
    return str(method.get("norm") or METHODS[method["name"]].norms[0])


@dataclass(frozen=True, eq=False)
class Look:
    """A search for adversarial examples at one budget: which images it looked at, and what it cost.

    Attributes:
        id: of the artifact.
        task: what made it.
        eps: the budget; None for a search for the smallest change, which holds for every ε.
        index: (n,) the images.
        passes: (n,) forward and backward passes spent on each for this budget; NaN where they were not counted.
        text: how hard it looked, in words, for radii and evaluations; "" for a single attack, which may be a weak one.
        effort: effort level of an evaluation, else "".
        trust: what the reliability checks of an evaluation said, as in its card; else None.
        robust: how many images an evaluation left correctly classified: what its checks are about.
    """

    id: str
    task: str
    eps: float | None
    index: np.ndarray
    passes: np.ndarray
    text: str = ""
    effort: str = ""
    trust: dict[str, Any] | None = None
    robust: int = 0


@dataclass(frozen=True, eq=False)
class Proofs:
    """An attempt to prove images safe.

    Attributes:
        index: (n,) the images.
        tried: the largest ε at which a proof was tried; inf for a search for the largest proven radius.
        failed: (n,) an ε from which on the attempt did not prove the image; inf where it did, or where it was made in
            another norm, of which failure says nothing.
    """

    index: np.ndarray
    tried: float
    failed: np.ndarray


def looks_of(artifact: store.Artifact, norm: str) -> list[Look]:
    """The searches in `norm` that an artifact with `bounds_of` holds: one a budget. Bounds alone search for nothing."""
    card, spec = artifact.card, artifact.card["spec"]
    task = card["task"]
    parts_only = spec.get("target") not in (None, "any") or spec.get("mask") or spec.get("eight_bit")
    if parts_only or norm_of(artifact) != norm:
        return []  # a target class, a mask or 8 bits leave most of the ball out
    table = artifact.table("images")
    index = table["index"].to_numpy()
    if task == "sweep":
        return [
            Look(artifact.id, task, float(part["eps"].iloc[0]), part["index"].to_numpy(), _passes(part))
            for _, part in table.groupby("eps", sort=True)
        ]
    if task == "attack":
        name = spec["attack"]["name"]
        if METHODS[name].needs_eps:
            return [Look(artifact.id, task, float(spec["eps"]), index, _passes(table))]
        return [Look(artifact.id, task, None, index, _passes(table))] if name in SMALLEST else []
    if task == "certify":
        if spec.get("method") != "exact":
            return []
        return [Look(artifact.id, task, float(spec["eps"]), index, np.full(len(index), np.nan))]
    if task == "radii":
        return [Look(artifact.id, task, None, index, _passes(table), f"radii of {spec['budget']} passes")]
    eps, effort = float(spec["eps"]), str(spec["effort"])
    text = f"evaluation {effort} at ε {eps:g}"
    robust = int(np.isinf(table["upper"].to_numpy(dtype=np.float64)).sum())
    return [Look(artifact.id, task, eps, index, _passes(table), text, effort, card.get("trust"), robust)]


def proofs_of(artifact: store.Artifact, norm: str) -> Proofs | None:
    """What an artifact with `bounds_of` tried to prove in `norm`, or in a norm whose ball holds this norm's; or None.

    Cards from before `certificate` was in them do not say whether bounds were tried: then they were where one holds.
    """
    card, own = artifact.card, norm_of(artifact)
    if card["task"] not in ("radii", "evaluate", "certify") or NORMS.index(own) > NORMS.index(norm):
        return None
    table = artifact.table("images")
    lower = table["lower"].to_numpy(dtype=np.float64)
    if card["task"] != "certify" and not (
        card["certificate"] if "certificate" in card else bool((np.nan_to_num(lower) > 0).any())
    ):
        return None
    eps = card.get("eps") if card["task"] == "radii" else card["spec"]["eps"]
    if own != norm:
        failed = np.full(len(table), np.inf)
    elif eps is None:
        failed = np.nan_to_num(lower)
    else:
        failed = np.where(reaches(_raise(lower, eps, card["task"] != "radii"), eps), np.inf, float(eps))
    return Proofs(table["index"].to_numpy(), np.inf if eps is None else float(eps), failed)


def _passes(table: pd.DataFrame) -> np.ndarray:
    if "forwards" not in table or "backwards" not in table:
        return np.full(len(table), np.nan)
    return (table["forwards"] + table["backwards"]).to_numpy(dtype=np.float64)


def answers_of(artifact: store.Artifact) -> pd.DataFrame:
    """What an artifact with `bounds_of` says of the unchanged images: by index `y`, and `right`, correctly classified.

    Images of which it does not say whether they are classified correctly unchanged are left out.
    """
    table = artifact.table("images")
    if "clean_correct" in table:
        right = table["clean_correct"]
    elif "pred_clean" in table:
        right = table["pred_clean"] == table["y"]
    else:  # a sweep of an older version: its images at ε = 0
        table = table[table["eps"] == 0]
        right = table["pred"] == table["y"]
    made = pd.DataFrame({"y": table["y"], "right": right.astype(bool)}).set_index(table["index"].rename("index"))
    return made[~made.index.duplicated()]


def bounds_of(artifact: store.Artifact, norm: str) -> pd.DataFrame | None:
    """An artifact's bounds of each image in `norm`: by index, upper, lower, found_by, forwards, backwards.

    found_by is one of the titles of `METHODS`, or what an evaluation calls its parts. None where the artifact says
    nothing: pictures outside the box, a threshold of its own, a vote on noisy copies, files that are damaged.
    """
    spec = artifact.card["spec"]
    if spec.get("threshold", 0) or spec.get("method") == "smoothing":  # another classifier than the model
        return None
    method = spec.get("attack") if isinstance(spec.get("attack"), dict) else {}
    if not method.get("clip", True) or not method.get("boxed", True):
        return None  # the literal formulas leave the box: what they make is no image
    try:
        table = artifact.table("images")
    except (store.DamagedArtifact, ValueError):
        return None
    if artifact.card["task"] in ("sweep", "attack"):
        eps = spec["eps"] if artifact.card["task"] == "attack" else None
        return _of_attack(table, norm, norm_of(artifact), method.get("name", "attack"), eps)
    own, eps = norm_of(artifact), artifact.card.get("eps")
    found, proven = (table[name].to_numpy(dtype=np.float64) for name in ("upper", "lower"))
    within_eps = artifact.card["task"] in ("evaluate", "certify")  # what they call fooled or proven is so at ε
    if eps is not None:
        found, proven = _snap(found, eps, within_eps), _raise(proven, eps, within_eps)
    upper = found if NORMS.index(own) >= NORMS.index(norm) else np.full(len(table), np.inf)
    lower = proven if NORMS.index(own) <= NORMS.index(norm) else np.zeros(len(table))
    if norm in table and "pred" in table:  # measured in this norm, too
        fooled = (table["pred"] != table["y"]).to_numpy()
        measured = np.where(fooled, table[norm].to_numpy(dtype=np.float64), np.inf)
        if eps is not None and own == norm:
            measured = _snap(measured, eps, within_eps)
        upper = np.minimum(upper, measured)
    return pd.DataFrame(
        {
            "upper": upper,
            "lower": np.nan_to_num(lower, nan=0.0),
            "found_by": table["found_by"].replace(NAMES).to_numpy() if "found_by" in table else "",
            "forwards": table["forwards"].to_numpy() if "forwards" in table else 0,
            "backwards": table["backwards"].to_numpy() if "backwards" in table else 0,
        },
        index=pd.Index(table["index"].to_numpy(), name="index"),
    )


def _of_attack(table: pd.DataFrame, norm: str, own: str, name: str, eps: float | None) -> pd.DataFrame | None:
    """A sweep's or an attack's images: the nearest misclassified one counts, at its own distance."""
    if norm not in table:
        return None
    distance = np.where(table["pred"] != table["y"], table[norm].to_numpy(dtype=np.float64), np.inf)
    budget = table["eps"].to_numpy(dtype=np.float64) if "eps" in table else eps
    if own == norm and budget is not None:
        fixed = name in METHODS and METHODS[name].needs_eps and "success" in table
        distance = _snap(distance, budget, table["success"].to_numpy(dtype=bool) if fixed else False)
    # a sweep's passes are those of each budget's search, the same one again where it fooled before: no sum of them
    summed = () if "eps" in table else ("forwards", "backwards")
    passes = {key: table[key].to_numpy() if key in table and key in summed else 0 for key in ("forwards", "backwards")}
    rows = pd.DataFrame({"index": table["index"].to_numpy(), "upper": distance, **passes})
    whole = rows.groupby("index", sort=False).agg({"upper": "min", "forwards": "sum", "backwards": "sum"})
    return whole.assign(lower=0.0, found_by=NAMES.get(name, name))


def _snap(distance: np.ndarray, eps: Any, inside: Any = False) -> np.ndarray:
    """Distances that are above ε by rounding alone, put at ε; finite ones of what is known to lie `inside` are, too.

    0.3 in float32 is a little more than 0.3, and a pixel near 1 rounds by far more than a last digit of a small ε.
    """
    lies_there = inside & np.isfinite(distance) | _close(distance, eps)
    return np.where(lies_there, np.minimum(distance, eps), distance)


def _raise(radius: np.ndarray, eps: Any, coarse: bool = False) -> np.ndarray:
    """Proven radii that are below ε by rounding alone, put at ε; of float16's rounding if `coarse`."""
    return np.where(_close(radius, eps, COARSE if coarse else ROUNDING), np.maximum(radius, eps), radius)


def _close(value: np.ndarray, eps: Any, rounding: float = ROUNDING) -> np.ndarray:
    return np.abs(value - eps) <= rounding * np.asarray(eps)
