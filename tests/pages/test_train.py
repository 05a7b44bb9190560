"""The training page: settings, the report of a model, and the ways on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from core import specs
from core.jobs import queue
from core.storage import store
from ui.app import routes

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

    from tests.pages.conftest import Lab

DEFAULT = specs.TrainSpec(**specs.preset("fast", "digits"))


def opened(lab: Lab, **query: Any) -> AppTest:
    """The page on the smallest data set, unless the address names another."""
    return lab.open("train", **{"train_dataset": "digits", **query})


def button(app: AppTest) -> Any:
    """The button that trains, or opens what is trained."""
    return app.button(key="train_train")


def texts(app: AppTest) -> str:
    """Everything that the page says in words."""
    kinds = ("title", "subheader", "markdown", "caption", "info", "warning", "error", "code")
    return "\n".join(str(element.value) for kind in kinds for element in app.get(kind))


def submitted(asked: list[specs.Task]) -> Callable[..., SimpleNamespace]:
    """Stands in for `queue.submit`: notes what was asked for."""

    def submit(task: specs.Task, root: Path | None = None, *, owner: str = "") -> SimpleNamespace:
        asked.append(task)
        return SimpleNamespace(id="a job")

    return submit


def test_train_button_submits_the_settings(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for is what the widgets say."""
    asked: list[specs.Task] = []
    monkeypatch.setattr(queue, "submit", submitted(asked))
    app = opened(lab)
    app.number_input(key="train_epochs").set_value(5)
    app.number_input(key="train_seed").set_value(3)
    button(app).click().run()
    assert asked == [specs.TrainSpec(epochs=5, seed=3)]


