"""Pattern results: made from training images, worn by test images, beside noise on the same object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.evaluation.tables.metrics import clopper_pearson
from core.jobs import queue
from core.models.saved import load_model
from core.specs import PatternSpec
from core.storage import store


def ran(root: Path, **fields: object) -> store.Artifact:
    """A patch for the mlp unless told otherwise."""
    base = {"model": "digits-mlp", "mask": "patch:size=0.6", "n": 200, "held_out": 100, "fresh": 16, "shift": 0.5}
    made = queue.run(PatternSpec(**{**base, **fields}), root)  # type: ignore[arg-type]
    assert isinstance(made, store.Artifact)
    return made


def test_headline_is_that_of_images_that_it_was_not_made_from(root: Path) -> None:
    """Rate, interval and control come from right test images; the pictures wear the stored pattern."""
    made = ran(root)
    metrics, table, stored = made.card["metrics"], made.table("held_out"), made.arrays("pattern")
    saved = load_model(made.card["spec"]["model"], root)
    assert set(table["index"]) <= set(saved.data().test.index.tolist())
    assert len(table) == metrics["n"] == 100
    assert metrics["fooling_rate"] == pytest.approx(table["success"].mean())
    assert (metrics["low"], metrics["high"]) == pytest.approx(clopper_pearson(int(table["success"].sum()), 100))
    assert metrics["mean_share"] > metrics["noise_share"] + 0.1
    assert (table["share"][table["success"]] >= 0.5).all()
    held, mask = made.arrays("held_out"), stored["mask"].astype(bool)
    assert (held["x_adv"][:, :, mask] == stored["pattern"][:, mask]).all()
    assert (held["x_adv"][:, :, ~mask] == held["x"][:, :, ~mask]).all()
    assert held["views"].shape[:2] == (24, 6)
    assert np.array_equal(held["index"], table["index"][:24])


def test_target_and_sources_narrow_the_images(root: Path) -> None:
    """Only the sources wear it; only the target counts; classes that do not exist are refused."""
    made = ran(root, target=3, source=(1, 7))
    table = made.table("held_out")
    assert set(table["y"]) == {1, 7}
    assert (table["pred"][table["success"]] == 3).all()
    with pytest.raises(ValueError, match="target: expected a class from 0 to 9, got 12"):
        ran(root, target=12)
