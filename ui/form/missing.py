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
    """Explain it if a model's images are not on this machine or have changed; returns whether that is so.

    `what` says what they are needed for; a button downloads them.
    """
    data = sources.model_spec(model).data
    if data.dataset == "folder":
        text = trained_on.changed(model)
        if text:
            st.warning(text.removeprefix("model: "), icon=":material/folder_off:")
        return bool(text)
    if sources.present(data.dataset):
        return False
    title = specs.DATASETS[data.dataset].title
    megabytes = specs.DATASETS[data.dataset].download_size / 1e6
    with st.container(border=True, key=f"{page}_missing_{data.dataset}"):
        st.warning(f"{title} is not on this machine. {what}", icon=":material/cloud_download:")
        asked = st.button(
            f"Download {title} ({megabytes:.0f} MB)",
            icon=":material/download:",
            key=f"{page}_download_{data.dataset}",
        )
        with st.expander("Where it was looked for, and other ways"):
            st.write(folder.missing_message(data.dataset))
        if asked:
            _download(data)
    return True


def _download(data: specs.DataSpec) -> None:
    try:
        sources.dataset(data)
    except (folder.DataMissing, OSError) as error:
        elements.failed("The download failed; other ways to get the images are above.", error)
        return
    st.rerun()
