"""Records: bounds that only tighten, contradictions that are told, curves that are lookups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.evaluation.tables import records
from core.evaluation.tables.metrics import clopper_pearson
from core.evaluation.tables.paired import holm
from core.jobs import queue
from core.specs import AttackSpec, EvaluateSpec, RadiiSpec, SweepSpec
from core.storage import store

MODEL = "digits-linear"


def model(root: Path) -> store.Artifact:
    """The trained linear model."""
    return store.open_model(MODEL, root)


def plant(
    root: Path,
    *,
    n: int = 20,
    first: int = 0,
    norm: str = "linf",
    eps: float | None = None,
    data: str = "",
    **columns: Any,
) -> store.Artifact:
    """Plant a radii artifact (with `eps`, one that speaks of a ball) over n test images from the `first`."""
    tests = model(root).table("test").iloc[first : first + n]
    table = pd.DataFrame({"index": tests["index"], "y": tests["y"]}).assign(
        **{"clean_correct": True, "lower": 0.0, "upper": np.inf, "found_by": "fmn", "forwards": 3, "backwards": 2}
        | columns
    )
    budget = 50 + len(store.results(model(root).id, root, "radii"))
    spec = RadiiSpec(model=model(root).id, norm=norm, n=n, budget=budget)  # type: ignore[arg-type]
    card = {"metrics": {}, "rows": [], "norm": norm, "eps": eps} | ({"data": {"fingerprint": data}} if data else {})
    return store.write(spec, root, card=card, tables={"images": table.reset_index(drop=True)})


def load(root: Path, norm: str = "linf", **options: Any) -> records.Record:
    """The record, which must be there."""
    record = records.load(model(root).id, norm, root, **options)
    assert record is not None
    return record


def test_record_is_the_tightest_of_all_artifacts(root: Path) -> None:
    """Against the minimum and maximum over the tables themselves, on real runs of every kind that it reads."""
    name = model(root).id
    sweep = SweepSpec(model=name, attack={"name": "pgd", "steps": 5}, eps=(0, 0.05, 0.1, 0.3), n=30)
    near = queue.run(RadiiSpec(model=name, n=40, budget=60), root)
    far = queue.run(RadiiSpec(model=name, n=30, budget=200), root)
    swept = queue.run(sweep, root)
    attacked = queue.run(AttackSpec(model=name, attack="fgsm", eps=0.2, n=10), root)
    assert isinstance(near, store.Artifact)
    assert isinstance(far, store.Artifact)
    assert isinstance(swept, store.Artifact)
    assert isinstance(attacked, store.Artifact)
    record = load(root)
    assert record.table["index"].tolist() == near.table("images")["index"].tolist()
    tables = [artifact.table("images") for artifact in (near, far, swept, attacked)]
    for row in record.table.to_dict("records"):
        found, proven = [np.inf], [0.0]
        for table in tables:
            own = table[table["index"] == row["index"]]
            found += own.loc[own["pred"] != own["y"], "linf"].tolist()
            proven += own["lower"].tolist() if "lower" in own else []
        expected = (max(proven), min(found)) if row["clean_correct"] else (0, 0)
        assert (row["lower"], row["upper"]) == pytest.approx(expected, rel=1e-6)
    assert len(record.contradictions) == 0
    assert {source.task for source in record.sources} == {"radii", "sweep", "attack"}
    better = {source.id: source for source in record.sources}[far.id]
    assert better.uppers > 0


def test_more_artifacts_only_tighten(root: Path) -> None:
    """A looser artifact changes nothing, a tighter one every bound that it tightens; passes add up."""
    plant(root, upper=0.3, lower=0.1)
    first = load(root)
    plant(root, upper=0.4, lower=0.05)
    again = load(root)
    assert again.table[["lower", "upper"]].equals(first.table[["lower", "upper"]])
    tighter = plant(root, n=5, upper=0.2, lower=0.15)
    record = load(root)
    right = record.table["clean_correct"].to_numpy()
    assert len(record) == 20
    assert record.table["upper"][right].tolist() == [0.2] * int(right[:5].sum()) + [0.3] * int(right[5:].sum())
    assert set(record.table["found_in"][:5][right[:5]]) == {tighter.id}
    assert record.table["forwards"].tolist() == [9] * 5 + [6] * 15


def test_record_covers_the_images_of_all_searches(root: Path) -> None:
    """Not those of the first radii alone: each image has what is tightest for it, and says who looked at it."""
    plant(root, n=20, first=0, upper=0.3)
    plant(root, n=20, first=10, upper=0.2)
    record = load(root)
    order = model(root).table("test")["index"].tolist()[:30]
    table = record.table.set_index("index").loc[order]
    assert len(record) == 30
    right = table["clean_correct"].to_numpy()
    assert table["upper"][right].tolist() == [0.3] * int(right[:10].sum()) + [0.2] * int(right[10:].sum())
    queue.run(SweepSpec(model=model(root).id, eps=(0, 0.1), n=60), root)
    assert len(load(root)) == 30, "one attack alone is no search"
    assert "; " in record.search
    assert "radii of 50 passes on 10 images" in record.search
    assert record.searched
    assert len(record.take(np.array(order[:10]))) == 10
    assert record.take(np.array(order[:10])).search == "radii of 50 passes"


def test_what_was_made_from_other_data_is_left_out_and_named(root: Path) -> None:
    """Its image 7 is another image than the model's image 7."""
    kept = plant(root, upper=0.3, data=model(root).card["data"]["fingerprint"])
    other = plant(root, n=25, upper=0.01, data="of another data set")
    record = load(root)
    assert record.left_out == (other.id,)
    assert {source.id for source in record.sources} == {kept.id}
    assert record.table["upper"].max() == 0.3
    assert len(record) == 20


