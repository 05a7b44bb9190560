"""Radii, evaluations, certificates and sweeps planted for a record, and what it says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.evaluation.tables import records
from core.specs import CertifySpec, EvaluateSpec, RadiiSpec, SweepSpec, Task
from core.storage import store

MODEL = "digits-linear"
N = 20


def images(root: Path, n: int = N) -> pd.DataFrame:
    """The first n test images, by the model's own table."""
    tests = store.open_model(MODEL, root).table("test").iloc[:n]
    return pd.DataFrame({"index": tests["index"], "y": tests["y"], "clean_correct": tests["pred"] == tests["y"]})


def plant(root: Path, task: str, *, n: int = N, card: dict[str, Any] | None = None, **fields: Any) -> store.Artifact:
    """Plant radii, an evaluation or a certificate; fields of the spec and columns of the table go side by side."""
    columns = {name: fields.pop(name) for name in ("lower", "upper", "forwards", "backwards") if name in fields}
    kinds: dict[str, type[Any]] = {"radii": RadiiSpec, "evaluate": EvaluateSpec, "certify": CertifySpec}
    model = store.open_model(MODEL, root).id
    spec: Task = kinds[task].model_validate({"model": model, "n": n} | fields)
    table = images(root, n).assign(**{"lower": 0.0, "upper": np.inf, "forwards": 3, "backwards": 2} | columns)
    table["upper"] = np.where(table["clean_correct"], table["upper"], 0.0)
    made = {"metrics": {}, "norm": spec.norm, "eps": getattr(spec, "eps", None)} | (card or {})  # type: ignore[union-attr]
    return store.write(spec, root, card=made, tables={"images": table.assign(found_by="fmn").reset_index(drop=True)})


def sweep(root: Path, fooled_at: np.ndarray, eps: tuple[float, ...], n: int = N, **fields: Any) -> store.Artifact:
    """Plant a sweep in which image k is fooled from its own ε on, each at the whole budget."""
    model = store.open_model(MODEL, root).id
    spec = SweepSpec.model_validate({"model": model, "attack": {"name": "pgd"}, "eps": eps, "n": n} | fields)
    tests, parts = images(root, n), []
    for place, value in enumerate(spec.eps):
        won = fooled_at <= value
        pred = np.where(won | ~tests["clean_correct"], (tests["y"] + 1) % 10, tests["y"])
        part = tests[["index", "y"]].assign(eps=value, pred=pred, success=pred != tests["y"], linf=value)
        parts.append(part.assign(forwards=10 + place, backwards=10))
    return store.write(spec, root, card={"rows": []}, tables={"images": pd.concat(parts, ignore_index=True)})


def load(root: Path, norm: str = "linf") -> records.Record:
    """The record, which must be there."""
    record = records.load(store.open_model(MODEL, root).id, norm, root)
    assert record is not None
    return record


def at(record: records.Record, eps: float) -> dict[str, Any]:
    """The curve's row at ε."""
    return {str(name): value for name, value in records.curve(record, [eps]).iloc[0].items()}


def right(root: Path, n: int = N) -> np.ndarray:
    """(n,) correctly classified."""
    return images(root, n)["clean_correct"].to_numpy()
