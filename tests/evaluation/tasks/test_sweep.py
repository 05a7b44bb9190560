"""Sweeps over ε: rows, per-image table and gallery agree, and mean what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.attacks.engine.result import AttackResult
from core.attacks.run import run_method
from core.evaluation.tables import comparison
from core.evaluation.tasks import sweep
from core.jobs import queue
from core.specs import CompareSpec, SweepSpec
from core.storage import store

EPS = (0.0, 0.05, 0.1, 0.2, 0.5)


def ran(root: Path, **fields: object) -> store.Artifact:
    """Run a sweep of the mlp over 120 images."""
    spec = SweepSpec(**{"model": "digits-mlp", "n": 120, "eps": EPS, **fields})  # type: ignore[arg-type]
    made = queue.run(spec, root)
    assert isinstance(made, store.Artifact)
    return made


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "attack",
    [
        "fgsm",
        "pgd",
        {"name": "pgd", "norm": "l2"},
        {"name": "apgd", "norm": "l1", "steps": 5},
        {"name": "square", "queries": 30},
        "rfgsm",
        "bim",
        "mifgsm",
        "jacobian_dense",
    ],
)
def test_sweep_rows_are_the_table_s(root: Path, attack: object) -> None:
    """Accuracy at 0 is clean accuracy; each row is the mean of its images; accuracy falls; distances stay in budget."""
    made = ran(root, attack=attack)
    table, rows = made.table("images"), made.card["rows"]
    assert [row["eps"] for row in rows] == list(EPS)
    for row in rows:
        part = table[table["eps"] == row["eps"]]
        assert len(part) == row["n"] == 120
        assert row["accuracy"] == pytest.approx(float((part["pred"] == part["y"]).mean()))
        assert row["confidence"] == pytest.approx(float(part["confidence"].mean()), abs=1e-6)
        norm = attack.get("norm", "linf") if isinstance(attack, dict) else "linf"
        assert float(part[norm].max()) <= row["eps"] + 1e-6
        assert ((part["pixels"] > 0) == (part["linf"] > 0)).all()
        assert (part["l0"] == part["pixels"]).all()  # grey images
    saved = store.open_model("digits-mlp", root).table("test").set_index("index")
    clean = table[table["eps"] == 0].set_index("index")
    assert (clean["pred"] == saved.loc[clean.index, "pred"]).all()
    accuracies = [row["accuracy"] for row in rows]
    assert accuracies[-1] < accuracies[0]
    if attack != "fgsm":
        assert accuracies == sorted(accuracies, reverse=True)


def test_many_steps_are_stronger_than_one(root: Path) -> None:
    """PGD leaves no more images than FGSM at any ε."""
    single, many = (ran(root, attack=attack).card["rows"] for attack in ("fgsm", "pgd"))
    assert all(b["accuracy"] <= a["accuracy"] + 1e-9 for a, b in zip(single, many, strict=True))
    assert many[-1]["accuracy"] < 0.1


def test_fgsm_costs_one_gradient_and_one_look_an_eps(root: Path) -> None:
    """However many ε: what an ε rests on is the gradient and the look at its own result, not those of the others."""
    rows = ran(root, attack="fgsm").card["rows"]
    assert [row["forwards"] for row in rows] == [2] * 5
    assert [row["backwards"] for row in rows] == [1] * 5


def test_passes_are_those_of_the_search_that_decides(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image's at ε are those of the search at ε, or of the one in a smaller ball that fooled it, and one look."""
    spent = []

    def counted(*args: Any, **settings: Any) -> AttackResult:
        spent.append(run_method(*args, **settings))
        return spent[-1]

    monkeypatch.setattr(sweep, "run_method", counted)
    rows = ran(root, attack="pgd", seed=3).card["rows"]
    assert (rows[0]["forwards"], rows[0]["backwards"]) == (1, 0)
    decided = {"forwards": 0, "backwards": 0}
    for row, made in zip(rows[1:], spent, strict=False):  # a rung that no image reached attacks nothing
        now = {name: decided[name] + int(getattr(made, name).sum()) for name in decided}
        assert row["forwards"] == pytest.approx(now["forwards"] / 120 + 1)
        assert row["backwards"] == pytest.approx(now["backwards"] / 120)
        decided = {name: decided[name] + int(getattr(made, name)[made.success].sum()) for name in decided}


