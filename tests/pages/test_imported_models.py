"""Every page works on a model that was imported, beside trained ones and alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core import specs
from core.evaluation.tables import comparison
from core.exercises import evidence
from ui.app.routes import DEFAULT, ROUTES
from ui.models import found, saved
from ui.show import model_names, provenance

if TYPE_CHECKING:
    from tests.pages.conftest import Lab

PICKING = {path: route.model_widget for path, route in ROUTES.items() if route.model_widget}


@pytest.mark.parametrize("beside", [True, False], ids=["beside", "alone"])
@pytest.mark.parametrize("path", ROUTES)
def test_every_page_opens(lab: Lab, path: str, beside: bool) -> None:
    """With the imported model chosen where the page has a choice; `open` allows no exception."""
    if beside:
        lab.model(network="mlp")
    model = lab.imported()
    widget = PICKING.get(path, "")
    key = f"{path}_{widget}"
    if path == DEFAULT:  # a switch to it would find its widgets already there
        lab.app.query_params[key] = model.id
        app = lab.app.run()
        assert not app.exception, app.exception[0].value
    else:
        app = lab.open(path, **({key: [model.id] if widget == "models" else model.id} if widget else {}))
    if not widget:
        return
    chosen = app.multiselect(key=key) if widget == "models" else app.selectbox(key=key)
    assert "my-net · imported" in chosen.options
    assert app.session_state[key] == ([model.id] if widget == "models" else model.id)


@pytest.mark.parametrize("tab", ["Result", "Against earlier ones", "Network", "Your models"])
def test_train_page_beside_an_imported_model_alone(lab: Lab, tab: str) -> None:
    """It has no epochs to compare with, and is no model to train from."""
    lab.imported()
    lab.open("train", train_tab=tab, train_dataset="digits")


def test_names_and_facts(lab: Lab) -> None:
    """The label names it; facts and provenance say that it was imported, and from what."""
    model = lab.imported(label="theirs")
    assert model_names.name(model) == "theirs · imported"
    assert model_names.facts(model).endswith("· imported")
    assert "“theirs”, imported from weights of Linear" in provenance.of(model)
    twin = lab.imported(label="theirs", mean=(0.5,), std=(0.5,))
    assert len(set(model_names.short_names([model, twin]).values())) == 2


def test_tables_do_not_claim_a_training(lab: Lab) -> None:
    """Epochs and seconds of training are not known, and so are empty."""
    model = lab.imported()
    row = saved.table([model, lab.model()]).iloc[0]
    assert (row["Model"], row["Recipe"]) == ("my-net · imported", "imported")
    assert row[["Epochs", "Seconds"]].isna().all()
    compared = comparison.model_row(model)
    assert (compared["network"], compared["recipe"], compared["seconds"]) == ("linear", "imported", None)


def test_report_shows_what_was_found(lab: Lab) -> None:
    """Instead of training curves: the accuracies of what was tried, every finding with its verdict, and the framing."""
    model = lab.imported()
    app = lab.open("models", models_tab="Yours")
    assert list(app.dataframe[0].value["Model"]) == ["my-net · imported"]
    frame = found.frame(model.card["found"])
    assert list(frame["Verdict"]) == ["✓ fine", "ℹ note", "? doubt"]
    assert found.tried(model.card) == (["none", "MNIST, BGR"], [0.9, 0.2], 0)
    assert found.steps(model.card["framing"])[0] == "it is given as it is, pixels in [0, 1]"


def test_steps_of_a_framing_in_order() -> None:
    """As `Framing` does them."""
    made = specs.Framing(resize=40, crop=32, channels="bgr", mean=(0.1,), std=(0.5,), layout="nhwc", shape=(3072,))
    said = " | ".join(found.steps(made.body()))
    order = ["resized to 40", "32 × 32", "BGR", "0.1 is subtracted", "NHWC", "reshaped to 3072", "logits"]
    assert [said.index(word) for word in order] == sorted(said.index(word) for word in order)


def test_exercises_count_only_what_fits(lab: Lab) -> None:
    """A network from elsewhere was trained by no known recipe: it is no answer to an item on one."""
    model = lab.imported()
    known = evidence.gather(lab.root)
    assert [one.name() for one in known.models] == ["UCI digits 8×8 · my-net · imported"]
    assert known.all(specs.TrainSpec) == []
    assert known.all(specs.ImportSpec)[0].artifact.id == model.id
