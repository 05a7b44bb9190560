"""A note that images are not on this machine, with a button that downloads them."""

from __future__ import annotations

import streamlit as st

from core import specs
from core.data import folder
from core.models import trained_on
from core.storage import store
from ui.app import sources
from ui.show import elements
from ui.text import literal


def note(page: str, model: store.Artifact, what: str = "Attacking this model needs its images.") -> bool:
    """Explain it if a model has no images on this machine, or its own have changed; returns whether that is so.

    `what` says what they are needed for; a button downloads them. Where others stand in for the model's own,
    `data_choice` says so.
    """
    data = sources.model_spec(model).data
    if data.path is not None:
        text = trained_on.changed(model)
        if text:
            st.warning(literal(text.removeprefix("model: ")), icon=":material/folder_off:")
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


def offer(page: str, dataset: str, text: str = "") -> None:
    """Draw a button that downloads a built-in data set (key `<page>_download_<dataset>`), beside a line if any."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"{page}_{dataset}"):
        if text:
            st.caption(text, width="content")
        asked = _button(page, dataset)
    if asked:
        _download(dataset)


def _button(page: str, dataset: str) -> bool:
    megabytes = specs.DATASETS[dataset].download_size / 1e6
    return st.button(
        f"Download {specs.DATASETS[dataset].title} ({megabytes:.0f} MB)",
        icon=":material/download:",
        key=f"{page}_download_{dataset}",
    )


def offer_mnist(page: str) -> None:
    """Say that MNIST itself is not on this machine, and offer to fetch it; draws nothing where it is."""
    if not sources.present("mnist"):
        offer(page, "mnist", "MNIST is not on this machine. Its models are shown UCI digits in MNIST's frame.")


def _download(dataset: str) -> None:
    """Fetch a built-in data set with a progress bar, and draw the page anew; or say why it cannot be had."""
    title, size = specs.DATASETS[dataset].title, specs.DATASETS[dataset].download_size / 1e6
    bar = st.progress(0.0, text=f"{title}: connecting …")

    def report(done: int, total: int, **_: object) -> None:
        if done > 0:
            bar.progress(done / max(1, total), text=f"{title}: {done / 1e6:.1f} of {size:.0f} MB")

    try:
        sources.dataset(specs.DataSpec(dataset=dataset), report)
    except (folder.DataMissing, OSError) as error:
        bar.empty()
        elements.failed(
            f"{title} could not be downloaded. Is this machine connected to the internet? All pages work without it, "
            "on the embedded digits; other ways to get it are below.",
            error,
            details=f"What went wrong, and other ways to get {title}",
        )
        return
    st.rerun()
