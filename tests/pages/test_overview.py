"""The overview: never empty, one button to a first model, what is missing and why."""

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
    monkeypatch.setattr(queue, "submit", lambda task, root=None: asked.append(task))
    app = lab.open("overview")
    assert len(app.get("page_link")) == 5
    app.button(key="overview_first").click().run()
    assert asked == [model_picker.FIRST]


def test_first_model_in_training_is_shown_instead_of_the_button(lab: Lab) -> None:
    """Whoever comes back sees it running."""
    lab.job(model_picker.FIRST, "running")
    app = lab.open("overview")
    assert app.main.get("progress")
    assert "overview_first" not in [button.key for button in app.button]


def test_saved_models_are_listed_with_their_accuracies(lab: Lab) -> None:
    """Newest first, with interval and n."""
    lab.model(accuracy=0.8)
    lab.model(accuracy=0.9, network="lenet")
    frame = lab.open("overview").dataframe[0].value
    assert list(frame["Test accuracy"]) == [90, 80]
    assert {"95 % from", "to", "n", "Id"} <= set(frame.columns)


def test_missing_mnist_is_said_with_the_reason(lab: Lab) -> None:
    """What was looked for, where, and the ways to mend it."""
    app = lab.open("overview")
    words = "\n".join(str(element.value) for kind in ("markdown", "caption") for element in app.get(kind))
    assert "Not here: MNIST" in words
    assert "t10k-labels-idx1-ubyte" in words


def test_overview_answers_at_the_root(lab: Lab) -> None:
    """The first page is the overview."""
    assert lab.app.run().title[0].value == "Adversarial Lab"
