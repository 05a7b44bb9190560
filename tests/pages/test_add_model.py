"""Add a model: the form, what it asks for, a refusal with its way out, what was found, other readings."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from streamlit.testing.v1 import AppTest

from core import access, specs
from core.evaluation.imported.findings import REFUSED
from core.jobs import limits, queue
from core.storage import store, uploads
from ui.models import adding, found

if TYPE_CHECKING:
    from tests.pages.conftest import Lab

CONTENT = b"not looked into before the job runs"


@pytest.fixture
def asked(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> list[specs.ImportSpec]:
    """What is submitted; it waits for the device for ever."""
    tasks: list[Any] = []

    def submit(task: specs.ImportSpec, root: Path, *, owner: str) -> queue.Job:
        tasks.append(task)
        return queue.read(lab.job(task, "waiting"), root)

    monkeypatch.setattr(queue, "submit", submit)
    return tasks


def upload(app: AppTest, name: str, content: bytes = CONTENT) -> AppTest:
    """Put a file into the page's box."""
    app.file_uploader[0].set_value((name, content, "application/octet-stream"))
    return app.run()


def press(app: AppTest) -> AppTest:
    """Press Import; no exception allowed."""
    app.button(key="add_model_import").click().run()
    assert not app.exception, app.exception[0].value
    return app


def event(lab: Lab, **what: str) -> None:
    """Something happens to the only job."""
    (folder,) = (lab.root / ".jobs").iterdir()
    with (folder / "events.jsonl").open("a") as events:
        events.write(json.dumps({"time": time.time(), **what}) + "\n")


def test_nothing_can_be_imported_without_a_file(lab: Lab) -> None:
    """The button waits for one, and weights for their architecture."""
    app = lab.open("add_model", add_model_dataset="digits")
    assert app.button(key="add_model_import").disabled
    app = upload(app, "theirs.safetensors")
    assert app.button(key="add_model_import").disabled
    assert any("architecture" in element.value for element in app.info)
    app.selectbox(key="add_model_architecture").set_value("lenet").run()
    assert not app.button(key="add_model_import").disabled


def test_a_graph_is_asked_for_with_what_is_left_to_be_found_out(lab: Lab, asked: list[specs.ImportSpec]) -> None:
    """The file waits in the store, its bytes are gone from the session, and the settings are None."""
    app = press(upload(lab.open("add_model", add_model_dataset="digits"), "My Net.onnx"))
    (spec,) = asked
    assert (spec.route, spec.label, spec.architecture, spec.data.dataset) == ("onnx", "my-net", "", "digits")
    assert all(getattr(spec, name) is None for name in (*adding.TYPED, *adding.CHOSEN, *adding.SIZES))
    assert uploads.read(spec.digest, lab.root) == CONTENT
    assert not app.file_uploader  # the kept file stands in its place
    assert any("My Net.onnx" in element.value for element in app.markdown)


@pytest.mark.parametrize("full", ["the store is full", "at most 2 jobs"])
def test_a_file_that_is_refused_takes_no_room(lab: Lab, monkeypatch: pytest.MonkeyPatch, full: str) -> None:
    """On a public server: nobody fills the disk with files whose imports the server does not begin."""
    monkeypatch.setenv(access.PUBLIC, "1")
    if full == "the store is full":
        monkeypatch.setenv(limits.STORE, "1e-9")
        lab.model()
    else:
        lab.app.session_state["_visitor"] = "me"
        for n in (1, 2):
            lab.job(specs.SweepSpec(model="digits", n=n), "running", owner="me")
    app = press(upload(lab.open("add_model", add_model_dataset="digits"), "My Net.onnx"))
    assert full in app.error[0].value
    assert not list((lab.root / uploads.UPLOADS).glob("*"))


def test_settings_are_asked_for_as_they_were_set(lab: Lab, asked: list[specs.ImportSpec]) -> None:
    """From the widgets, which the address fills, with decimal commas and fractions."""
    query = {"mean": "0,5", "std": "1/2", "outputs": "probabilities", "classes": "1 0", "label": "theirs"}
    app = lab.open(
        "add_model",
        add_model_dataset="digits",
        add_model_digits_classes=["4", "9"],
        add_model_architecture="lenet",
        **{f"add_model_{name}": value for name, value in query.items()},
    )
    press(upload(app, "weights.pth"))
    (spec,) = asked
    assert (spec.route, spec.architecture, spec.label, spec.data.classes) == ("weights", "lenet", "theirs", (4, 9))
    assert (spec.mean, spec.std, spec.outputs, spec.classes) == ((0.5,), (0.5,), "probabilities", (1, 0))


def test_a_bad_setting_is_refused_before_anything_is_kept(lab: Lab) -> None:
    """In one sentence, with the button closed."""
    app = lab.open("add_model", add_model_dataset="digits", add_model_mean="0.5")
    app = upload(app, "net.onnx")
    assert any("mean and std together" in element.value for element in app.error)
    assert app.button(key="add_model_import").disabled
    assert not (lab.root / uploads.UPLOADS).exists()


def test_a_refusal_keeps_the_file_and_names_the_setting(lab: Lab, asked: list[specs.ImportSpec]) -> None:
    """The sentence is on the page, so is the setting to change, and Import takes the same file again."""
    app = press(upload(lab.open("add_model", add_model_dataset="digits"), "net.onnx"))
    refusal = "ValueError: classes: expected 10 outputs, got 12: name the output of each class"
    event(lab, state="failed", message=refusal)
    app.run()
    assert any("name the output of each class" in element.value for element in app.error)
    assert any("**Class order**" in element.value for element in app.caption)
    app.text_input(key="add_model_classes").set_value("9 8 7 6 5 4 3 2 1 0").run()
    press(app)
    assert (asked[1].digest, asked[1].classes) == (asked[0].digest, tuple(range(9, -1, -1)))