def test_passes_of_older_sweeps_are_left_out_where_they_are_those_of_several_eps() -> None:
    """A card without the mark has sums over the ladder: its first row alone is about its own ε."""
    rows = [{"eps": eps, "forwards": 10.0 * (k + 1), "backwards": 5.0} for k, eps in enumerate((0.1, 0.2))]
    assert comparison.rows_of({"rows": rows, "passes": comparison.PASSES}) == rows
    older = comparison.rows_of({"rows": rows})
    assert [row["forwards"] for row in older] == [10.0, None]
    assert comparison.passes(older[1]) == "–"


def test_fgsm_without_clipping_leaves_the_box(root: Path) -> None:
    """The literal formula moves every pixel by ε; the clipped one stays inside [0, 1]."""
    literal = ran(root, attack={"name": "fgsm", "clip": False}).arrays("gallery")
    clipped = ran(root, attack="fgsm").arrays("gallery")
    assert literal["x_adv"].max() > 1
    assert clipped["x_adv"].max() <= 1
    assert clipped["x_adv"].min() >= 0


def test_gallery_shows_one_right_image_a_class(root: Path) -> None:
    """Each class once, correctly classified, at every ε; at 0 the image itself."""
    made = ran(root)
    gallery, table = made.arrays("gallery"), made.table("images")
    assert sorted(gallery["y"].tolist()) == gallery["y"].tolist() == list(dict.fromkeys(gallery["y"].tolist()))
    assert gallery["x_adv"].shape == (len(EPS), *gallery["x"].shape)
    assert np.array_equal(gallery["x_adv"][0], gallery["x"])
    clean = table[table["eps"] == 0].set_index("index").loc[gallery["index"]]
    assert (clean["pred"] == clean["y"]).all()


def test_targeted_sweep_counts_the_target_only(root: Path) -> None:
    """A success is the target class; images of it are left out of the rate."""
    made = ran(root, attack="pgd", target=3)
    table, last = made.table("images"), made.card["rows"][-1]
    part = table[table["eps"] == EPS[-1]]
    assert (part["success"] == (part["pred"] == 3)).all()
    clean = table[table["eps"] == 0]
    counted = ((clean["pred"] == clean["y"]) & (clean["y"] != 3)).to_numpy()
    assert last["success_rate"] == pytest.approx(float(part["success"].to_numpy()[counted].mean()))
    with pytest.raises(ValueError, match="target: expected a class from 0 to 9, got 12"):
        ran(root, target=12)


def test_threshold_moves_a_scalar_network(root: Path) -> None:
    """With τ far below every score all is class 1; another model refuses a threshold."""
    low = ran(root, model="digits-4v9", n=30, threshold=-1e5).table("images")
    assert (low[low["eps"] == 0]["pred"] == 1).all()
    with pytest.raises(ValueError, match="only a scalar network"):
        ran(root, threshold=1.0)


def test_progress_covers_the_whole_ladder(root: Path) -> None:
    """Progress rises from ε to ε and never passes its total; what it raises stops the sweep."""
    seen: list[float] = []

    def on_progress(done: int, total: int, **metrics: object) -> None:
        seen.append(done / total)

    model = store.open_model("digits-mlp", root).id
    spec = SweepSpec(model=model, attack={"name": "pgd", "steps": 5}, n=40, eps=EPS)
    sweep.run(spec, root, device="cpu", on_progress=on_progress)
    assert seen
    assert max(seen) <= 1
    assert seen[-1] > 0.7


def test_transfer_s_curve_is_the_victim_s(root: Path) -> None:
    """Made on the linear model, scored on the mlp; a comparison runs it on every model, and needs the surrogate too."""
    made = ran(root, attack={"name": "transfer", "surrogate": "digits-linear", "steps": 5, "kernel": 3})
    accuracy = [row["accuracy"] for row in made.card["rows"]]
    assert accuracy == sorted(accuracy, reverse=True)
    assert accuracy[-1] < 0.7 * accuracy[0]
    assert made.card["spec"]["attack"]["surrogate"] == store.open_model("digits-linear", root).id
    with pytest.raises(ValueError, match=r"attack.surrogate: expected the id of a saved model for transfer"):
        CompareSpec(models=("digits-mlp",), attacks=("transfer",))
    asked = CompareSpec(models=("digits-mlp",), attacks=({"name": "transfer", "surrogate": "digits-linear"},), n=10)
    resolved = store.resolve(asked, root)
    assert isinstance(resolved, CompareSpec)
    assert resolved.attacks[0].surrogate == store.open_model("digits-linear", root).id
