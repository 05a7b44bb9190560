"""Small artifacts, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from core.specs import AttackSpec, Fgsm, SweepSpec, TrainSpec
from core.storage import store
from tests.planted import CARD

MODEL = TrainSpec(epochs=1)
WEIGHTS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, 2], dtype=np.int64)}
TABLE = pd.DataFrame({"index": [0, 1], "y": [3, 4], "name": ["three", "four"], "sure": [True, False]})


def put(root: Path, spec: TrainSpec | AttackSpec | SweepSpec = MODEL, **card: object) -> store.Artifact:
    """Write a small artifact."""
    return store.write(spec, root, card={**CARD, **card}, arrays={"weights": WEIGHTS}, tables={"test": TABLE})


def attack_on(model: store.Artifact, seed: int = 0) -> AttackSpec:
    """A result's spec."""
    return AttackSpec(model=model.id, attack=Fgsm(), eps=0.1, seed=seed)


def content(root: Path) -> dict[str, bytes]:
    """Every file below `root` but the locks, which are no part of what is stored."""
    paths = (path for path in root.rglob("*") if path.is_file() and ".locks" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