def test_found_by_is_one_vocabulary(root: Path) -> None:
    """Registry names, an evaluation's parts and what was wrong before are all said as people read them."""
    names = ["fmn", "sigma-zero", "APGD margin, start 1", "ddn", "carlini_wagner"]
    plant(root, n=100, upper=0.2, found_by=names * 20)
    queue.run(SweepSpec(model=model(root).id, eps=(0, 0.1), n=100), root)
    table = load(root).table
    said = {"FMN", "σ-zero", "APGD margin, start 1", "DDN", "clean image", "Carlini-Wagner", "FGSM"}
    assert set(table["found_by"]) == said
    assert (table["found_by"] == "clean image").tolist() == (~table["clean_correct"]).tolist()


def test_tests_count_the_images_that_both_were_searched_on(root: Path) -> None:
    """Images that only a weak attack saw are no win; Holm's correction runs over all pairs."""
    plant(root, n=20, upper=0.3)
    long, short = load(root), load(root)
    bare = long.table.assign(search=np.where(np.arange(20) < 12, "radii of 50 passes", ""), upper=0.1)
    short = replace(long, table=bare)
    made = records.tests({"A": long, "B": short, "C": long}, 0.2)
    assert made["n"].tolist() == [12, 20, 12]
    right = int(long.table["clean_correct"][:12].sum())
    assert made["only_a"].tolist() == [right, 0, 0]
    assert made["p_holm"].tolist() == pytest.approx(holm(made["p"]).tolist())
    assert made["better"].tolist() == ["A", "", "C"]
    assert len(records.tests({"A": long}, 0.2)) == 0


def test_contradiction_is_told_and_the_example_counts(root: Path) -> None:
    """A certificate beyond a verified example is a bug somewhere: both bounds and both artifacts are named."""
    one, other = plant(root, upper=0.2), plant(root, lower=np.where(np.arange(20) == 3, 0.25, 0.1))
    record = load(root)
    right = bool(record.table["clean_correct"][3])
    assert right
    (row,) = record.contradictions.to_dict("records")
    assert (row["lower"], row["upper"], row["found_in"], row["proven_in"]) == (0.25, 0.2, one.id, other.id)
    made = records.curve(record, [0.2, 0.22])
    assert made["proven"].tolist() == [0, 0]
    assert (record.table["lower"] <= record.table["upper"]).all()


def test_contradiction_at_the_very_eps_is_told(root: Path) -> None:
    """A ball is closed: what is proven at .3 and fooled at a distance of .3 contradict each other."""
    plant(root, eps=0.3, upper=np.where(np.arange(20) == 3, float(np.float32(0.3)), np.inf))
    assert len(load(root).contradictions) == 0
    plant(root, eps=0.3, lower=np.where(np.arange(20) == 3, 0.3, 0.0))
    record = load(root)
    assert bool(record.table["clean_correct"][3])
    (row,) = record.contradictions.to_dict("records")
    assert (row["lower"], row["upper"]) == (0.3, 0.3)
    assert not record.proven(0.3).any()


def test_lookup_at_an_eps_of_a_slider(root: Path) -> None:
    """A slider's 3 · 0.1 is the bounds' 0.3, from above as from below: nothing jumps by a last binary digit."""
    plant(root, upper=np.where(np.arange(20) < 10, 0.3, np.inf), lower=np.where(np.arange(20) < 10, 0.0, 0.3))
    record = load(root)
    right = record.table["clean_correct"].to_numpy()
    for eps in (3 * 0.1, 0.3, np.nextafter(0.3, 0)):
        row = records.curve(record, [eps]).iloc[0]
        assert row["proven"] == row["attacked"] == right[10:].sum() / 20
        assert record.proven(eps).sum() == record.robust(eps).sum() == right[10:].sum()


def test_rounding_of_eps_is_no_survival(root: Path) -> None:
    """0.3 in float32 is more than 0.3: what fell in the ball of 0.3 has fallen at 0.3, what was proven there stands."""
    plant(root, eps=0.3, upper=np.where(np.arange(20) < 10, float(np.float32(0.3)), np.inf), lower=0.0)
    record = load(root)
    right = record.table["clean_correct"].to_numpy()
    assert records.curve(record, [0.3])["attacked"].item() == right[10:].sum() / 20
    plant(root, eps=0.3, n=20, upper=np.inf, lower=np.where(np.arange(20) < 10, 0.0, np.nextafter(np.float32(0.3), 0)))
    assert records.curve(load(root), [0.3])["proven"].item() == right[10:].sum() / 20


