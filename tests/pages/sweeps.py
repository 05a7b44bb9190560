"""Sweeps planted for the pages that measure, and what such a page then says, shows and asks for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from core import specs
from core.evaluation.tables.metrics import clopper_pearson, five_metrics
from core.jobs import queue
from core.storage import store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlit.testing.v1 import AppTest

    from tests.pages.conftest import Lab

LADDER = (0.0, 0.1, 0.3)


def plant(
    lab: Lab, model: store.Artifact, *, right: Sequence[int] = (95, 60, 5), n: int = 100, **fields: Any
) -> store.Artifact:
    """Plant a finished sweep: of n images the first `right[k]` are read correctly at the k-th ε."""
    spec = specs.SweepSpec(**{"model": model.id, "eps": LADDER, "n": n, **fields})
    tests = model.table("test").iloc[:n]
    names = model.card["class_names"]
    y, rows, tables = tests["y"].to_numpy(), [], []
    for eps, hits in zip(spec.eps, right, strict=True):
        pred = np.where(np.arange(n) < hits, y, (y + 1) % len(names))
        table = pd.DataFrame({"eps": eps, "index": tests["index"].to_numpy(), "y": y, "pred": pred})
        table = table.assign(confidence=0.8, success=pred != y, linf=eps, l2=eps)
        low, high = clopper_pearson(right[0] - min(hits, right[0]), right[0])
        metrics = five_metrics(y, pred, table["confidence"].to_numpy()).row()
        rows.append({"eps": eps, **metrics, "success_rate": 0.5, "success_low": low, "success_high": high})
        tables.append(table)
    first = [int(np.flatnonzero(y == c)[0]) for c in range(len(names))]
    x = np.random.default_rng(0).uniform(0, 1, (len(first), *model.card["shape"])).astype(np.float32)
    gallery = {
        "index": tests["index"].to_numpy()[first],
        "y": y[first],
        "x": x,
        "x_adv": np.stack([np.clip(x + eps, 0, 1) for eps in spec.eps]),
        "eps": np.asarray(spec.eps),
    }
    card = {"rows": rows, "class_names": names, "data": model.card["data"], "seconds": 1.0, "device": "cpu"}
    tabled = {"images": pd.concat(tables, ignore_index=True)}
    return store.write(spec, lab.root, card=card, arrays={"gallery": gallery}, tables=tabled)


def at(app: AppTest) -> pd.DataFrame:
    """The table of the models at the slider's ε, by model."""
    return next(table.value for table in app.dataframe if "between" in table.value).set_index("Model")


def texts(app: AppTest) -> str:
    """Everything that the page says in words."""
    kinds = ("title", "subheader", "markdown", "caption", "info", "warning", "error", "html")
    return "\n".join(str(getattr(element, "value", element.proto)) for kind in kinds for element in app.get(kind))


def asked(monkeypatch: pytest.MonkeyPatch) -> list[specs.Task]:
    """What is submitted from now on, none of which runs."""
    found: list[specs.Task] = []

    def submit(task: specs.Task, root: object = None, *, owner: str = "") -> SimpleNamespace:
        found.append(task)
        return SimpleNamespace(id="planted")

    monkeypatch.setattr(queue, "submit", submit)
    return found
