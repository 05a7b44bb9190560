"""The page of the generator attack: samples, jobs in every state, a finished attack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from core import specs
from core.jobs import running
from core.storage import store
from tests.pages.said import text
from ui.form import samples
from ui.generator import compare, robust, views
from ui.generator import pairs as stored
from ui.generator.pairs import Pairs, counted

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


def button(app: AppTest) -> Any:
    """The button that draws."""
    return app.button(key=f"{PAGE}_draw")


def test_nothing_drawn_yet_shows_the_samples_and_the_button(lab: Lab, model: store.Artifact) -> None:
    """Five samples that the model classifies confidently, in a grid of blanks; the button says what it will draw."""
    app = lab.open(PAGE, generator_attack_confidence="50%")
    assert not app.exception
    assert [app.number_input(key=f"{PAGE}_sample_{k}").value for k in range(5)] == [1] * 5
    assert button(app).label.startswith("Draw 45 adversarial digits")
    assert not button(app).disabled
    assert str(spec_of(model).indices[0]) in text(app)
    assert "not drawn yet" in html(app)


def html(app: AppTest) -> str:
    """The page's pictures with their words."""
    return "\n".join(element.proto.body for element in app.get("html"))


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
    assert button(app).label.startswith("Draw 45 adversarial digits")
    assert "not drawn yet" in html(app)


HERE = {"generator_attack_confidence": "50%", "generator_attack_generator_rounds": "30"}


def test_the_stored_grid_is_shown_at_once(lab: Lab, model: store.Artifact) -> None:
    """The sentence has the counts and medians of the pairs; the button says that they are there; changes on demand."""
    result = running.run(spec_of(model, rounds=30), lab.root, device="cpu")
    assert isinstance(result, store.Artifact)
    app = lab.open(PAGE, **HERE)
    found = Pairs.of(result).summary()
    assert f"{found.won} of the 45 wrong-class targets" in text(app) or "All 45 wrong-class targets" in text(app)
    assert f"Median change: ℓ2 {found.l2:.3g}" in text(app)
    assert (button(app).label, button(app).disabled) == ("45 adversarial digits: already there", True)
    assert "drawn to be classified as it" in html(app)
    app.session_state[f"{PAGE}_view"] = "change"
    app.run()
    assert not app.exception
    assert "Change ×" in html(app)


def test_the_target_slider_marks_a_column_and_hides_nothing(lab: Lab, model: store.Artifact) -> None:
    """All ten columns stay; the sentence says what is known towards that class; the pair below is of that class."""
    result = running.run(spec_of(model, rounds=30), lab.root, device="cpu")
    assert isinstance(result, store.Artifact)
    app = lab.open(PAGE, **HERE)
    whole = html(app).count("→")
    assert "outline" not in html(app)
    app.select_slider(key=f"{PAGE}_target").set_value(7).run()
    assert not app.exception
    one = Pairs.of(result).summary(7)
    assert f"Towards **7**: {one.won} of {one.n}" in text(app)
    assert html(app).count("→") == whole
    assert html(app).count("outline") == 5
    assert "▾ → 7" in html(app)
    assert button(app).disabled


def test_what_is_known_of_single_targets_is_shown_with_the_rest_as_missing(lab: Lab, model: store.Artifact) -> None:
    """Two runs of one class each are one grid; other classes are blank, and the button draws what is missing."""
    for target in (7, 2):
        running.run(spec_of(model, target=target, rounds=30), lab.root, device="cpu")
    app = lab.open(PAGE, **HERE, generator_attack_target="3")
    assert not app.exception
    assert "of the 9 wrong-class targets" in text(app) or "All 9 wrong-class targets" in text(app)
    assert "Towards **3**: – (not drawn yet)" in text(app)
    assert button(app).label.startswith("Draw 4 adversarial digits towards 3")
    app.select_slider(key=f"{PAGE}_target").set_value(7).run()
    assert button(app).label == "5 adversarial digits towards 7: already there" or "4 adversarial" in button(app).label
    app.select_slider(key=f"{PAGE}_target").set_value("all").run()
    assert button(app).label.startswith("Draw 45 adversarial digits")
    assert "Towards" not in text(app)


