"""What one artifact says of each image: how near an adversarial example it found, how far it proves that none can be.

An artifact in one norm speaks of the others, too: a change δ inside the box has ‖δ‖∞ ≤ ‖δ‖₂ ≤ ‖δ‖₁ ≤ ‖δ‖₀. So distances
bound every smaller norm from above, and proven radii every larger norm from below. Imports no torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from core import store
from core.specs import METHODS

NORMS = ("linf", "l2", "l1", "l0")
"""In the order in which each is at most the next, for changes inside the box."""
ROUNDING = 1e-6
"""Relative; a distance that is above ε by no more is float32's rounding of ε itself."""

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
        return _of_attack(table, norm, norm_of(artifact), method.get("name", "attack"))
    own = norm_of(artifact)
    upper = np.full(len(table), np.inf)
    lower = np.zeros(len(table))
    if NORMS.index(own) >= NORMS.index(norm):
        upper = table["upper"].to_numpy(dtype=np.float64)
    if NORMS.index(own) <= NORMS.index(norm):
        lower = table["lower"].to_numpy(dtype=np.float64)
    if norm in table and "pred" in table:  # measured in this norm, too
        fooled = (table["pred"] != table["y"]).to_numpy()
        upper = np.minimum(upper, np.where(fooled, table[norm].to_numpy(dtype=np.float64), np.inf))
    eps = artifact.card.get("eps")
    if eps is not None and own == norm:
        upper, lower = _snap(upper, eps), np.where(_close(lower, eps), np.maximum(lower, eps), lower)
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


def _of_attack(table: pd.DataFrame, norm: str, own: str, name: str) -> pd.DataFrame | None:
    """A sweep's or an attack's images: the nearest that is read as another class counts, at its own distance."""
    if norm not in table:
        return None
    distance = np.where(table["pred"] != table["y"], table[norm].to_numpy(dtype=np.float64), np.inf)
    if own == norm and "eps" in table:
        distance = _snap(distance, table["eps"].to_numpy(dtype=np.float64))
    passes = {key: table[key].to_numpy() if key in table else 0 for key in ("forwards", "backwards")}
    rows = pd.DataFrame({"index": table["index"].to_numpy(), "upper": distance, **passes})
    whole = rows.groupby("index", sort=False).agg({"upper": "min", "forwards": "sum", "backwards": "sum"})
    return whole.assign(lower=0.0, found_by=NAMES.get(name, name))


def _snap(distance: np.ndarray, eps: Any) -> np.ndarray:
    """Distances that are above ε by rounding alone, put at ε: 0.3 in float32 is a little more than 0.3."""
    return np.where(_close(distance, eps), np.minimum(distance, eps), distance)


def _close(value: np.ndarray, eps: Any) -> np.ndarray:
    return np.abs(value - eps) <= ROUNDING * np.asarray(eps)
