"""The page of the Jacobian attacks: its four parts on really trained small networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from core import specs
from core.evaluation.tables.enumeration import Enumeration
from core.jobs import queue, running
from core.storage import store
from ui.form import samples
from ui.sparse import enumeration, one_image, views

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

    from tests.pages.conftest import Lab

PAGE = "sparse_attack"
PARTS = (
    "All pixels a little",
    "A few pixels",
    "Every change of one or two",
    "Count against ε",
    "How sparse can it be?",
    "Can one tell?",
)
SCALAR = specs.TrainSpec(data=specs.DataSpec(classes=(4, 9)), network="mlp", scalar=True, epochs=15)
MANY = specs.TrainSpec(network="linear", epochs=3)


def trained(lab: Lab, spec: specs.TrainSpec) -> store.Artifact:
    """A really trained network on digits."""
    made = running.run(spec, lab.root, device="cpu")
    assert isinstance(made, store.Artifact)
    return made


def text(app: AppTest) -> str:
    """All that the page says in boxes and captions."""
    blocks = (*app.info, *app.success, *app.warning, *app.error, *app.caption, *app.markdown)
    return "\n".join(block.value for block in blocks)


def case_of(model: store.Artifact, label: int = 0, target: int | None = None) -> views.Case:
    """The first image of a class, as the page would take it."""
    row = samples.candidates(model.table("test"), label).iloc[0]
    looked = views.look(model.id, model.root, int(row["index"]))
    scalar = "score" in model.table("test")
    return views.Case(model, int(row["index"]), label, target, 0.0, scalar, **looked)


def test_scalar_network_shows_a_first_result_at_once(lab: Lab) -> None:
    """Jacobian, scores and the dense formula with and without the box, without any click."""
    trained(lab, SCALAR)
    app = lab.open(PAGE)
    assert "∂N/∂x" in text(app)
    frame = app.dataframe[0].value
    assert list(frame[""]) == ["in the box [0, 1]", "no box"]
    # the box takes room away, so the formula needs at least as much
    assert frame["ε*"][0] >= frame["ε*"][1] > 0
    assert app.slider(key=f"{PAGE}_threshold").value == 0


@pytest.mark.sampled(5)
@pytest.mark.parametrize("part", PARTS)
def test_every_part_draws(lab: Lab, part: str) -> None:
    """Each part draws for a scalar network; what needs a click says so."""
    trained(lab, SCALAR)
    app = lab.open(PAGE, sparse_attack_part=part)
    assert not app.exception
    if part == "How sparse can it be?":
        assert "Not measured yet" in text(app)


@pytest.mark.parametrize("target", ["any", "3"])
def test_model_of_ten_classes(lab: Lab, target: str) -> None:
    """Margins stand in for the score, and a target may be chosen."""
    trained(lab, MANY)
    app = lab.open(PAGE, sparse_attack_part="A few pixels", sparse_attack_target=target)
    assert not app.exception
    assert app.selectbox(key=f"{PAGE}_output").value == "margin"
    assert {metric.label for metric in app.metric} >= {"Linear estimate", "Greedy", "Pruned"}


def test_scrubber_rebuilds_the_image_from_the_trace(lab: Lab) -> None:
    """After 0 changes the image is the original; after all that are kept it is the stored result."""
    model = trained(lab, SCALAR)
    case = case_of(model)
    spec = specs.AttackSpec(model=model.id, attack="jacobian_sparse", indices=(case.index,))
    result = running.run(spec, lab.root, device="cpu")
    assert isinstance(result, store.Artifact)
    arrays = result.arrays("images")
    trace = views.Trace.of(arrays)
    assert np.array_equal(trace.image(0), arrays["x"][0])
    assert np.array_equal(trace.image("pruned"), arrays["x_adv"][0])
    margins = case.margin(case.read(np.stack([trace.image(k) for k in range(len(trace.order) + 1)])))
    assert np.allclose(margins, trace.margin, atol=1e-4)
    table = trace.table(case)
    k, row, column = 0, int(table["row"][0]), int(table["column"][0])
    assert trace.image(k + 1)[0, row, column] == table["new"][0]
    app = lab.open(PAGE, sparse_attack_part="A few pixels", sparse_attack_step="1")
    assert app.select_slider(key=f"{PAGE}_step").value == 1
    assert not app.exception


def test_threshold_decides_which_images_are_right(lab: Lab) -> None:
    """With τ above every score, no image of the second class is read correctly, and the page says so."""
    trained(lab, SCALAR)
    app = lab.open(PAGE, sparse_attack_source="1")
    top = app.slider(key=f"{PAGE}_threshold").max
    app.slider(key=f"{PAGE}_threshold").set_value(top).run()
    assert "No test image of class 9 is classified correctly" in text(app)


def test_many_images(lab: Lab) -> None:
    """The histogram's table, the dense formula and the running job."""
    model = trained(lab, SCALAR)
    spec = specs.AttackSpec(
        model=model.id,
        attack={"name": "jacobian_sparse", "max_features": 60},
        n=200,
        source=0,
    )
    app = lab.open(PAGE, sparse_attack_part="How sparse can it be?")
    assert "Not measured yet" in text(app)
    gone = lab.job(spec, "done")
    assert "Not measured yet" in text(app.run())
    queue.forget(gone, lab.root)
    job = lab.job(spec, "running")
    app.run()
    assert any(button.key == f"{PAGE}_cancel_{job}" for button in app.button)
    result = running.run(spec, lab.root, device="cpu")
    app.run()
    assert not app.exception
    assert isinstance(result, store.Artifact)
    found = {metric.label: metric.value for metric in app.metric}
    assert found["Median count"] == f"{result.card['metrics']['median_l0']:g}"
    assert list(app.dataframe[0].value["count"]) == ["swapped", "pruned", "greedy", "linear estimate"]
    assert "Proven" not in text(app)
    spec = specs.AttackSpec(model=model.id, attack={"name": "exhaustive", "levels": 3}, n=5, source=0)
    proof = running.run(spec, lab.root, device="cpu")
    app.run()
    assert isinstance(proof, store.Artifact)
    assert proof.card["proven"]["proven"] in text(app)
    assert len(app.dataframe[1].value) == 4  # with and without box, at 1 and at the chosen multiple of ε*


