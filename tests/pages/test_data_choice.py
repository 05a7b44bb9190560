"""The images that a model is shown: its own, others that fit, or a stand-in where the own ones are not here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core import specs
from core.data.sets import load
from core.storage import bundled, store
from tests.pages.conftest import Lab
from ui.app import sources
from ui.form import data_choice

LENET = "mnist-lenet-standard-ef26041bb7"
NINE = "mnist-4v9-mlp-scalar-standard-498ba6a8e0"


def script() -> None:
    """A page that lets one choose the images of the models in the session (AppTest copies its source)."""
    import streamlit as st

    from core.storage import store
    from ui.form import data_choice, missing, samples

    models = [store.open_model(model_id, store.default_root()) for model_id in st.session_state["ids"]]
    st.session_state["missing"] = [missing.note("page", model) for model in models]
    data = st.session_state["chosen"] = data_choice.choose("page", *models)
    if st.session_state.get("read", True):
        tests = st.session_state["table"] = samples.table(models[0], data)
        if tests is not None:
            st.session_state["images"] = samples.images(models[0], tests["index"].tolist()[:3], data)


def opened(*ids: str, read: bool = True, **query: str) -> AppTest:
    """The page with these models, opened by an address with these parameters."""
    app = AppTest.from_function(script, default_timeout=300)
    app.session_state["ids"], app.session_state["read"] = list(ids), read
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, app.exception[0].value
    return app


@pytest.fixture
def without_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled models, and no data set but the embedded ones."""
    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE", raising=False)
    monkeypatch.setenv("ADVERSARIAL_LAB_DATA", str(tmp_path / "none"))


def test_where_only_the_own_images_fit_there_is_no_choice(lab: Lab) -> None:
    """And nothing is said."""
    app = opened(lab.model().id, read=False)
    assert app.session_state["chosen"] is None
    assert not [*app.selectbox, *app.segmented_control, *app.caption, *app.button]


@pytest.mark.usefixtures("other_images")
def test_others_that_fit_can_be_chosen_and_stand_in_the_address(lab: Lab) -> None:
    """The own ones are the default; tables and images are those of the choice."""
    model = lab.model()
    app = opened(model.id)
    box = app.selectbox(key="page_data")
    assert app.session_state["chosen"] is None
    assert app.session_state["table"].equals(model.table("test"))
    assert len(box.options) == 3  # those of other shapes and classes are not on offer
    app = opened(model.id, page_data="toy_faint")
    chosen, tests = app.session_state["chosen"], app.session_state["table"]
    assert chosen == specs.DataSpec(dataset="toy_faint")
    test = load(chosen).test
    assert list(tests["index"]) == test.index.tolist()
    assert list(tests["y"]) == test.y.tolist()
    assert set(tests) == set(model.table("test"))
    assert np.allclose(app.session_state["images"], test.x[:3].numpy() / 255)
    app = opened(model.id, page_data="toy_backwards", read=False)
    assert app.session_state["chosen"] == specs.DataSpec(dataset="toy_backwards", classes=tuple(range(9, -1, -1)))


@pytest.mark.usefixtures("without_data")
@pytest.mark.parametrize(("model_id", "classes"), [(LENET, None), (NINE, (4, 9))])
def test_where_mnist_is_absent_the_framed_digits_stand_in(model_id: str, classes: tuple[int, ...] | None) -> None:
    """A line says so, a button fetches MNIST, and the model classifies them well."""
    app = opened(model_id)
    assert app.session_state["missing"] == [False]
    assert app.session_state["chosen"] == specs.DataSpec(dataset="digits28", classes=classes)
    assert app.caption[0].value == "MNIST is not on this machine: the images are UCI digits in MNIST's frame."
    assert app.button(key="page_download_mnist").label.startswith("Download MNIST")
    tests = app.session_state["table"]
    assert (tests["pred"] == tests["y"]).mean() > 0.9
    assert ("score" in tests) == (classes is not None)
    assert app.session_state["images"].shape == (3, 1, 28, 28)


@pytest.mark.usefixtures("without_data")
def test_where_nothing_fits_the_page_offers_the_download() -> None:
    """As for colour images without CIFAR-10."""
    model = next(model for model in store.bundled_models() if model.id.startswith("cifar10"))
    app = opened(model.id, read=False)
    assert app.session_state["missing"] == [True]
    assert app.session_state["chosen"] is None
    assert "CIFAR-10 is not on this machine" in app.warning[0].value


@pytest.mark.usefixtures("other_images")
def test_models_of_several_data_sets_are_shown_the_same_images(lab: Lab) -> None:
    """The name of a data set means the own images to one of them; its results are found all the same."""
    own, other = lab.model(), lab.model(data={"dataset": "toy_faint"})
    app = opened(own.id, other.id, read=False)
    chosen = app.session_state["chosen"]
    assert chosen in (sources.model_spec(own).data, sources.model_spec(other).data)
    assert store.shown_data(own, sources.model_spec(own).data) is None
    models = [own, other, lab.model(network="mlp")]
    assert {data.dataset for data in data_choice.common(*models)} == {"digits", "toy_faint", "toy_backwards"}
    assert data_choice.common(own, lab.model(data={"dataset": "digits", "classes": (4, 9)}, scalar=True)) == []


@pytest.mark.usefixtures("without_data")
def test_every_bundled_model_of_digits_can_be_shown_images() -> None:
    """From the first start: the models of colour images alone come last, as they need a download."""
    here = {model.id: sources.has_images(model) for model in sources.models()}
    assert len(here) > 15
    assert {model_id for model_id, has in here.items() if not has} == {
        model.id for model in store.bundled_models() if str(bundled.name_of(model.card)).startswith("cifar10")
    }
    assert list(here.values()) == sorted(here.values(), reverse=True)
