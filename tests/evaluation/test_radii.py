"""Radii: per-image bounds that hold, exact where the model is linear, and found again in the store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from core import jobs, store
from core.__main__ import main
from core.attacks.geometry import norm_of
from core.data import first_of_test, to_float
from core.models import load_model
from core.specs import RadiiSpec

COLUMNS = ["index", "y", "pred", "confidence", "clean_correct", "lower", "upper", "found_by", "forwards", "backwards"]


def made(root: Path, **fields: object) -> store.Artifact:
    """Run a small RadiiSpec."""
    spec = RadiiSpec(**{"model": "digits-linear", "n": 40, "budget": 60, **fields})  # type: ignore[arg-type]
    artifact = jobs.run(spec, root)
    assert isinstance(artifact, store.Artifact)
    return artifact


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
