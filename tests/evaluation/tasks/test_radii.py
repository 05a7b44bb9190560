"""Radii: per-image bounds that hold, exact where the model is linear, and found again in the store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from core.__main__ import main
from core.attacks.engine.geometry import norm_of
from core.data.sets import first_of_test, to_float
from core.evaluation.tasks import radii
from core.jobs import queue
from core.models.saved import load_model
from core.progress import Cancelled
from core.specs import RadiiSpec
from core.storage import store

COLUMNS = ["index", "y", "pred", "confidence", "clean_correct", "lower", "upper", "found_by", "forwards", "backwards"]


def made(root: Path, **fields: object) -> store.Artifact:
    """Run a small RadiiSpec."""
    spec = RadiiSpec(**{"model": "digits-linear", "n": 40, "budget": 60, **fields})  # type: ignore[arg-type]
    artifact = queue.run(spec, root)
    assert isinstance(artifact, store.Artifact)
    return artifact


@pytest.mark.sampled(2)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_radii_hold_what_they_say(root: Path, norm: str) -> None:
    """The stored image fools at the stored distance; wrong images have 0; passes keep to the budget."""
    artifact = made(root, model="digits-mlp", norm=norm)
    table = artifact.table("images")
    assert list(table.columns[: len(COLUMNS)]) == COLUMNS
    saved = load_model(artifact.folder.parents[1].name, root)
    batch = first_of_test(saved.data(), 40)
    assert table["index"].tolist() == batch.index.tolist()
    x_adv = torch.from_numpy(artifact.arrays("images")["x_adv"])
    found = np.isfinite(table["upper"])
    pred = saved.model(x_adv).argmax(1).numpy()
    assert (pred[found] != table["y"][found]).all()
    assert (pred == table["pred"]).all()
    size = norm_of(x_adv - to_float(batch.x), norm).numpy()
    right = table["clean_correct"].to_numpy()
    assert size[found & right] == pytest.approx(table["upper"].to_numpy()[found & right], rel=1e-5)
    assert (table["upper"][~right] == 0).all()
    assert (table["found_by"] == "clean").tolist() == (~right).tolist()
    assert ((table["forwards"] + table["backwards"]) <= 60).all()
    assert (table["lower"] <= table["upper"]).all()


def test_radii_of_a_linear_model_meet(root: Path) -> None:
    """In linf what is found and what is proven meet, from independent code: both are the optimum."""
    artifact = made(root, budget=200)
    table = artifact.table("images")
    right = table["clean_correct"].to_numpy()
    upper, lower = (table[name].to_numpy()[right] for name in ("upper", "lower"))
    assert (upper > 0).all()
    assert lower == pytest.approx(upper, rel=5e-3)
    assert artifact.card["certificate"] == "interval bounds"


def test_killed_radii_go_on_and_end_in_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the third part, the first two are not attacked again; the artifact is that of one run."""
    spec = RadiiSpec(model="digits-linear", n=50, budget=60)
    whole = made(root, n=50)
    kept = store.unfinished(store.resolve(spec, root), root)
    images = (whole.table("images"), whole.arrays("images")["x_adv"])
    shutil.rmtree(whole.folder)
    monkeypatch.setattr(radii, "PART", 20)
    real, sizes = radii.run_method, []

    def counting(model: nn.Module, x: torch.Tensor, *rest: object, **options: object) -> object:
        if len(sizes) == 2:
            sizes.append(0)
            raise Cancelled
        sizes.append(len(x))
        return real(model, x, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(radii, "run_method", counting)
    with pytest.raises(Cancelled):
        made(root, n=50)
    assert kept.exists()
    again = made(root, n=50)
    assert sizes == [20, 20, 0, 10]
    pd.testing.assert_frame_equal(again.table("images"), images[0])
    assert np.array_equal(again.arrays("images")["x_adv"], images[1])
    assert not kept.exists()


def test_radii_from_the_command_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """`python -m core radii --json` prints the figures; asked twice, the artifact is found."""
    monkeypatch.setenv("ADVERSARIAL_LAB_STORE", str(root))
    arguments = ["radii", "--model", "digits-linear", "--norm", "l2", "--n", "20", "--budget", "60", "--json"]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["n"] == 20
    assert printed["median_distance"] > 0
    (result,) = store.results(printed["model"], root, "radii")
    assert str(result.folder) == printed["result"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == printed