def test_a_submission_that_is_refused_is_said_plainly(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, say: one sentence, and the page stays."""

    def refuse(task: specs.Task, root: Any = None, *, owner: str = "") -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(queue, "submit", refuse)
    app = opened(lab)
    button(app).click().run()
    assert "could not be started: No space left on device" in app.error[0].value


def test_preset_fills_in_the_settings(lab: Lab) -> None:
    """The literal settings of exercise set 3, and back."""
    app = opened(lab)
    app.segmented_control(key="train_preset").set_value("set3").run()
    assert app.number_input(key="train_epochs").value == 30
    assert app.number_input(key="train_lr").value == 0.001
    app.segmented_control(key="train_preset").set_value("quick").run()
    assert app.number_input(key="train_epochs").value == specs.DATASETS["digits"].fast_epochs // 4
    app.segmented_control(key="train_preset").set_value("fast").run()
    assert app.number_input(key="train_epochs").value == specs.DATASETS["digits"].fast_epochs


def test_refused_settings_are_one_sentence_and_nothing_is_lost(lab: Lab) -> None:
    """One class alone cannot be told from anything: said with the field's name, widgets as they were."""
    app = opened(lab)
    app.multiselect(key="train_digits_classes").select(4).run()
    app.number_input(key="train_epochs").set_value(7).run()
    assert button(app).disabled
    assert "expected at least two different classes" in app.error[0].value
    assert app.number_input(key="train_epochs").value == 7
    assert app.multiselect(key="train_digits_classes").value == [4]


def test_bad_values_in_the_address_fall_back_to_the_default(lab: Lab) -> None:
    """Neither a word where a number belongs nor an unknown network is an error."""
    app = opened(lab, train_epochs="many", train_network="resnet9000")
    assert app.number_input(key="train_epochs").value == DEFAULT.epochs
    assert app.selectbox(key="train_network").value == DEFAULT.network
    app.selectbox(key="train_dataset").select("mnist").run()
    assert app.number_input(key="train_epochs").value == specs.DATASETS["mnist"].fast_epochs


def test_address_may_use_plain_names(lab: Lab) -> None:
    """`?train_network=mlp` is understood, as is `?train_epochs=4`."""
    app = opened(lab, train_network="mlp", train_epochs="4")
    assert app.selectbox(key="train_network").value == "mlp"
    assert app.number_input(key="train_epochs").value == 4


def test_settings_survive_a_page_switch(lab: Lab) -> None:
    """Away and back: the form is as it was left."""
    app = opened(lab)
    app.number_input(key="train_epochs").set_value(9)
    app.selectbox(key="train_network").select("cnn").run()
    app.switch_page("pages/models.py").run()
    app.switch_page("pages/train.py").run()
    assert app.number_input(key="train_epochs").value == 9
    assert app.selectbox(key="train_network").value == "cnn"


def test_model_that_exists_is_reported_and_not_trained(lab: Lab) -> None:
    """The button says that it is there; accuracy with its interval, curves, confusion, provenance, and ways on."""
    model = lab.model(accuracy=0.9, network="lenet")
    app = opened(lab)
    assert button(app).label == "Open the trained model"
    assert [metric.value for metric in app.metric] == ["90.00%"]
    assert "88.0% – 92.0%" in texts(app)
    assert len(app.get("plotly_chart")) == 2
    assert f"model {model.id}" in texts(app)
    ways_on = [link.value for link in app.main.get("page_link")]
    assert ways_on == [route.title for route in routes.ROUTES.values() if route.model_widget]
    assert {"Generator attack", "Epsilon sweep"} < set(ways_on)


AGAINST = "Against earlier ones"


def test_opening_a_trained_model_brings_its_result_to_the_front(lab: Lab) -> None:
    """From another tab: a click shows the result, and says that there is nothing to train."""
    lab.model(accuracy=0.9, network="lenet")
    app = opened(lab, train_tab="Network")
    assert not app.metric
    button(app).click().run()
    assert not app.exception
    assert [metric.value for metric in app.metric] == ["90.00%"]
    assert "trained already" in app.toast[0].value
    assert not queue.jobs(lab.root)


def test_settings_that_are_not_trained_show_a_model_near_to_them(lab: Lab) -> None:
    """Never empty: the nearest model, said to be another; the address is not said to reproduce it."""
    lab.model(accuracy=0.5, network="mlp")
    near = lab.model(accuracy=0.9, network="lenet", seed=4)
    app = opened(lab)
    assert button(app).label.startswith("Train LeNet")
    assert [metric.value for metric in app.metric] == ["90.00%"]
    assert "These settings are not trained yet" in texts(app)
    assert f"model {near.id}" in texts(app)
    assert "this page's address reproduces it" not in texts(app)


def test_no_model_at_all_says_so(lab: Lab) -> None:
    """And what to do."""
    assert "No model is saved yet. Train one" in texts(opened(lab))


@pytest.mark.parametrize("name", ["Result", AGAINST, "Network", "Your models"])
def test_every_tab_draws(lab: Lab, name: str) -> None:
    """Opened by its address, with two models."""
    lab.model(accuracy=0.8, network="linear")
    lab.model(accuracy=0.9, network="lenet")
    app = opened(lab, train_tab=name)
    assert len(app.get("plotly_chart")) == {"Result": 2, AGAINST: 1}.get(name, 0)
    assert len(app.dataframe) == {AGAINST: 1, "Network": 1, "Your models": 1}.get(name, 0)


def test_a_chosen_row_opens_that_model_with_its_settings(lab: Lab) -> None:
    """In the table of all: its result below, and a button that puts its settings into the page."""
    lab.model(accuracy=0.8, network="linear", epochs=7)
    app = opened(lab, train_tab="Your models")
    app.session_state["train_saved"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    app.run()
    assert [metric.value for metric in app.metric] == ["80.00%"]
    app.button(key="train_settings_of").click().run()
    assert not app.exception
    assert (app.number_input(key="train_epochs").value, app.selectbox(key="train_network").value) == (7, "linear")
    assert button(app).label == "Open the trained model"
    assert [metric.value for metric in app.metric] == ["80.00%"]


def test_earlier_models_on_the_same_data_are_compared(lab: Lab) -> None:
    """The newest against the best of the others, epoch by epoch."""
    lab.model(accuracy=0.8, network="linear")
    lab.model(accuracy=0.9, network="lenet")
    app = opened(lab, train_tab=AGAINST)
    assert "10.00 points above the best of the others" in texts(app)
    assert list(app.dataframe[0].value["Test accuracy"]) == [90, 80]


def test_best_of_the_others_may_be_one_that_is_not_drawn(lab: Lab) -> None:
    """The curves are of some; the best is of all."""
    lab.model(accuracy=0.95, network="linear")
    for seed in range(1, 6):
        lab.model(accuracy=0.5, network="linear", seed=seed)
    lab.model(accuracy=0.9, network="lenet")
    app = opened(lab, train_tab=AGAINST)
    assert "5.00 points below the best of the others" in texts(app)
    assert len(app.multiselect(key="train_against").value) == 4


def test_epochs_of_clean_and_adversarial_accuracy(lab: Lab) -> None:
    """Set 5: both by epoch; a model that was not watched under attack has no line there, and that is said."""
    row = {"loss": 1, "train_accuracy": 0.5, "validation_loss": 1, "validation_accuracy": 0.9, "eps": 0.2}
    history = [{**row, "epoch": epoch, "robust_accuracy": 0.3, "fgsm_accuracy": 0.4} for epoch in (1, 2)]
    lab.model(network="linear", recipe={"name": "pgd", "eps": 0.2}, history=history)
    lab.model(network="lenet")
    app = opened(lab, train_tab=AGAINST)
    (chart,) = app.get("plotly_chart")
    drawn = [trace for trace in json.loads(chart.proto.spec)["data"] if trace.get("xaxis") == "x2" and trace["x"]]
    assert [trace["name"] for trace in drawn] == ["Linear · PGD-trained"]
    assert "Standard training does not measure accuracy under attack by epoch" in texts(app)


def test_link_to_an_attack_page_chooses_the_model(lab: Lab) -> None:
    """A link names the model by its id; another choice made afterwards is kept; the link followed again wins again."""
    wanted = lab.model(accuracy=0.9, network="lenet")
    newer = lab.model(accuracy=0.8, network="linear")
    app = lab.open("generator_attack", generator_attack_model=wanted.id)
    assert app.selectbox(key="generator_attack_model").value == wanted.id
    app.selectbox(key="generator_attack_model").select(newer.id).run()
    assert app.selectbox(key="generator_attack_model").value == newer.id
    app.query_params["generator_attack_model"] = wanted.id
    app.run()
    assert app.selectbox(key="generator_attack_model").value == wanted.id


def test_settings_of_another_model_are_opened(lab: Lab) -> None:
    """From the page of models, one click brings the training page with that model's settings."""
    lab.model(network="mlp", epochs=4, data={"dataset": "digits", "classes": (4, 9)}, scalar=True)
    app = lab.open("models")
    app.session_state["models_saved"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    app.run()
    app.button(key="models_settings_of").click().run()
    assert not app.exception
    assert app.title[0].value == "Train"
    assert (app.number_input(key="train_epochs").value, app.selectbox(key="train_network").value) == (4, "mlp")
    assert app.multiselect(key="train_digits_classes").value == [4, 9]
    assert app.toggle(key="train_scalar").value


def test_scalar_network_has_a_histogram_and_a_threshold(lab: Lab) -> None:
    """Moving τ above every score turns every image into class 0."""
    lab.model(accuracy=1.0, scalar=True, network="lenet", data={"dataset": "digits", "classes": (4, 9)})
    app = opened(lab, train_scalar="true", train_digits_classes=["4", "9"])
    assert len(app.get("plotly_chart")) == 3
    slider = app.slider(key="train_threshold")
    before = next(m.value for m in app.metric if m.label == "Accuracy at this τ")
    assert before == "100.00%"
    slider.set_value(slider.max).run()
    missed = next(m.value for m in app.metric if m.label == "9 classified as 4").split(" of ")
    assert missed[0] == missed[1]


def test_one_score_needs_two_classes(lab: Lab) -> None:
    """The switch is closed until two classes are chosen."""
    app = opened(lab)
    assert app.toggle(key="train_scalar").disabled
    app.multiselect(key="train_digits_classes").select(4).select(9).run()
    assert not app.toggle(key="train_scalar").disabled


def test_missing_data_set_says_so_and_how_to_mend_it(lab: Lab) -> None:
    """MNIST is not in the test's data folder."""
    app = opened(lab, train_dataset="mnist")
    assert "MNIST is not on this machine" in app.warning[0].value
    assert "ADVERSARIAL_LAB_DATA" in texts(app)


def test_damaged_model_is_set_aside_and_said(lab: Lab) -> None:
    """A weights file cut short is never loaded; the page says what happened and offers to train."""
    model = lab.model(network="lenet")
    app = opened(lab)
    assert button(app).label == "Open the trained model"
    weights = model.folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    app.run()
    assert "set aside" in app.warning[0].value
    assert button(app).label.startswith("Train LeNet")


def test_folder_of_images_asks_for_the_folder(lab: Lab) -> None:
    """Without a folder the settings are refused in words; nothing is read."""
    app = opened(lab, train_dataset="folder")
    assert "'folder' must be given" in app.error[0].value


def _pets(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, value in (("cat", 60), ("dog", 190)):
        (folder / name).mkdir(parents=True)
        for number in range(15):
            pixels = np.clip(rng.normal(value, 20, (8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def test_a_folder_that_changed_is_told_and_trained_anew(lab: Lab, tmp_path: Path) -> None:
    """The page finds the model of the folder as it is; once a class is renamed, there is something to train."""
    from core.jobs import running

    folder = tmp_path / "pets"
    _pets(folder)
    spec = specs.TrainSpec(
        **specs.preset("fast"), data={"dataset": "folder", "folder": str(folder), "image_size": 8}, network="linear"
    )
    made = running.run(spec, lab.root)
    assert isinstance(made, store.Artifact)
    query = {"train_dataset": "folder", "train_folder": str(folder), "train_image_size": "8", "train_network": "linear"}
    app = opened(lab, **query)
    for name, value in query.items():
        app.session_state[name] = int(value) if name == "train_image_size" else value
    app.run()
    assert button(app).label == "Open the trained model"
    assert not app.warning
    (folder / "dog").rename(folder / "a_dog")
    app.run()
    assert not app.exception
    assert button(app).label != "Open the trained model"
    app = lab.open("universal", universal_model=made.id)
    assert any("'a_dog' is new" in warning.value for warning in app.warning)
    (folder / "test").mkdir()
    shutil.copy(folder / "cat" / "0.png", folder / "test")
    app = lab.open("train")
    assert any("test/ beside the class folders" in error.value for error in app.error)


def test_routes_name_files_that_exist() -> None:
    """A page's address is its file's name."""
    assert all((routes.PROJECT / "pages" / f"{name}.py").is_file() for name in routes.ROUTES)