def test_curve_is_the_count_image_by_image(root: Path) -> None:
    """Against counting with a loop, ends and ties included; n, intervals and order of the interval's ends."""
    rng = np.random.default_rng(0)
    upper = rng.choice([0.1, 0.2, 0.3, np.inf], 200)
    plant(root, n=200, upper=upper, lower=np.where(np.isfinite(upper), upper, 0.4) * rng.choice([0, 0.5, 0.9], 200))
    record = load(root)
    eps = np.array([0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.36, 1.0])
    made = records.curve(record, eps)
    for row in made.to_dict("records"):
        table = record.table
        attacked = int((table["upper"] > row["eps"]).sum())
        proven = int(((table["lower"] >= row["eps"]) & table["clean_correct"]).sum())
        assert (row["attacked"], row["proven"], row["n"]) == (attacked / 200, proven / 200, 200)
        assert (row["attacked_low"], row["attacked_high"]) == pytest.approx(clopper_pearson(attacked, 200))
        assert (row["proven_low"], row["proven_high"]) == pytest.approx(clopper_pearson(proven, 200))
        assert record.robust(row["eps"]).sum() == attacked
        assert record.proven(row["eps"]).sum() == proven
    assert (made["proven"] <= made["attacked"]).all()
    assert made["proven"][0] == made["attacked"][0] == record.table["clean_correct"].mean()


def test_curve_sorts_once_and_calls_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of ε after the first costs a search in a sorted array: no table is read, nothing sorted again."""
    plant(root, upper=0.2)
    record = load(root)
    records.curve(record, [0.1])

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("a curve must be a lookup")

    monkeypatch.setattr(np, "sort", never)
    monkeypatch.setattr(store.Artifact, "table", never)
    assert len(records.curve(record, np.linspace(0, 1, 50))) == 50


def test_an_evaluation_tightens_at_its_eps(root: Path) -> None:
    """At its ε the record leaves no more than the evaluation did, image by image, and no proof contradicts it."""
    name = model(root).id
    queue.run(RadiiSpec(model=name, n=40, budget=60), root)
    evaluated = queue.run(EvaluateSpec(model=name, eps=0.1, effort="quick", n=30), root)
    assert isinstance(evaluated, store.Artifact)
    record = load(root)
    assert record.searched
    assert "evaluate" in {source.task for source in record.sources}
    assert len(record.contradictions) == 0
    table = evaluated.table("images").set_index("index")
    fell = table.index[table["upper"] <= 0.1 * (1 + 1e-6)]
    left = set(record.table["index"][record.robust(0.1)])
    assert len(fell)
    assert not left & set(fell)
    shared = load(root, n=30)
    assert records.curve(shared, [0.1])["attacked"].item() <= evaluated.card["metrics"]["robust_accuracy"] + 1e-9


def test_other_norms_bound_this_one(root: Path) -> None:
    """A change of length .5 in l2 is at most .5 in linf; a radius of .1 proven in linf is safe in l2."""
    plant(root, norm="l2", upper=0.5, lower=0.3)
    plant(root, norm="linf", upper=0.7, lower=0.1)
    inner, outer = load(root, "linf"), load(root, "l2")
    right = inner.table["clean_correct"].to_numpy()
    assert set(inner.table["upper"][right]) == {0.5}
    assert set(inner.table["lower"][right]) == {0.1}
    assert set(outer.table["upper"][right]) == {0.5}
    assert set(outer.table["lower"][right]) == {0.3}


def test_what_is_no_image_does_not_count(root: Path) -> None:
    """Unclipped FGSM leaves the box: its sweep alone makes no record."""
    spec = SweepSpec(model=model(root).id, attack={"name": "fgsm", "clip": False}, eps=(0, 0.3), n=20)
    queue.run(spec, root)
    assert records.load(model(root).id, "linf", root) is None
    with pytest.raises(ValueError, match="norm: expected one of linf, l2, l1, l0, got 'l3'"):
        records.load(model(root).id, "l3", root)


def test_a_damaged_artifact_is_left_out(root: Path) -> None:
    """The record goes on with the others."""
    plant(root, upper=0.3)
    bad = plant(root, upper=0.1)
    (bad.folder / "images.parquet").write_bytes(b"cut short")
    assert {source.id for source in load(root).sources} == {
        result.id for result in store.results(model(root).id, root, "radii")
    }
    assert load(root).table["upper"].min() in (0, 0.3)


def test_common_images_of_several_models(root: Path) -> None:
    """Models are compared on the images that all records have, in the same order."""
    plant(root, n=20)
    first, second = load(root), load(root, n=8)
    shared = records.common([first, second])
    assert [len(record) for record in shared] == [8, 8]
    assert shared[0].table["index"].tolist() == shared[1].table["index"].tolist()