def test_pairs_of_several_runs_are_those_of_one(lab: Lab, model: store.Artifact) -> None:
    """Row by row: a pair does not depend on the others that are drawn with it."""
    whole = running.run(spec_of(model, rounds=5, classes=range(2)), lab.root, device="cpu")
    parts = [
        running.run(spec_of(model, rounds=5, classes=range(2), target=k), lab.root, device="cpu") for k in (9, 0, 4)
    ]
    assert isinstance(whole, store.Artifact)
    one, joined = Pairs.of(whole), Pairs.of(*(part for part in parts if isinstance(part, store.Artifact)))
    assert joined.targets == [0, 4, 9]
    for sample in (0, 1):
        for target in joined.targets:
            a, b = one.row(sample, target), joined.row(sample, target)
            assert a is not None
            assert b is not None
            assert joined.arrays["x_adv"][b] == pytest.approx(one.arrays["x_adv"][a], abs=1e-4)
            assert joined.arrays["trace_l2"].shape == (5, 6)
    assert joined.row(0, 5) is None


def test_other_settings_show_the_stored_grid_and_say_what_differs(lab: Lab, model: store.Artifact) -> None:
    """Never empty: until the wanted one is drawn, the grid that is there, and in which settings it differs."""
    running.run(spec_of(model, rounds=30), lab.root, device="cpu")
    app = lab.open(PAGE, generator_attack_confidence="50%", generator_attack_generator_rounds="40")
    assert "rounds 30 instead of 40" in text(app)
    assert button(app).label.startswith("Draw 45 adversarial digits")
    assert "drawn to be classified as it" in html(app)
    assert "this page's address reproduces it" not in text(app)


@pytest.mark.parametrize("name", ["Grid", "Curves", "Success by class", "Transfer", "Robust to this attack", "Export"])
def test_every_tab_draws_a_stored_result(lab: Lab, model: store.Artifact, name: str) -> None:
    """Opened by its address, with real pairs."""
    running.run(spec_of(model, rounds=30), lab.root, device="cpu")
    app = lab.open(PAGE, **HERE, generator_attack_tab=name)
    assert not app.exception
    charts = {"Curves": 2, "Success by class": 1, "Robust to this attack": 1}
    assert len(app.get("plotly_chart")) == charts.get(name, 0)
    if name == "Export":
        frame = app.dataframe[0].value
        assert len(frame) == 50
        assert set(frame["outcome"]) >= {"own class"}


def test_the_npz_holds_all_that_is_needed(lab: Lab, model: store.Artifact) -> None:
    """Images with their indices, classes, targets and outcomes, a row a pair."""
    from ui.generator.results import contents

    result = running.run(spec_of(model, rounds=5), lab.root, device="cpu")
    assert isinstance(result, store.Artifact)
    found = contents(Pairs.of(result))
    assert {"x", "x_adv", "index", "y", "target", "pred", "success", "class_names"} <= set(found)
    assert all(len(found[name]) == 50 for name in ("x", "x_adv", "index", "y", "target", "pred", "success"))
    assert (found["probabilities"].argmax(1) == found["pred"]).all()


def test_pairs_name_rows_by_image_and_target(lab: Lab, model: store.Artifact) -> None:
    """Row of (sample, target) is that image with that target; the matrix leaves the diagonal blank."""
    result = running.run(spec_of(model, rounds=5), lab.root, device="cpu")
    assert isinstance(result, store.Artifact)
    pairs = Pairs.of(result)
    place = pairs.row(3, 7)
    assert place is not None
    row = pairs.table.iloc[place]
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
    address = {
        "generator_attack_confidence": "50%",
        "generator_attack_mode": "generator_strong",
        "generator_attack_tab": "Curves",
    }
    app = lab.open(PAGE, **address)
    assert "Run another attack on the same pairs" in text(app)
    labels = {button.label for button in app.button}
    assert {"Run Generator (literal)", "Run DDN"} <= labels
    running.run(spec_of(model, rounds=60, loss="ce", shared_adam=True), lab.root, device="cpu")
    running.run(spec_of(model, name="ddn"), lab.root, device="cpu")
    app.run()
    assert not app.exception
    assert isinstance(strong, store.Artifact)
    frame = next(table.value for table in app.dataframe if "evaluations per pair" in table.value)
    assert list(frame["attack"]) == ["Generator (literal)", "Generator (strong)", "DDN"]
    assert frame["settings"][0] == "rounds=60, loss=ce, shared_adam=True"
    found = dict(zip(frame["attack"], frame["mean ℓ2"], strict=True))
    assert found["Generator (strong)"] < 1.02 * found["DDN"] < found["Generator (literal)"]
    said = "\n".join(block.value for block in app.markdown)
    assert "pairs on which all of them succeed" in said
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
        generator_attack_tab="Transfer",
    )
    frame = next(table.value for table in app.dataframe if "misclassified" in table.value)
    assert len(frame) == 2
    assert (frame.loc[0, ["as the target", "misclassified", "originals correct"]] == 100).all()
    from core.models.saved import load_model
    from core.networks.catalogue import logits_of

    table, arrays = result.table("images"), result.arrays("images")
    rows = (counted(table) & table["success"]).to_numpy()
    logits = logits_of(load_model(other.id, lab.root).model, torch.from_numpy(arrays["x_adv"][rows]))
    wrong = logits.argmax(1).numpy() != table["y"].to_numpy()[rows]
    assert frame.loc[1, "misclassified"] == pytest.approx(100 * wrong.mean())


