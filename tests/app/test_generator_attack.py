"""The page of the generator attack: samples, jobs in every state, a finished attack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from core import running, specs, store
from ui import generator_views, samples

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

    from tests.app.conftest import Lab

PAGE = "generator_attack"
TRAIN = specs.TrainSpec(network="linear", epochs=3)


@pytest.fixture
def model(lab: Lab) -> store.Artifact:
    """A really trained network on digits."""
    made = running.run(TRAIN, lab.root, device="cpu")
    assert isinstance(made, store.Artifact)
    return made


def spec_of(model: store.Artifact, *, target: Any = "all", classes: range = range(5), **settings: Any) -> Any:
    """What the page asks for with its defaults and these settings."""
    tests = model.table("test")
    first = [samples.candidates(tests, k, confidence=0.5).iloc[0]["index"] for k in classes]
    return specs.AttackSpec(
        model=model.id,
        attack={"name": "generator", **settings},
        indices=tuple(int(index) for index in first),
        target=target,
    )


def text(app: AppTest) -> str:
    """All that the page says in boxes and captions."""
    blocks = (*app.info, *app.success, *app.warning, *app.error, *app.caption)
    return "\n".join(block.value for block in blocks)


def test_nothing_run_yet_offers_samples_and_the_button(lab: Lab, model: store.Artifact) -> None:
    """Five samples that the model reads confidently, and a button that says how much it will train."""
    app = lab.open(PAGE, generator_attack_confidence="50%")
    assert not app.exception
    assert [app.number_input(key=f"{PAGE}_sample_{k}").value for k in range(5)] == [1] * 5
    assert "5 samples × 10 targets = 50 generators" in text(app)
    assert any(button.label == "Run the attack" for button in app.button)
    assert str(spec_of(model).indices[0]) in text(app)


def test_another_sample_is_another_image(lab: Lab, model: store.Artifact) -> None:
    """The step to the next sample changes the image that is named under it."""
    app = lab.open(PAGE, generator_attack_confidence="50%")
    found = samples.candidates(model.table("test"), 0, confidence=0.5)
    app.number_input(key=f"{PAGE}_sample_0").set_value(2).run()
    assert f"#{found.iloc[1]['index']:.0f} " in text(app)


def test_too_much_confidence_leaves_a_sentence(lab: Lab) -> None:
    """A planted model without a confident image: the page says which class has none."""
    lab.model(accuracy=0.0)
    app = lab.open(PAGE)
    assert "No test image of class 0" in text(app)


@pytest.mark.parametrize("state", ["waiting", "running", "failed", "cancelled", "dead"])
def test_job_states(lab: Lab, model: store.Artifact, state: str) -> None:
    """Every state of a job draws, and a failed one says why."""
    lab.job(spec_of(model), state, message="Out of memory.")
    app = lab.open(PAGE, generator_attack_confidence="50%")
    assert not app.exception
    if state == "failed":
        assert "Out of memory." in text(app)


def test_finished_attack(lab: Lab, model: store.Artifact) -> None:
    """Grid, verdict, metrics, pair, table and matrix of a real attack; changes can be shown instead."""
    spec = spec_of(model, rounds=30)
    result = running.run(spec, lab.root, device="cpu")
    app = lab.open(PAGE, generator_attack_confidence="50%", generator_attack_generator_rounds="30")
    assert not app.exception
    assert isinstance(result, store.Artifact)
    found = {metric.label: metric.value for metric in app.metric}
    assert found["Success rate"] == f"{result.card['metrics']['success_rate']:.1%}"
    assert "of the 45 pairs" in text(app) or "of 45 pairs" in text(app) or "all 45 pairs" in text(app)
    assert len(app.dataframe[0].value) == 50
    assert set(app.dataframe[0].value["outcome"]) >= {"own class"}
    app.session_state[f"{PAGE}_view"] = "change"
    app.run()
    assert not app.exception
    app.selectbox(key=f"{PAGE}_shown_target").set_value(3).run()
    assert not app.exception


def test_one_target(lab: Lab, model: store.Artifact) -> None:
    """With one target the grid has one column, and the own class is not counted."""
    running.run(spec_of(model, target=2, rounds=20), lab.root, device="cpu")
    app = lab.open(
        PAGE,
        generator_attack_confidence="50%",
        generator_attack_generator_rounds="20",
        generator_attack_target="2",
    )
    assert not app.exception
    assert len(app.dataframe[0].value) == 5


def test_pairs_name_rows_by_image_and_target(lab: Lab, model: store.Artifact) -> None:
    """Row of (sample, target) is that image with that target; the matrix leaves the diagonal blank."""
    result = running.run(spec_of(model, rounds=5), lab.root, device="cpu")
    assert isinstance(result, store.Artifact)
    pairs = generator_views.Pairs.of(result)
    row = pairs.table.iloc[pairs.row(3, 7)]
    assert (row["y"], row["target"]) == (3, 7)
    shown = generator_views.matrix(pairs).data[0]
    assert [shown.text[k][k] for k in range(5)] == ["own"] * 5
    assert len(generator_views.distances(pairs)) == 50
