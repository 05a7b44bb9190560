"""A dashboard with a store of its own, in which models, results and jobs can be planted without training anything."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from core import specs
from core.evaluation.imported.findings import Finding
from core.models import reference
from core.storage import store
from ui.app import warm

PROJECT = Path(__file__).resolve().parents[2]


def fingerprint_of(data: specs.DataSpec) -> str:
    """Of the images on this machine, where they are embedded; else as they are known."""
    if specs.DATASETS[data.dataset].embedded:
        from core.data.sets import load

        return load(data).fingerprint
    return specs.DATASETS[data.dataset].fingerprint or "planted"


class Lab:
    """The dashboard under test, its store, and what can be planted there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.app = AppTest.from_file(str(PROJECT / "dashboard.py"), default_timeout=300)
        self.held: list[filelock.BaseFileLock] = []

    def open(self, page: str, **query: Any) -> AppTest:
        """Run the dashboard, switch to a page with these query parameters, and return the app; no exception allowed."""
        self.app.run()
        for name, value in query.items():
            self.app.query_params[name] = value
        self.app.switch_page(f"pages/{page}.py").run()
        assert not self.app.exception, self.app.exception[0].value
        return self.app

    def model(
        self,
        *,
        accuracy: float = 0.9,
        weights: dict[str, np.ndarray] | None = None,
        history: list[dict[str, float]] | None = None,
        metrics: dict[str, float] | None = None,
        ships: Path | None = None,
        labels: np.ndarray | None = None,
        **fields: Any,
    ) -> store.Artifact:
        """Plant a model on `digits`: random weights unless given, a card and a test table with this accuracy.

        labels: (360,) true classes of the test images, random unless given. metrics: more of the card's. ships: a
        folder of reference models to plant it in, with measurements.
        """
        fast = specs.preset("fast", "digits")  # what the training page starts with
        spec = specs.TrainSpec(**{"data": {"dataset": "digits"}, "network": "linear", **fast, **fields})
        names = specs.DATASETS[spec.data.dataset].class_names
        names = names if spec.data.classes is None else tuple(names[c] for c in spec.data.classes)
        shape = specs.DATASETS[spec.data.dataset].shape
        rng = np.random.default_rng(spec.seed)
        n, k = 360, len(names)
        y = rng.integers(0, k, n) if labels is None else labels
        wrong = np.arange(n) >= round(accuracy * n)
        pred = np.where(wrong, (y + 1) % k, y)
        table = pd.DataFrame(
            {
                "index": np.arange(n),
                "y": y,
                "pred": pred,
                "confidence": rng.uniform(0.5, 1, n),
                "margin": 1.0 - 2 * wrong,
            }
        )
        if spec.scalar:
            table["score"] = np.where(pred == 1, 1.0, -1.0) * rng.uniform(0.1, 3, n)
        if weights is None:
            from core.networks.catalogue import build

            model = build(spec.network, shape, k, scalar=spec.scalar)
            weights = {name: value.numpy() for name, value in model.state_dict().items()}
        history = history or [
            {
                "epoch": epoch,
                "loss": 1 / epoch,
                "train_accuracy": 1 - 0.5 / epoch,
                "validation_loss": 1.1 / epoch,
                "validation_accuracy": 1 - 0.6 / epoch,
                "lr": spec.lr,
                "seconds": 0.5,
            }
            for epoch in range(1, spec.epochs + 1)
        ]
        hits = float(np.mean(~wrong))
        card = {
            "metrics": {
                "test_accuracy": hits,
                "test_low": hits - 0.02,
                "test_high": min(1.0, hits + 0.02),
                "test_n": n,
                "validation_accuracy": history[-1]["validation_accuracy"],
                "n": n,
                "accuracy": hits,
                "low": hits - 0.02,
                "high": min(1.0, hits + 0.02),
                "error": 1 - hits,
                "confidence": 0.75,
                "confidence_correct": 0.8,
                "confidence_wrong": 0.6,
                "calibration_gap": 0.75 - hits,
                **(metrics or {}),
            },
            "history": history,
            "best_epoch": spec.epochs,
            "class_names": list(names),
            "shape": list(shape),
            "data": {
                "title": specs.DATASETS[spec.data.dataset].title,
                "fingerprint": fingerprint_of(spec.data),
                "train_size": 1294,
                "validation_size": 143,
                "test_size": n,
            },
            "network": {
                "parameters": 650,
                "layers": [
                    {
                        "name": "2",
                        "type": "Linear",
                        "output_shape": [k],
                        "parameters": 650,
                        "receptive_field": shape[1],
                    }
                ],
            },
            "timing": {"seconds": 1.5, "images_per_second": 5000.0},
            "device": "cpu",
            "threads": 1,
        }
        tables = {"test": table}
        if ships is not None:
            name = next(one.name for one in reference.REFERENCES.values() if one.spec == spec)
            card["reference"] = {
                "name": name,
                "weights_dtype": "float16",
                "predictions_that_differ": 0,
                "measured": {"eps": 0.15, "n": n, "clean": hits, "pgd": 0.25},
            }
            rows = {"measure": ["clean", "pgd"], "eps": [np.nan, 0.15], "n": [n, n], "value": [hits, 0.25]}
            rows |= {"low": [hits - 0.02, 0.2], "high": [min(1.0, hits + 0.02), 0.3], "settings": ["", "50 steps"]}
            rows |= {name: [np.nan, np.nan] for name in ("median_l2", "median_linf")}
            rows |= {name: [np.nan, 100.0] for name in ("forwards", "backwards")}
            tables["measurements"] = pd.DataFrame(rows)
        return store.write(spec, ships or self.root, card=card, arrays={"weights": weights}, tables=tables)

    def imported(
        self,
        *,
        label: str = "my-net",
        accuracy: float = 0.9,
        found: list[dict[str, Any]] | None = None,
        **fields: Any,
    ) -> store.Artifact:
        """Plant an imported model on `digits`, of the network `linear`, with findings on its card."""
        twin = self.model(accuracy=accuracy, seed=1234)
        spec = specs.ImportSpec(
            **{"data": {"dataset": "digits"}, "label": label, "route": "weights", "architecture": "linear"}
            | {"digest": hashlib.sha256(label.encode()).hexdigest(), **fields}
        )
        shape, k = specs.DATASETS["digits"].shape, len(twin.card["class_names"])
        rows = [
            {"normalisation": "none", "mean": [0.0], "std": [1.0], "channels": "rgb", "accuracy": accuracy},
            {"normalisation": "MNIST", "mean": [0.1307], "std": [0.3081], "channels": "bgr", "accuracy": 0.2},
        ]
        findings = [
            Finding("normalisation", "Normalisation", "fine", "None: 90.0 % of 200 images.", rows=tuple(rows)),
            Finding("outputs", "Outputs", "note", "Logits *with* [signs] of $Markdown$."),
            Finding("classes", "Class order", "doubt", "Another order is better.", advice="Set the class order."),
        ]
        card = {
            **{name: twin.card[name] for name in ("metrics", "class_names", "shape", "data", "device", "threads")},
            "framing": specs.Framing().body(),
            "found": [one.to_json() for one in findings] if found is None else found,
            "looked_at": {"n": 200, "accuracy": accuracy},
            "network": {"parameters": 650, "outputs": k, "takes": list(shape), "layers": []},
            "timing": {"seconds": 2.5},
        }
        contents = {"arrays": {"weights": twin.arrays("weights")}, "tables": {"test": twin.table("test")}}
        made = store.write(spec, self.root, card=card, **contents)
        shutil.rmtree(twin.folder)
        return made

    def job(
        self, task: specs.Task, state: str, *, torn: bool = False, message: str = "", log: str = "", owner: str = ""
    ) -> str:
        """Plant a job folder in one of the states (live ones hold their lock until the test ends); returns its id."""
        made = datetime.now()
        folder = self.root / ".jobs" / f"{made:%Y%m%d-%H%M%S}-{specs.task_name(task)}-{secrets.token_hex(3)}"
        folder.mkdir(parents=True)
        created = time.time() - (100 if state == "dead" else 1)
        (folder / "spec.json").write_text(json.dumps({**specs.dump_task(task), "created": created, "owner": owner}))
        events: list[dict[str, Any]] = []
        if state in ("waiting", "loading"):
            events.append({"state": state})
        if state in ("running", "failed", "cancelled", "dead", "done"):
            events.append({"state": "loading"})
            events.append({"state": "running"})
            progress = {"done": 300, "total": 900, "phase": "training", "eta": 12.0, "metrics": {"loss": 0.5}}
            events.append(progress)
        if state in ("failed", "cancelled", "done"):
            events.append({"state": state, "message": message})
        lines = "".join(json.dumps({"time": created + 0.1 * k, **event}) + "\n" for k, event in enumerate(events))
        (folder / "events.jsonl").write_text(lines + ('{"time": 1, "do' if torn else ""))
        (folder / "log.txt").write_text(log)
        if state in ("starting", "waiting", "loading", "running"):
            self.held.append(filelock.FileLock(folder / "lock"))
            self.held[-1].acquire()
        return folder.name


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A dashboard whose store is empty and whose data folder holds nothing (`digits` is embedded)."""
    monkeypatch.setenv("ADVERSARIAL_LAB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("ADVERSARIAL_LAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ADVERSARIAL_LAB_REFERENCE", str(tmp_path / "reference"))
    monkeypatch.setattr(warm, "later", lambda: None)  # the import would go on beside the tests
    monkeypatch.chdir(PROJECT)
    made = Lab(tmp_path / "store")
    yield made
    for held in made.held:
        held.release()
