"""`certify`: verdicts of saved models, in the table that records are made from."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from core.evaluation.tasks import certify
from core.jobs import queue
from core.specs import CertifySpec
from core.storage import store


@pytest.fixture
def root(trained_store: Path, tmp_path: Path) -> Path:
    """A copy of the store."""
    return shutil.copytree(trained_store, tmp_path / "copy")


def network(root: Path, name: str) -> str:
    """Id of the first model of this network."""
    return next(model.id for model in store.models(root) if f"-{name}-standard" in model.id)


def certified(root: Path, name: str, **fields: object) -> store.Artifact:
    """Run it."""
    made = queue.run(CertifySpec(model=network(root, name), **fields), root, device="cpu")
    assert isinstance(made, store.Artifact)
    return made


def test_verdicts_bound_the_robust_accuracy_from_both_sides(root: Path) -> None:
    """Bounds prove some, the exact method more, and neither contradicts the other."""
    quick = certified(root, "mlp", eps=0.02, n=25, method="ibp").table("images")
    made = certified(root, "mlp", eps=0.02, n=25, method="exact", time_limit=5)
    table = made.table("images")
    assert list(table["index"]) == list(quick["index"])
    assert set(quick["index"][quick["verdict"] == "proven"]) <= set(table["index"][table["verdict"] == "proven"])
    proven, fooled = (table["verdict"] == name for name in ("proven", "fooled"))
    assert (table["lower"][proven] == 0.02).all()
    assert (table["upper"][proven] == np.inf).all()
    assert (table["upper"][fooled] <= 0.02 + 1e-6).all()
    assert (table["pred"][fooled] != table["y"][fooled]).all()
    assert made.card["metrics"]["proven_accuracy"] == pytest.approx(proven.mean())
    assert fooled.any()
    assert made.card["metrics"]["not_fooled"] == pytest.approx(1 - fooled.mean())


def test_smoothing_proves_nothing_of_the_model_itself(root: Path) -> None:
    """Its radii have columns of their own, and the card says how many draws they rest on."""
    made = certified(root, "linear", method="smoothing", norm="l2", n=4, draws=2000, sigma=0.1)
    table = made.table("images")
    assert (table["lower"] == 0).all()
    assert (table["smoothed_radius"] > 0).any()
    assert made.card["smoothing"] == {"sigma": 0.1, "draws": 2000, "alpha": 0.001, "n0": 100}
    right = table["smoothed_pred"] == table["y"]
    assert made.card["metrics"]["smoothed_accuracy"] == right.mean()
    assert right.any()


def test_image_that_fools_in_one_layout_only_is_not_fooled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that hands back images that the second look classifies correctly bounds nothing from above."""

    def lying(ask: certify._Question) -> certify._Answer:
        return certify._Answer(np.full(len(ask.x), "fooled"), np.full(len(ask.x), "pgd"), ask.x, {})

    monkeypatch.setitem(certify._ANSWERS, "exact", lying)
    table = certified(root, "mlp", eps=0.02, n=25, method="exact").table("images")
    right = table["clean_correct"]
    assert right.any()
    assert (table["verdict"][right] == "unknown").all()
    assert np.isinf(table["upper"][right]).all()
    assert (table["found_by"][right] == "").all()
