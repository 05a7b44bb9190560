"""The page of models: never empty, one button to a first model, what is missing and how to get it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core import specs
from core.jobs import queue
from ui.form import model_picker

if TYPE_CHECKING:
    from tests.pages.conftest import Lab


def test_empty_store_offers_a_first_model(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """One button trains the embedded digits."""
    asked: list[specs.Task] = []
    monkeypatch.setattr(queue, "submit", lambda task, root=None, owner="": asked.append(task))
    app = lab.open("models")
    app.button(key="models_first").click().run()
    assert asked == [model_picker.FIRST]


def test_first_model_in_training_is_shown_instead_of_the_button(lab: Lab) -> None:
    """Whoever comes back sees it running."""
    lab.job(model_picker.FIRST, "running")
    app = lab.open("models")
    assert app.main.get("progress")
    assert "models_first" not in [button.key for button in app.button]


def test_saved_models_are_listed_with_their_accuracies(lab: Lab) -> None:
    """Newest first, with interval and n."""
    lab.model(accuracy=0.8)
    lab.model(accuracy=0.9, network="lenet")
    frame = lab.open("models").dataframe[0].value
    assert list(frame["Test accuracy"]) == [90, 80]
    assert {"95 % from", "to", "n", "Id"} <= set(frame.columns)


def test_data_sets_are_listed_with_a_button_for_those_that_are_missing(lab: Lab) -> None:
    """Embedded ones need nothing."""
    app = lab.open("models", models_tab="Data sets")
    words = "\n".join(str(element.value) for element in app.markdown)
    assert "**MNIST**: not on this machine" in words
    assert ": embedded. 8 × 8 pixels" in words
    assert app.button(key="models_download_mnist").label == "Download MNIST (12 MB)"
    assert "models_download_digits" not in [button.key for button in app.button]
