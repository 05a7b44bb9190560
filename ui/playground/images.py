"""Which image is attacked: one of the test set, an upload, or a drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from core import specs
from core.data import folder, peek
from core.storage import store
from ui.app import sources
from ui.form import bound, controls, data_choice, missing, samples
from ui.form.select import select
from ui.playground import drawing, uploads
from ui.playground.address import PAGE
from ui.playground.picture import Picture
from ui.show import elements

if TYPE_CHECKING:
    import pandas as pd

SOURCES = {"test": "Test set", "draw": "Draw", "upload": "Upload"}


def choose_data(model: store.Artifact) -> specs.DataSpec | None:
    """Draw the choice of the data set; folded, unless the model's own images are not here, which is said."""
    own = sources.model_spec(model).data.dataset
    if own not in specs.OWN and not sources.present(own):
        return data_choice.choose(PAGE, model)
    with st.expander("More settings", icon=":material/tune:"):
        found = data_choice.choose(PAGE, model)
        missing.offer_mnist(PAGE)
    return found


def choose(model: store.Artifact, data: specs.DataSpec | None) -> Picture | None:
    """Draw the choice of the image; None, with the reason on the page, where there is none yet."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        with st.container(width=230):
            source = select(
                PAGE, "source", "Image", list(SOURCES), text=SOURCES.__getitem__, kind="buttons", help=_HELP
            )
        if source == "test":
            return _of_test_set(model, data)
        shape = tuple(model.card["shape"])
        with st.container(width=390):
            return drawing.choose(model, shape) if source == "draw" else uploads.choose(model, shape)


_HELP = (
    "From the test set: the next one, one of a class, or one by its number. Or draw one, or upload a PNG or JPEG; both "
    "are brought into the form of the data set's images."
)


def _of_test_set(model: store.Artifact, data: specs.DataSpec | None) -> Picture | None:
    tests = samples.table(model, data)
    if tests is None or not len(tests):
        return None
    names = list(model.card["class_names"])
    places = {int(index): place for place, index in enumerate(tests["index"])}
    key = f"{PAGE}_index"
    if st.session_state.get(key, next(iter(places))) not in places:
        del st.session_state[key]  # chosen among the images of another data set
    with st.container(width=140):
        wanted = controls.a_class(
            PAGE,
            names,
            name="class",
            label="Class",
            extra={"any": "any class"},
            default="any",
            slider=False,
            help="The class of the next image.",
        )

    def following() -> None:
        st.session_state[key] = _next(tests, st.session_state.get(key), wanted)

    if wanted != "any" and key in st.session_state and int(tests["y"].iloc[places[st.session_state[key]]]) != wanted:
        following()
    first = _start(tests, names) if wanted == "any" else _next(tests, None, wanted)
    with st.container(width=150):
        index = bound.number_input(
            "Number",
            whole=True,
            min_value=min(places),
            max_value=max(places),
            value=first,
            step=1,
            key=key,
            help="The image's index in the test set.",
        )
    with st.container(width=170):
        st.button(
            "Next image",
            icon=":material/skip_next:",
            key=f"{PAGE}_next",
            on_click=following,
            width="stretch",
            shortcut="N",
        )
    if int(index) not in places:  # numbers of a subset have gaps
        st.info(f"The test set has no image {index}; the next one is shown.", icon=":material/info:")
        index = _next(tests, int(index), wanted)
    row = tests.iloc[places[int(index)]]
    x = pixels_of(model, int(index), data)
    if x is None:
        return None
    guess = None if "score" in tests else int(row["pred"])
    return Picture(x, int(row["y"]), f"test image {index}", int(index), guess, float(row["confidence"]))


def _start(tests: pd.DataFrame, names: list[str]) -> int:
    """The image at first: a 4, where there is one that the model classifies correctly."""
    wanted = names.index("4") if "4" in names else 0
    fitting = tests[(tests["y"] == wanted) & (tests["pred"] == wanted)]
    return int((fitting if len(fitting) else tests)["index"].iloc[0])


def _next(tests: pd.DataFrame, index: int | None, wanted: int | str) -> int:
    """The index that follows in the order of the table, of a class if one is wanted; after the last comes the first."""
    fitting = tests if wanted == "any" else tests[tests["y"] == wanted]
    if not len(fitting):
        fitting = tests
    after = tests.index[tests["index"] == index]
    behind = fitting[fitting.index > after[0]] if len(after) else fitting
    return int((behind if len(behind) else fitting)["index"].iloc[0])


def pixels_of(model: store.Artifact, index: int, data: specs.DataSpec | None) -> np.ndarray | None:
    """A test image (C, H, W) in [0, 1]; from MNIST's files without torch, otherwise from the data set in memory.

    None where it is not there; what is needed stands beside the model's choice, or is said here.
    """
    spec = data or sources.model_spec(model).data
    raw = peek.one_test_image(spec.dataset, index)
    if raw is not None:
        return raw.astype(np.float32) / 255
    if spec.path is None and not folder.is_present(spec.dataset):
        return None
    from core.data.sets import to_float
    from core.models.saved import data_of

    try:
        test = data_of(model, data).test
    except (folder.DataMissing, OSError, ValueError) as error:
        elements.failed("The images of this model cannot be read.", error)
        return None
    rows = (test.index == index).nonzero()
    if not len(rows):
        st.error("The data set on this machine is not the one that the model was tested on.", icon=":material/error:")
        return None
    found: np.ndarray = to_float(test.x[int(rows[0])]).numpy()
    return found