def test_a_refused_order_of_classes_is_set_by_a_button(lab: Lab, asked: list[specs.ImportSpec]) -> None:
    """The reasons of the examination stand on the page, and what it would set is one click away."""
    app = press(upload(lab.open("add_model", add_model_dataset="digits"), "net.onnx"))
    why = "Accuracy is 9.7% in the order as it is. If so, give classes: 9 8 7 6 5 4 3 2 1 0"
    event(lab, state="failed", message=f"model: {REFUSED} {why}")
    app.run()
    assert why in [element.value for element in app.markdown]
    app.button(key="add_model_advised_classes").click().run()
    press(app)
    assert asked[1].classes == tuple(range(9, -1, -1))


def test_another_file_drops_the_kept_one(lab: Lab, asked: list[specs.ImportSpec]) -> None:
    """Nothing of it is left behind."""
    app = press(upload(lab.open("add_model", add_model_dataset="digits"), "net.onnx"))
    event(lab, state="cancelled")  # while it waits or runs, it needs its file
    app.run().button(key="add_model_another").click().run()
    assert app.file_uploader
    assert not uploads.where(asked[0].digest, lab.root).exists()


def test_two_visitors_do_not_mix(lab: Lab, asked: list[specs.ImportSpec]) -> None:
    """Each has a file and a question of their own."""
    first = press(upload(lab.open("add_model", add_model_dataset="digits"), "one.onnx", b"one"))
    other = type(lab)(lab.root)
    second = press(upload(other.open("add_model", add_model_dataset="digits28"), "two.onnx", b"two"))
    assert [(spec.label, spec.data.dataset) for spec in asked] == [("one", "digits"), ("two", "digits28")]
    assert len({spec.digest for spec in asked}) == 2
    for app, name in ((first, "one.onnx"), (second, "two.onnx")):
        said = "".join(element.value for element in app.run().markdown)
        assert [file in said for file in ("one.onnx", "two.onnx")] == [name == "one.onnx", name == "two.onnx"]


def test_what_was_found_is_shown_with_its_verdicts(lab: Lab) -> None:
    """As signs and words, those first that want a look; and the ways on."""
    model = lab.imported()
    app = lab.open("add_model")
    shown = app.table[0].value
    assert list(shown["Verdict"]) == ["?\u00a0doubt", "ℹ\u00a0note", "✓\u00a0fine"]
    assert r"\*with\* \[signs\]" in shown["Found"][shown["Verdict"] == "ℹ\u00a0note"].iloc[0]
    for page, key in (("playground", "model"), ("epsilon_sweep", "models"), ("model_comparison", "models")):
        assert app.button(key=f"add_model_open_{page}").label, key
    assert any(model.id in element.value for element in app.caption)


def test_the_model_that_was_just_imported_is_chosen(lab: Lab, asked: list[specs.ImportSpec]) -> None:
    """And its file waits no more."""
    lab.imported(label="earlier")
    app = press(upload(lab.open("add_model", add_model_dataset="digits"), "net.onnx"))
    spec = asked[0]
    model = lab.imported(label="net", digest=spec.digest, route="onnx", architecture="")
    lab.imported(label="somebody-elses")
    app.run()
    assert not app.exception
    assert app.session_state["add_model_model"] == model.id
    assert not uploads.where(spec.digest, lab.root).exists()
    assert app.file_uploader


def test_a_doubt_is_taken_up_by_a_button(lab: Lab, asked: list[specs.ImportSpec]) -> None:
    """It fills in the settings and the file; Import then asks for the other reading of the same network."""
    rows = [
        {"normalisation": "none", "mean": [0.0], "std": [1.0], "channels": "rgb", "layout": "nchw", "accuracy": 0.9},
        {"normalisation": "MNIST's", "mean": [0.1307], "std": [0.3081], "channels": "rgb", "layout": "nchw"},
    ]
    finding = {"name": "normalisation", "title": "Which", "verdict": "doubt", "said": "", "advice": "", "rows": rows}
    model = lab.imported(found=[finding])
    app = lab.open("add_model", add_model_dataset="digits")
    app.button(key="add_model_other_0").click().run()
    assert not app.exception
    press(app)
    (spec,) = asked
    assert (spec.mean, spec.std, spec.architecture) == ((0.1307,), (0.3081,), "linear")
    assert uploads.read(spec.digest, lab.root) == (model.folder / "weights.safetensors").read_bytes()
    assert store.find(spec, lab.root) is None  # another model than the first


def test_advice_with_an_order_of_classes_is_read() -> None:
    """As the examination writes it."""
    assert found.advised("give classes: 1 0 2") == [("classes", "1 0 2", (1, 0, 2))]
    assert found.advised("Ask whoever made the network.") == []


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("ValueError: outputs: the network answers with 12 numbers", "outputs"),
        ("data.classes: it has the classes 0 to 9", "data"),
        ("architecture: expected one of lenet", "architecture"),
        ("digest: the file that waits was changed", ""),
        ("file: expected a graph", ""),
        ("It did not work.", ""),
    ],
)
def test_a_refusal_names_a_setting_of_the_page(message: str, name: str) -> None:
    """Or none, where there is nothing on the page to change."""
    assert adding.refused_by(message) == name
