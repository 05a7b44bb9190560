"""The page of the Jacobian attacks: how few pixels are enough, on one image and on many; what is proven; files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from core import specs
from core.evaluation.tables.enumeration import Enumeration
from core.jobs import at_once, queue, running
from core.storage import store
from tests.pages.said import text
from tests.pages.sparse import PAGE, SCALAR, case_of, trained
from ui.sparse import enumeration, fewest, trace

if TYPE_CHECKING:
    from tests.pages.conftest import Lab

HOW_SPARSE = {"sparse_attack_tab": "How sparse can it be?"}


def test_many_images(lab: Lab) -> None:
    """A first distribution at once, the running job, then the one that was asked for, with what is proven."""
    model = trained(lab, SCALAR)
    spec = specs.AttackSpec(
        model=model.id,
        attack={"name": "jacobian_sparse", "max_features": 60},
        n=200,
        source=0,
    )
    app = lab.open(PAGE, sparse_attack_tab="Many images")
    assert "of 20; 95 % interval" in text(app)
    assert app.button(key=f"{PAGE}_measure").label == "Measure on 200 images"
    gone = lab.job(spec, "done")
    assert app.run().button(key=f"{PAGE}_measure")
    queue.forget(gone, lab.root)
    job = lab.job(spec, "running")
    app.run()
    assert any(button.key == f"{PAGE}_cancel_{job}" for button in app.button)
    result = running.run(spec, lab.root, device="cpu")
    app.run()
    assert not app.exception
    assert isinstance(result, store.Artifact)
    metrics = result.card["metrics"]
    assert f"{metrics['median_l0']:g} pixels are enough for half of the images of class 4" in text(app)
    assert f"of {metrics['n']:,}; 95 % interval" in text(app)
    assert list(app.dataframe[0].value["count"]) == ["swapped", "pruned", "greedy", "linear estimate"]
    assert "Proven" not in text(app)
    spec = specs.AttackSpec(model=model.id, attack={"name": "exhaustive", "levels": 3}, n=5, source=0)
    proof = running.run(spec, lab.root, device="cpu")
    app.run()
    assert isinstance(proof, store.Artifact)
    assert proof.card["proven"]["proven"] in text(app)


def test_dense_formula_on_many_images(lab: Lab) -> None:
    """With and without box, at 1 and at the chosen multiple of ε*."""
    trained(lab, SCALAR)
    app = lab.open(PAGE, sparse_attack_tab="Many images", sparse_attack_many="little", sparse_attack_n=50)
    assert len(app.dataframe[0].value) == 4
    assert "fools" in text(app)


def test_enumeration_runs_as_a_job_and_says_what_is_proven(lab: Lab) -> None:
    """Before: how many images there are to try, and a button. Then the sentence, and the figures behind it."""
    model = trained(lab, SCALAR)
    app = lab.open(PAGE, **HOW_SPARSE, sparse_attack_sparsity="enumerate", sparse_attack_at_once="1")
    assert "64 × 256 = 16,384 images with one change, by rank-one updates" in text(app)
    assert app.button(key=f"{PAGE}_ask_enumerate").label == "Try every change"
    attack = {"name": "exhaustive", "pixels": 2}
    spec = specs.AttackSpec(model=model.id, attack=attack, indices=(case_of(model).index,))
    many = specs.AttackSpec(model=model.id, attack=attack, source=0, n=10)
    job = lab.job(spec, "running")
    app = lab.open(PAGE, **HOW_SPARSE, sparse_attack_sparsity="enumerate", sparse_attack_at_once="2")
    assert any(button.key == f"{PAGE}_cancel_{job}" for button in app.button)
    result = running.run(spec, lab.root, device="cpu")
    running.run(many, lab.root, device="cpu")
    app.run()
    assert not app.exception
    assert isinstance(result, store.Artifact)
    proof = Enumeration.of(result.arrays("images"))
    assert proof.sentence() in text(app)
    found = {metric.label: metric.value for metric in app.metric}
    assert found["Images tried"] == f"{proof.singles + proof.pairs:,}"
    assert found["Fewest"] == (str(proof.fewest) if proof.fewest else f"> {proof.more_than}")
    app = lab.open(PAGE, sparse_attack_tab="Many images", sparse_attack_many="two", sparse_attack_at_once="2")
    frame = next(table.value for table in app.dataframe if "enumerated" in table.value)
    assert list(frame["changes"]) == ["one is enough", "two are needed", "more, or not found"]
    assert "pairs at 0 or 1 only" in text(app)
    assert frame["enumerated"].sum() == frame["greedy"].sum() == 10
    assert (frame["enumerated"][:2].cumsum() >= frame["greedy"][:2].cumsum()).all()  # greedy is an upper bound


def test_enumeration_of_one_change_claims_nothing_about_two(lab: Lab) -> None:
    """Two were not tried: the table tells one from more than one, and so does the caption."""
    model = trained(lab, SCALAR)
    attack = {"name": "exhaustive", "pixels": 1}
    one = specs.AttackSpec(model=model.id, attack=attack, indices=(case_of(model).index,))
    many = specs.AttackSpec(model=model.id, attack=attack, source=0, n=10)
    for spec in (one, many):
        running.run(spec, lab.root, device="cpu")
    app = lab.open(PAGE, sparse_attack_tab="Many images", sparse_attack_many="two", sparse_attack_at_once="1")
    frame = next(table.value for table in app.dataframe if "enumerated" in table.value)
    assert list(frame["changes"]) == ["one is enough", "more than one"]
    assert frame["enumerated"].sum() == frame["greedy"].sum() == 10
    assert "Exact for one change; two were not tried." in text(app)


@pytest.mark.slow
def test_frontier_shows_the_image_of_a_cap(lab: Lab) -> None:
    """At once for one image; the slider offers the caps for which something was found; the median is a job."""
    model = trained(lab, SCALAR)
    app = lab.open(PAGE, **HOW_SPARSE, sparse_attack_sparsity="cap")
    frame = next(table.value for table in app.dataframe if "cap ε" in table.value)
    counts = pd.to_numeric(frame["pixels"], errors="coerce").dropna()
    assert (counts.diff().dropna() <= 0).all()
    slider = app.select_slider(key=f"{PAGE}_cap")
    assert len(slider.options) == len(counts)
    slider.set_value(float(frame["cap ε"][counts.index[0]])).run()
    assert not app.exception
    running.run(specs.AttackSpec(model=model.id, attack="frontier", n=50, source=0), lab.root, device="cpu")
    app.run()
    assert not app.exception


def test_ways_to_count_say_what_is_proven(lab: Lab) -> None:
    """Before the enumeration the proven count is a dash and said so; after it, the bar stands below what was found."""
    model = trained(lab, SCALAR)
    case = case_of(model)
    app = lab.open(PAGE, **HOW_SPARSE)
    assert "not computed yet" in text(app)
    assert fewest.proven(case) is None
    running.run(specs.AttackSpec(model=model.id, attack="exhaustive", indices=(case.index,)), lab.root, device="cpu")
    assert "not computed yet" not in text(app.run())
    least = fewest.proven(case)
    assert least is not None
    greedy = specs.AttackSpec(model=model.id, attack="jacobian_sparse", indices=(case.index,))
    made = at_once.answer(greedy, lab.root, seconds=300)
    count = int(made.table("images")["l0"][0])
    bars = fewest.bars(trace.Trace.of(made.arrays("images")), count, True, least, "pixels").data[0]
    shown = dict(zip(bars.y, bars.x, strict=True))
    assert shown["proven: at least"] <= shown["swapped"] == count


def test_files_hold_what_their_readers_need(lab: Lab) -> None:
    """The tab Export offers tables, pictures and arrays of a few pixels, of all pixels and of many images."""
    trained(lab, SCALAR)
    app = lab.open(PAGE, sparse_attack_tab="Export")
    names = {button.proto.id.split("download_")[-1] for button in app.get("download_button")}
    assert names >= {
        *("changed_pixels_csv", "sparse_png", "sparse_npz", "dense_csv", "dense_png", "dense_npz"),
        *("sparse_many_csv", "sparse_many_npz", "sparse_counts_tex"),
    }


def test_colour_changes_name_their_channel() -> None:
    """A feature of a colour image is one colour of one pixel: tables say which, and maps show the lowest of three."""
    x = np.zeros((3, 2, 2), np.float32)
    x_adv = x.copy()
    x_adv[1, 0, 1] = x_adv[2, 0, 1] = 1
    frame = trace.changes(x, x_adv)
    assert frame[["channel", "row", "column"]].to_numpy().tolist() == [[1, 0, 1], [2, 0, 1]]
    assert "channel" not in trace.changes(x[:1], x_adv[1:2])
    proof = Enumeration(3, 256, 12, True, 3072, 5, 0, 0, False, (((1, 0, 1), 0.0, 1.0),), False)
    assert enumeration.changed(proof).iloc[0].to_dict() == {
        "row": 0,
        "column": 1,
        "channel": 1,
        "old": "0/255",
        "new": "255/255",
    }
    margin = np.full((3, 2, 2), np.nan)
    margin[0, 0, 0], margin[1, 0, 0], margin[2, 1, 1] = 3, 1, 2
    drawn = enumeration.margin_map(margin, 4.0).data[0].z
    assert drawn[0][0] == -3
    assert drawn[1][1] == -2
    assert np.isnan(drawn[0][1])