def test_quiz_counts_answers(lab: Lab) -> None:
    """One answer counts once; the next pair asks anew."""
    trained(lab, SCALAR)
    app = lab.open(PAGE, sparse_attack_part="Can one tell?")
    app.button(key=f"{PAGE}_quiz_left").click().run()
    assert not app.exception
    assert "of 1 right so far" in text(app)
    assert app.button(key=f"{PAGE}_quiz_right").disabled
    app.button(key=f"{PAGE}_quiz_next").click().run()
    assert not app.button(key=f"{PAGE}_quiz_left").disabled


def test_images_that_cannot_be_read_are_one_sentence(lab: Lab) -> None:
    """A model whose test table names images that the data set does not have: an error, no exception."""
    lab.model(data={"dataset": "digits", "classes": [4, 9]}, scalar=True)
    app = lab.open(PAGE, sparse_attack_source="0")
    assert not app.exception
    assert "has no test image" in text(app)


def test_slope_is_the_derivative_of_the_margin(lab: Lab) -> None:
    """Of the linear network exactly: the margin moves by slope · δ."""
    case = case_of(trained(lab, MANY), label=4, target=9)
    delta = np.random.default_rng(0).uniform(-0.01, 0.01, case.x.shape).astype(np.float32)
    before, after = case.margin(case.read(np.stack([case.x, case.x + delta])))
    assert after - before == pytest.approx(float((case.slope(9) * delta).sum()), abs=1e-4)


def test_enumeration_runs_as_a_job_and_says_what_is_proven(lab: Lab) -> None:
    """Before: how many images there are to try, and a button. Then the sentence, and the figures behind it."""
    model = trained(lab, SCALAR)
    app = lab.open(PAGE, sparse_attack_part="Every change of one or two")
    assert "64 × 256 = 16,384 images with one change, by rank-one updates" in text(app)
    assert app.button(key=f"{PAGE}_ask_enumerate").label == "Enumerate"
    attack = {"name": "exhaustive", "pixels": 2}
    spec = specs.AttackSpec(model=model.id, attack=attack, indices=(case_of(model).index,))
    many = specs.AttackSpec(model=model.id, attack=attack, source=0, n=10)
    job = lab.job(spec, "running")
    app = lab.open(PAGE, sparse_attack_part="Every change of one or two", sparse_attack_at_once="2")
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
    app = lab.open(PAGE, sparse_attack_part="Every change of one or two")
    frame = next(table.value for table in app.dataframe if "enumerated" in table.value)
    assert list(frame["changes"]) == ["one is enough", "more than one"]
    assert frame["enumerated"].sum() == frame["greedy"].sum() == 10
    assert "Exact for one change; two were not tried." in text(app)


