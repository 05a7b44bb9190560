"""The choice of test images from a model's test table; that of its own images is stored and needs no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from core import specs
from core.data import folder
from core.storage import store
from ui.app import sources
from ui.form import bound
from ui.show import elements
from ui.text import literal

if TYPE_CHECKING:
    import pandas as pd

ORDERS = {
    "test": "as in the test set",
    "smallest": "smallest margin first (easiest to fool)",
    "largest": "largest margin first (hardest to fool)",
}
"""Orders in which candidates can be offered."""


def table(model: store.Artifact, data: specs.DataSpec | None = None) -> pd.DataFrame | None:
    """The model's test table on the images of `data` (None: its own).

    Of its own images it was made by the training, or by the import. Of others it is made here, once: it takes PyTorch
    and a forward pass of the test part.

    Returns:
        A row an image: index, y, pred, confidence, margin[, score]. None, with an error on the page, where it is
        damaged or the images cannot be read.
    """
    try:
        wanted = store.shown_data(model, data)
        if wanted is None:
            return model.table("test")
        if not sources.present(wanted.dataset):  # nothing is downloaded without being asked for
            st.info(f"{literal(sources.data_title(wanted))} is not on this machine.", icon=":material/info:")
            return None
        return _predicted(model, wanted, model.card["sha256"], store.default_root())
    except (store.DamagedArtifact, ValueError, folder.DataMissing, OSError) as error:
        st.error(f"The model's test table cannot be read. {literal(error)}", icon=":material/error:")
        return None


@st.cache_data(max_entries=32, show_spinner="Classifying the test images …")
def _predicted(_model: store.Artifact, data: specs.DataSpec, sha256: str, root: Path) -> pd.DataFrame:
    import pandas as pd

    from core.evaluation.tasks.answers import test_table

    return pd.DataFrame(test_table(sources.saved_model(_model.id, root).model, sources.model_data(_model, data)))


def candidates(
    tests: pd.DataFrame, label: int, *, confidence: float = 0.0, threshold: float = 0.0, order: str = "test"
) -> pd.DataFrame:
    """The correctly classified test images of one class.

    Args:
        tests: a model's test table (index, y, pred, confidence, margin[, score]).
        label: the class.
        confidence: least confidence, in [0, 1].
        threshold: τ, where there are scores; prediction, confidence and margin are then taken anew from the score.
        order: a key of `ORDERS`.

    Returns:
        The rows of `tests` that qualify, in that order, numbered from 0.
    """
    if "score" in tests:
        above = tests["score"] - threshold
        pred = (above > 0).astype(int)
        margin = np.where(tests["y"] == 1, above, -above)
        tests = tests.assign(pred=pred, margin=margin, confidence=1 / (1 + np.exp(-np.abs(above))))
    rows = tests[(tests["y"] == label) & (tests["pred"] == label) & (tests["confidence"] >= confidence)]
    if order != "test":
        rows = rows.sort_values("margin", ascending=order == "smallest", kind="stable")
    return rows.reset_index(drop=True)


def none_of(name: str, more: str = "") -> None:
    """Say that a model classifies no test image of a class correctly; `more` says under which settings."""
    st.warning(f"No test image of class {literal(name)} is classified correctly{more}.", icon=":material/warning:")


def place(key: str, count: int, *, label: str, help: str, label_visibility: Any = "visible") -> int:
    """A number from 1 to `count` (1 or more) with a step to the next; returns the position from 0.

    A remembered number that no longer exists becomes the last one that does.
    """
    if key in st.session_state and isinstance(st.session_state[key], int):
        st.session_state[key] = min(max(1, st.session_state[key]), count)
    number = bound.number_input(
        label,
        whole=True,
        min_value=1,
        max_value=count,
        value=1,
        step=1,
        key=key,
        help=help,
        label_visibility=label_visibility,
    )
    return int(number or 1) - 1


def images(model: store.Artifact, indices: Sequence[int], data: specs.DataSpec | None = None) -> np.ndarray | None:
    """Test images (n, C, H, W) in [0, 1] of `data` (None: the model's own) by their `index`.

    None, with an error on the page, if they cannot be read.
    """
    of = sources.model_spec(model).data if data is None else data
    if not sources.present(of.dataset):  # nothing is downloaded without being asked for
        st.info("The images are not on this machine; what is needed stands above.", icon=":material/info:")
        return None
    try:
        with st.spinner("Reading the images …"):
            test = sources.model_data(model, data).test
    except (folder.DataMissing, OSError, ValueError) as error:
        elements.failed(
            f"The images of {literal(sources.data_title(of))} are not here, or cannot be read.",
            error,
            details="What was looked for, and ways to mend it",
        )
        return None
    rows = {int(index): row for row, index in enumerate(test.index)}
    missing = [index for index in indices if int(index) not in rows]
    if missing:
        st.error(
            f"The data set on this machine has no test image {missing[0]}: it is not the one the model was tested on.",
            icon=":material/error:",
        )
        return None
    from core.data.sets import to_float

    return to_float(test.x[[rows[int(index)] for index in indices]]).numpy()
