"""The choice of a data set that a model is trained on, or is for: a built-in one or your own, all classes or some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from core import specs
from core.data.folder import missing_message
from ui.app import sources
from ui.form import bound, controls
from ui.form.select import select_many
from ui.text import class_text


def choose(page: str, *, on_change: Callable[[], None] | None = None) -> str:
    """Draw the choice of the data set (key `<page>_dataset`) and return its name."""
    chosen: str = controls.field(
        page,
        specs.DataSpec,
        "dataset",
        options=[*specs.DATASETS, *specs.OWN],
        default=sources.start_data(),
        on_change=on_change,
    )
    return chosen


def own(page: str, dataset: str) -> dict[str, Any]:
    """Draw the settings of people's own images, in a folder or a file, and return them as arguments of a DataSpec."""
    return _folder(page) if dataset == "folder" else _file(page)


def _file(page: str) -> dict[str, Any]:
    path, classes = st.columns([2, 1], vertical_alignment="bottom")
    with path:
        file = controls.field(page, specs.DataSpec, "file")
    with classes:
        chosen = _class_numbers(page)
    st.caption(
        "A `.npz` file of NumPy. Images to test a model on: `x` and `y`. Images to train on as well: `x_train`, "
        "`y_train`, `x_test` and `y_test`. Images are uint8 0 to 255 or float in [0, 1], classes whole numbers; "
        "`class_names` if you like."
    )
    return {"file": file, "classes": chosen}


def _class_numbers(page: str) -> tuple[str, ...] | None:
    text = bound.text_input("Classes", key=f"{page}_class_numbers", placeholder="all; or numbers, such as 0 3")
    return tuple(text.replace(",", " ").split()) or None


def _folder(page: str) -> dict[str, Any]:
    path = controls.field(page, specs.DataSpec, "folder")
    size, grey, classes = st.columns(3, vertical_alignment="bottom")
    with size:
        image_size = controls.field(page, specs.DataSpec, "image_size")
    with grey:
        is_grey = controls.field(page, specs.DataSpec, "grey")
    with classes:
        chosen = _class_numbers(page)
    st.caption(
        "One folder per class, either inside `train/` and `test/` (with `val/` if there is one), or side by side: "
        "then a fifth of every class becomes the test part. `test/` alone: images to test a model on, none to train on."
    )
    return {"folder": path, "image_size": image_size, "grey": is_grey, "classes": chosen}


def absent(dataset: str, what: str) -> None:
    """Say that a data set is not on this machine yet; `what` is done that needs it, such as `training`."""
    info = specs.DATASETS[dataset]
    megabytes = info.download_size / 1e6
    st.warning(
        f"{info.title} is not on this machine: {what} downloads it first ({megabytes:.0f} MB), if it can.",
        icon=":material/cloud_download:",
    )
    with st.expander("Where it was looked for, and other ways"):
        st.write(missing_message(dataset))


def classes(page: str, dataset: str, help: str) -> tuple[int, ...] | None:
    """Draw the choice of some of a data set's classes; None: all."""
    info = specs.DATASETS[dataset]
    kept = select_many(
        page,
        f"{dataset}_classes",
        "Classes",
        list(range(len(info.class_names))),
        text=lambda number: class_text(number, info.class_names),
        placeholder="all classes",
        help=help,
    )
    return tuple(kept) or None