def test_no_other_model_offers_to_train_one(lab: Lab, model: store.Artifact) -> None:
    """A single saved model: the page says what is missing."""
    running.run(spec_of(model, rounds=5), lab.root, device="cpu")
    app = lab.open(
        PAGE,
        generator_attack_confidence="50%",
        generator_attack_generator_rounds="5",
        generator_attack_tab="Transfer",
    )
    assert "no other saved model of the same classes" in text(app)


def test_a_defended_model_beside_a_standard_one(lab: Lab, model: store.Artifact) -> None:
    """Set 1D: before, its row has dashes and a button; after, the sentence has what the runs' tables say."""
    spec = spec_of(model, rounds=30)
    running.run(spec, lab.root, device="cpu")
    recipe = {"name": "generator", "eps": 0.2, "rounds": 2, "steps": 2}
    trained = TRAIN.model_copy(update={"recipe": specs.TrainSpec(recipe=recipe).recipe, "epochs": 1})
    defended = running.run(trained, lab.root, device="cpu")
    assert isinstance(defended, store.Artifact)
    assert robust.contenders(model) == ([model], [defended])
    here = {**HERE, "generator_attack_model": model.id, "generator_attack_tab": "Robust to this attack"}
    app = lab.open(PAGE, **here)
    assert not app.exception
    frame = app.dataframe[0].value
    assert list(frame["Succeeded"].isna()) == [False, True]
    assert app.button(key=f"{PAGE}_draw_on_{defended.id}").label.startswith("Draw the same on")
    made = running.run(spec.model_copy(update={"model": defended.id}), lab.root, device="cpu")
    assert isinstance(made, store.Artifact)
    app = lab.open(PAGE, **here)
    assert not app.exception
    found = Pairs.of(made).summary()
    frame = app.dataframe[0].value
    assert list(frame["Succeeded"])[1] == f"{found.won} of {found.n}"
    assert "which was trained against this attack" in text(app)
    assert f"{found.won} of {found.n}" in text(app)
    assert len(app.get("plotly_chart")) == 1


def test_no_defended_model_leads_to_its_training(lab: Lab, model: store.Artifact) -> None:
    """The page says that there is none, and one click opens the training with that recipe."""
    running.run(spec_of(model, rounds=5), lab.root, device="cpu")
    app = lab.open(
        PAGE, **{**HERE, "generator_attack_generator_rounds": "5"}, generator_attack_tab="Robust to this attack"
    )
    app.button(key=f"{PAGE}_train_defence").click().run()
    assert not app.exception
    assert app.title[0].value == "Train"
    assert app.selectbox(key="train_recipe").value == "generator"


def test_the_cost_is_that_of_an_earlier_run(lab: Lab, model: store.Artifact) -> None:
    """Twice the rounds take twice as long, as the button says."""
    from ui.generator import cost

    made = running.run(spec_of(model, rounds=10), lab.root, device="cpu")
    assert isinstance(made, store.Artifact)
    taken = made.card["metrics"]["seconds"]
    expected = cost.seconds(spec_of(model, rounds=20), model)
    assert expected == pytest.approx(taken * 61 / 31)
    assert stored.rows_of(spec_of(model), 10) == 50
