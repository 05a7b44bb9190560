"""An EvaluateSpec leaves an artifact whose table, card and command line agree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from core.__main__ import main
from core.evaluation.robust.edition import remark
from core.evaluation.tables.artifact_bounds import bounds_of
from core.evaluation.trust.report import Trust
from core.jobs import queue
from core.specs import EvaluateSpec
from core.storage import store

COLUMNS = [
    *("index", "y", "pred", "confidence", "clean_correct", "lower", "upper"),
    *("found_by", "forwards", "backwards", "linf", "l2", "l1", "l0"),
]


def test_evaluation_s_table_card_and_command_agree(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Accuracies are those of the rows, a bound is below the other, and the command prints the card's figures."""
    spec = EvaluateSpec(model="digits-mlp", eps=0.05, effort="quick", n=40)
    made = queue.run(spec, root)
    assert isinstance(made, store.Artifact)
    table, metrics = made.table("images"), made.card["metrics"]
    assert list(table.columns) == COLUMNS
    assert len(table) == metrics["n"] == 40
    assert metrics["clean_accuracy"] == pytest.approx(table["clean_correct"].mean())
    assert metrics["robust_accuracy"] == pytest.approx((table["upper"] > spec.eps).mean())
    assert (table["lower"] <= table["upper"]).all()
    assert ((table["pred"] == table["y"]) == (table["upper"] > spec.eps)).all()
    assert metrics["forwards"] == pytest.approx(table["forwards"].mean())
    trust = Trust.from_json(made.card["trust"])
    assert metrics["trust_forwards"] == pytest.approx(trust.forwards / 40)
    assert metrics["trust_backwards"] == pytest.approx(trust.backwards / 40)
    fell = table["clean_correct"] & (table["upper"] <= spec.eps)
    assert fell.any()
    bounds = bounds_of(made, "l2")
    assert bounds is not None
    assert bounds["upper"][fell.to_numpy()].tolist() == table["l2"][fell].tolist()
    assert np.isinf(bounds["upper"][(table["upper"] > spec.eps).to_numpy()]).all()
    assert metrics["low"] <= metrics["robust_accuracy"] <= metrics["high"]
    assert torch.tensor(made.arrays("images")["x_adv"]).shape == (40, 1, 8, 8)
    assert Trust.from_json(made.card["trust"]).verdict == made.card["trust"]["verdict"]
    assert not store.unfinished(made.spec(), root).exists()
    assert remark(made.card) == ""

    monkeypatch.setenv("ADVERSARIAL_LAB_STORE", str(root))
    asked = ["evaluate", "--model", "digits-mlp", "--eps", "0.05", "--effort", "quick", "--n", "40", "--json"]
    assert main(asked) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {name: printed[name] for name in metrics} == metrics
    assert printed["trust"]["verdict"] == made.card["trust"]["verdict"]

    assert main(["trust", "--model", "digits-mlp", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["result"], printed["eps"], printed["checks"]) == (made.id, 0.05, made.card["trust"]["checks"])
    assert main(["trust", "--model", "digits-mlp", "--eps", "0.3"]) == 2
    assert "the checks say nothing about another ε" in capsys.readouterr().err
    assert main(["trust", "--model", "digits-mlp", "--eps", "0.05"]) == 0
    shown = capsys.readouterr().out
    assert all(check.title in shown and check.said in shown for check in trust.checks)
    assert main(["trust", "--model", "digits-mlp", "--norm", "l1"]) == 2
    assert "expected one that was evaluated in l1" in capsys.readouterr().err


def test_evaluation_of_too_large_a_ball_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """More than a pixel's range has no meaning in linf."""
    assert main(["evaluate", "--model", "m", "--eps", "1.5"]) == 2
    assert "eps: expected at most 1 in linf, got 1.5" in capsys.readouterr().err
