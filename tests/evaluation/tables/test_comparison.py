"""Comparison tables: finished cells, missing cells, warnings, exports with their provenance."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest

from core.evaluation.tables.comparison import compare, passes, to_csv, to_latex, to_markdown
from core.jobs import queue
from core.specs import CompareSpec, SweepSpec, TrainSpec
from core.storage import store

SPEC = CompareSpec(
    models=("digits-linear", "digits-mlp"), attacks=("fgsm", {"name": "pgd", "steps": 5}), eps=(0, 0.1), n=60
)


def test_nothing_is_run_by_looking(root: Path) -> None:
    """Before anything ran every cell is missing, the models are known, and the exports still work."""
    made = compare(SPEC, root)
    assert len(made.missing) == 4
    assert made.table.empty
    assert made.models["network"].tolist() == ["linear", "mlp"]
    assert "correct" in to_markdown(made)


def test_cells_fill_in_one_by_one(root: Path) -> None:
    """One finished sweep fills its rows; running the whole comparison fills the rest without doing it again."""
    first = compare(SPEC, root).missing[0]
    done = queue.run(first, root)
    assert isinstance(done, store.Artifact)
    partly = compare(SPEC, root)
    assert len(partly.missing) == 3
    assert partly.table["accuracy"].tolist() == [row["accuracy"] for row in done.card["rows"]]
    queue.run(SPEC, root)
    whole = compare(SPEC, root)
    assert whole.missing == []
    assert len(whole.table) == 2 * 2 * 2
    assert set(whole.table["attack"]) == {"fgsm", "pgd(steps=5)"}
    found = store.find(first, root)
    assert found is not None
    assert found.card["created"] == done.card["created"]


def test_exports_carry_figures_and_provenance(root: Path) -> None:
    """CSV reads back to the table; Markdown and LaTeX name seed, n, ε and the interval; undefined is a dash."""
    queue.run(SPEC, root)
    made = compare(SPEC, root)
    back = pd.read_csv(io.StringIO(to_csv(made)))
    assert back["accuracy"].tolist() == pytest.approx(made.table["accuracy"].tolist())
    for text in (to_markdown(made), to_latex(made)):
        assert "seed 0" in text
        assert "n = 60" in text
        assert "Clopper" in text
    assert to_markdown(made).count("\n| digits-") == len(made.table)
    assert "| passes " in to_markdown(made)
    assert "| 2 + 1 " in to_markdown(made)  # FGSM's gradient, and a look at the result of this ε
    assert passes({"forwards": float("nan"), "backwards": float("nan")}) == passes({}) == "–"  # of a sweep of before
    assert r"\toprule" in to_latex(made)
    assert to_latex(made).isascii()


def test_models_of_other_data_are_warned_about(root: Path) -> None:
    """Rows of different data sets stand side by side only with a warning."""
    made = compare(CompareSpec(models=("digits-linear", "digits-4v9"), n=20), root)
    assert any("not comparable" in warning for warning in made.warnings)


def test_damaged_cell_counts_as_missing(root: Path) -> None:
    """A sweep whose table was cut short is set aside and offered again; the others stay."""
    queue.run(SPEC, root)
    sweep = compare(SPEC, root).spec.sweeps()[0]
    assert isinstance(sweep, SweepSpec)
    table = store.locate(sweep, root) / "images.parquet"
    table.write_bytes(table.read_bytes()[:100])
    made = compare(SPEC, root)
    assert made.missing == [sweep]
    assert len(made.table) == 6


def test_unknown_model_lists_the_known(root: Path) -> None:
    """The error names what there is."""
    with pytest.raises(ValueError, match="digits-linear"):
        compare(CompareSpec(models=("nope",)), root)


def test_training_cost_is_in_the_table_of_models(root: Path) -> None:
    """Parameters, accuracy with its interval, and seconds."""
    row = compare(SPEC, root).models.iloc[0]
    assert row["parameters"] == 650
    assert row["test_low"] < row["test_accuracy"] < row["test_high"]
    assert row["seconds"] > 0
    spec = store.open_model(row["model"], root).spec()
    assert isinstance(spec, TrainSpec)
