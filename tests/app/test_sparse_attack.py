"""The page of the Jacobian attacks: its four parts on really trained small networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from core import running, specs, store
from ui import samples, sparse_views

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

    from tests.app.conftest import Lab

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


def case_of(model: store.Artifact, label: int = 0, target: int | None = None) -> sparse_views.Case:
    """The first image of a class, as the page would take it."""
    row = samples.candidates(model.table("test"), label).iloc[0]
    looked = sparse_views.look(model.id, model.root, int(row["index"]))
    scalar = "score" in model.table("test")
    return sparse_views.Case(model, int(row["index"]), label, target, 0.0, scalar, **looked)


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
    trace = sparse_views.Trace.of(arrays)
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
    assert "No test image of class 9 is read correctly" in text(app)


def test_many_images(lab: Lab) -> None:
    """The histogram's table, the dense formula and the running job."""
    model = trained(lab, SCALAR)
    spec = specs.AttackSpec(
        model=model.id,
        attack={"name": "jacobian_sparse", "max_features": 60},
        n=200,
        source=0,
    )
    job = lab.job(spec, "running")
    app = lab.open(PAGE, sparse_attack_part="How sparse can it be?")
    assert any(button.key == f"{PAGE}_cancel_{job}" for button in app.button)
    result = running.run(spec, lab.root, device="cpu")
    app.run()
    assert not app.exception
    assert isinstance(result, store.Artifact)
    found = {metric.label: metric.value for metric in app.metric}
    assert found["Median count"] == f"{result.card['metrics']['median_l0']:g}"
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