@pytest.mark.slow
def test_frontier_shows_the_image_of_a_cap(lab: Lab) -> None:
    """At once for one image; the slider offers the caps for which something was found; the median is a job."""
    model = trained(lab, SCALAR)
    app = lab.open(PAGE, sparse_attack_part="Count against ε")
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


@pytest.mark.parametrize("method", [name for name in one_image.OTHERS if name in specs.METHODS])
def test_other_methods_stand_beside_the_greedy_one(lab: Lab, method: str) -> None:
    """Their verdict, count and cost; the changed pixels are as many as the count."""
    trained(lab, MANY)
    app = lab.open(PAGE, sparse_attack_part="A few pixels", sparse_attack_method=method)
    found = {metric.label: metric.value for metric in app.metric}
    assert {"Changed", "Forward passes", "Backward passes"} <= set(found)
    frame = next(table.value for table in app.dataframe if "old" in table.value)
    assert len(frame) == int(found["Changed"]) > 0


def test_settings_of_another_method_are_those_of_its_attack(lab: Lab) -> None:
    """JSMA on probabilities, four pairs by one Jacobian: fewer passes than as the paper has it, and its own result."""
    trained(lab, MANY)
    app = lab.open(PAGE, sparse_attack_part="A few pixels", sparse_attack_method="jsma")
    before = next(int(metric.value) for metric in app.metric if metric.label == "Backward passes")
    app.number_input(key=f"{PAGE}_jsma_pairs").set_value(4)
    app.segmented_control(key=f"{PAGE}_jsma_outputs").set_value("probabilities").run()
    assert not app.exception
    assert 0 < next(int(metric.value) for metric in app.metric if metric.label == "Backward passes") < before


def test_trace_lists_what_swaps_brought_in(lab: Lab) -> None:
    """Pruned changes that swaps took out, and those they brought in, are told apart; the last place is the result."""
    model = trained(lab, MANY)
    case = case_of(model)
    x = np.zeros((1, 8, 8), np.float32)
    result = x.copy()
    result[0, 0, 0] = result[0, 5, 5] = 1
    trace = views.Trace(
        x,
        np.array([0, 9, 18, 27]),
        np.ones(4, np.float32),
        np.arange(5.0),
        np.array([True, True, True, False]),
        3,
        result,
    )
    assert trace.swapped
    assert np.array_equal(trace.image("swapped"), result)
    table = trace.table(case)
    assert list(table["needed"]) == ["yes", "swapped out", "swapped out", "put back", "swapped in"]
    assert list(table["row"]) == [0, 1, 2, 3, 5]


def test_pixel_budget_is_a_slider(lab: Lab) -> None:
    """It ends at the image's size, and a larger choice for other images does not break the page."""
    trained(lab, SCALAR)
    app = lab.open(PAGE, sparse_attack_part="A few pixels", sparse_attack_max_features=1)
    slider = app.slider(key=f"{PAGE}_max_features")
    assert (slider.min, slider.max, slider.value) == (1, 64, 1)
    assert "1 of 64 pixels change" in text(app)
    app.session_state[f"{PAGE}_max_features"] = 150
    app.run()
    assert not app.exception
    assert app.slider(key=f"{PAGE}_max_features").value <= 64


def test_colour_changes_name_their_channel() -> None:
    """A feature of a colour image is one colour of one pixel: tables say which, and maps show the lowest of three."""
    x = np.zeros((3, 2, 2), np.float32)
    x_adv = x.copy()
    x_adv[1, 0, 1] = x_adv[2, 0, 1] = 1
    frame = views.changes(x, x_adv)
    assert frame[["channel", "row", "column"]].to_numpy().tolist() == [[1, 0, 1], [2, 0, 1]]
    assert "channel" not in views.changes(x[:1], x_adv[1:2])
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
