"""A note that a model's images are not on this machine, with a button that downloads them."""

from __future__ import annotations

import streamlit as st

from core import specs
from core.data import folder
from core.models import trained_on
from core.storage import store
from ui.app import sources
from ui.show import elements


def note(page: str, model: store.Artifact, what: str = "Attacking this model needs its images.") -> bool:
    """Explain it if a model has no images on this machine, or its own have changed; returns whether that is so.

    `what` says what they are needed for; a button downloads them. Where others stand in for the model's own,
    `data_choice` says so.
    """
    data = sources.model_spec(model).data
    if data.dataset == "folder":
        text = trained_on.changed(model)
        if text:
            st.warning(text.removeprefix("model: "), icon=":material/folder_off:")
        return bool(text)
    if sources.has_images(model):
        return False
    title = specs.DATASETS[data.dataset].title
    with st.container(border=True, key=f"{page}_missing_{data.dataset}"):
        st.warning(f"{title} is not on this machine. {what}", icon=":material/cloud_download:")
        asked = _button(page, data.dataset)
        with st.expander("Where it was looked for, and other ways"):
            st.write(folder.missing_message(data.dataset))
        if asked:
            _download(data.dataset)
    return True


def offer(page: str, dataset: str) -> None:
    """Draw a button that downloads a built-in data set (key `<page>_download_<dataset>`)."""
    if _button(page, dataset):
        _download(dataset)


def _button(page: str, dataset: str) -> bool:
    megabytes = specs.DATASETS[dataset].download_size / 1e6
    return st.button(
        f"Download {specs.DATASETS[dataset].title} ({megabytes:.0f} MB)",
        icon=":material/download:",
        key=f"{page}_download_{dataset}",
    )


def _download(dataset: str) -> None:
    try:
        sources.dataset(specs.DataSpec(dataset=dataset))
    except (folder.DataMissing, OSError) as error:
        elements.failed("The download failed; other ways to get the images are below.", error)
        return
    st.rerun()
