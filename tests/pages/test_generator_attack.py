"""The page of the generator attack: samples, jobs in every state, a finished attack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from core import specs
from core.jobs import running
from core.storage import store
from ui.form import samples
from ui.generator import compare, views
from ui.show import model_names

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

    from tests.pages.conftest import Lab

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


def test_a_result_that_is_gone_can_be_made_again(lab: Lab, model: store.Artifact) -> None:
    """The job is done but its artifact is no longer there: the page says what it says before anything ran."""
    lab.job(spec_of(model), "done")
    app = lab.open(PAGE, generator_attack_confidence="50%")
    assert any("not trained yet with these settings" in info.value for info in app.info)


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
    pairs = views.Pairs.of(result)
    row = pairs.table.iloc[pairs.row(3, 7)]
    assert (row["y"], row["target"]) == (3, 7)
    heat, *written = views.matrix(pairs).data
    (bare,) = (texts for texts in written if texts.textfont.color is None)  # in the page's own colour
    own = {(x, y) for x, y, text in zip(bare.x, bare.y, bare.text, strict=True) if text == "own"}
    assert own == {(name, name) for name in heat.y}
    assert len(views.distances(pairs)) == 50


def test_strong_mode_has_its_own_settings(lab: Lab, model: store.Artifact) -> None:
    """The switch changes the settings, and the button asks for the strong attack."""
    app = lab.open(PAGE, generator_attack_confidence="50%")
    assert f"{PAGE}_generator_shared_adam" in {toggle.key for toggle in app.toggle}
    app = lab.open(PAGE, generator_attack_confidence="50%", generator_attack_mode="generator_strong")
    assert not app.exception
    assert f"{PAGE}_generator_shared_adam" not in {toggle.key for toggle in app.toggle}
    assert app.number_input(key=f"{PAGE}_generator_strong_rounds").value == 100
    lab.job(spec_of(model, name="generator_strong"), "failed", message="Out of memory.")
    app.run()
    assert "Out of memory." in text(app)


@pytest.mark.slow
def test_ways_side_by_side(lab: Lab, model: store.Artifact) -> None:
    """Both modes and DDN on the same pairs, as the saved tables say; what is missing can be run."""
    strong = running.run(spec_of(model, name="generator_strong"), lab.root, device="cpu")
    address = {"generator_attack_confidence": "50%", "generator_attack_mode": "generator_strong"}
    app = lab.open(PAGE, **address)
    assert "set the distances side by side" in text(app)
    labels = {button.label for button in app.button}
    assert {"Run Generator (literal)", "Run DDN"} <= labels
    running.run(spec_of(model, rounds=60, loss="ce", shared_adam=True), lab.root, device="cpu")
    running.run(spec_of(model, name="ddn"), lab.root, device="cpu")
    app.run()
    assert not app.exception
    assert isinstance(strong, store.Artifact)
    frame = next(table.value for table in app.dataframe if "passes a pair" in table.value)
    assert list(frame["attack"]) == ["Generator (literal)", "Generator (strong)", "DDN"]
    assert frame["settings"][0] == "rounds=60, loss=ce, shared_adam=True"
    found = dict(zip(frame["attack"], frame["mean ℓ2"], strict=True))
    assert found["Generator (strong)"] < 1.02 * found["DDN"] < found["Generator (literal)"]
    said = "\n".join(block.value for block in app.markdown)
    assert "pairs that all of them fooled" in said
    assert "farther with Generator (literal)" in said


def test_images_are_tried_on_the_other_models_of_the_data(lab: Lab, model: store.Artifact) -> None:
    """All fool their own model; a model of other classes is not asked; the shares are a fresh forward pass's."""
    other = running.run(TRAIN.model_copy(update={"network": "mlp"}), lab.root, device="cpu")
    lab.model(data={"dataset": "digits", "classes": (4, 9)})
    result = running.run(spec_of(model, name="generator_strong"), lab.root, device="cpu")
    assert isinstance(other, store.Artifact)
    assert isinstance(result, store.Artifact)
    assert [found.id for found in compare.relatives(model)] == [other.id]
    app = lab.open(
        PAGE,
        generator_attack_model=model.id,
        generator_attack_confidence="50%",
        generator_attack_mode="generator_strong",
    )
    frame = next(table.value for table in app.dataframe if "read wrongly" in table.value)
    assert len(frame) == 2
    assert (frame.loc[0, ["read as the target", "read wrongly", "originals"]] == 100).all()
    from core.models.saved import load_model
    from core.networks.catalogue import logits_of

    table, arrays = result.table("images"), result.arrays("images")
    rows = (views.counted(table) & table["success"]).to_numpy()
    logits = logits_of(load_model(other.id, lab.root).model, torch.from_numpy(arrays["x_adv"][rows]))
    wrong = logits.argmax(1).numpy() != table["y"].to_numpy()[rows]
    assert frame.loc[1, "read wrongly"] == pytest.approx(100 * wrong.mean())


def test_no_other_model_offers_to_train_one(lab: Lab, model: store.Artifact) -> None:
    """A single saved model: the page says what is missing."""
    running.run(spec_of(model, rounds=5), lab.root, device="cpu")
    app = lab.open(PAGE, generator_attack_confidence="50%", generator_attack_generator_rounds="5")
    assert "no other saved model of the same classes" in text(app)


@pytest.mark.slow
def test_success_within_a_distance_of_several_models(lab: Lab, model: store.Artifact) -> None:
    """Another model's attack is drawn beside this one's once it has run; before, there is a button for it."""
    spec = spec_of(model, rounds=30)
    running.run(spec, lab.root, device="cpu")
    other = running.run(TRAIN.model_copy(update={"seed": 1}), lab.root, device="cpu")
    assert isinstance(other, store.Artifact)
    here = {"generator_attack_confidence": "50%", "generator_attack_generator_rounds": "30"}
    app = lab.open(PAGE, generator_attack_model=model.id, **here)
    assert not app.exception
    assert any(button.label == "Run it there" for button in app.button)
    assert "Median distance" not in text(app)
    made = running.run(spec.model_copy(update={"model": other.id}), lab.root, device="cpu")
    assert isinstance(made, store.Artifact)
    app = lab.open(PAGE, generator_attack_model=model.id, **here)
    assert not app.exception
    table = made.table("images")
    won = table[views.counted(table) & table["success"]]
    name = model_names.short_names([other])[other.id]
    assert f" on this model, {won['l2'].median():.3g} on {name} (" in text(app)
