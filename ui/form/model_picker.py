"""The choice of a saved model, and what to do when there is none."""

from __future__ import annotations

import contextlib

import streamlit as st
from streamlit.errors import StreamlitAPIException

from core import specs
from core.storage import store
from ui.app import jobs, sources
from ui.form import missing
from ui.form.select import seed, select, select_many
from ui.show import model_names

FIRST = specs.TrainSpec(data=specs.DataSpec(dataset="digits"), network="lenet", **specs.preset("fast", "digits"))
"""The model that one button trains where there is none: the embedded digits, a few seconds."""
FIRST_SCALAR = FIRST.model_copy(update={"data": specs.DataSpec(dataset="digits", classes=(4, 9)), "scalar": True})
"""The same for pages that need a single-output network: N separates 4 from 9."""


def pick(
    page: str,
    *,
    name: str = "model",
    text: str = "Model",
    scalar: bool | None = None,
    datasets: tuple[str, ...] | None = None,
    network: str | None = None,
    default: str | None = None,
) -> store.Artifact | None:
    """Draw the choice of one saved model.

    Args:
        page: url path of the page.
        name: second half of the widget's key (`<page>_<name>`); its value is the model's id.
        text: label of the widget.
        scalar: only single-output networks (True), only the others (False), or all (None).
        datasets: only models of these data sets.
        network: only models of this architecture.
        default: id to start with; otherwise the newest whose images are here. Where they are not, the page says so.

    Returns:
        The artifact, or None when none fits; the page then says what is missing, with one button that makes it.
    """
    fitting = _fitting(scalar, datasets, network)
    if not fitting:
        empty(page, scalar=scalar, network=network)
        return None
    by_id = {model.id: model for model in fitting}
    chosen = select(
        page,
        name,
        text,
        list(by_id),
        text=lambda model_id: model_names.label(by_id[model_id]),
        default=default,
        kind="list",
    )
    if name == "model":  # another one on the same page is of the same data
        missing.note(page, by_id[chosen])
    return by_id[chosen]


def pick_many(
    page: str,
    *,
    name: str = "models",
    text: str = "Models",
    scalar: bool | None = None,
    datasets: tuple[str, ...] | None = None,
    start: int = 3,
) -> list[store.Artifact]:
    """Draw the choice of several saved models; at first the newest `start` models of the newest one's data.

    Returns an empty list when none fits or is chosen, which the page has then said.
    """
    fitting = _fitting(scalar, datasets)
    if not fitting:
        empty(page, scalar=scalar)
        return []
    by_id, data = {model.id: model for model in fitting}, sources.model_spec(fitting[0]).data
    key, labels = f"{page}_{name}", {model.id: model_names.label(model) for model in fitting}
    seed(key, list(by_id), labels.__getitem__, many=True)
    known = {*labels, *labels.values()}
    if key not in st.session_state and not known.intersection(st.query_params.get_all(key)):
        # as a choice, not as the widget's default: it stands in the address, also when newer models come
        st.session_state[key] = [model.id for model in fitting if sources.model_spec(model).data == data][:start]
        with contextlib.suppress(StreamlitAPIException):  # the widget is bound already: it writes the address itself
            st.query_params[key] = [labels[model_id] for model_id in st.session_state[key]]
    chosen = select_many(page, name, text, list(by_id), text=labels.__getitem__)
    if not chosen:
        st.caption("Choose at least one model.")
    for model in {_images_of(by_id[model_id]): by_id[model_id] for model_id in chosen}.values():
        missing.note(page, model)
    return [by_id[model_id] for model_id in chosen]


def empty(page: str, *, scalar: bool | None = None, network: str | None = None) -> None:
    """Explain that no model fits, and offer to train one, or show the progress of that training."""
    spec = FIRST_SCALAR if scalar else FIRST
    if network is not None:
        spec = spec.model_copy(update={"network": network})
    if scalar:
        st.info(
            "This page needs a single-output network, which separates two classes, and none is saved yet.",
            icon=":material/info:",
        )
    else:
        st.info("No saved model fits this page yet. You can train one here.", icon=":material/info:")
    text = "Train N on digits, 4 against 9 (seconds)" if scalar else "Train a first model on digits (seconds)"
    jobs.offer(page, spec, text, name="first")
    st.page_link("pages/train.py", label="Or train another one on the training page", icon=":material/model_training:")


def _images_of(model: store.Artifact) -> str:
    """What models of the same images have in common: the name of the data set, or for a folder the model itself."""
    data = sources.model_spec(model).data
    return model.id if data.dataset == "folder" else data.dataset


def _fitting(scalar: bool | None, datasets: tuple[str, ...] | None, network: str | None = None) -> list[store.Artifact]:
    return [
        model
        for model in sources.models()
        if (scalar is None or sources.model_spec(model).scalar == scalar)
        and (datasets is None or sources.model_spec(model).data.dataset in datasets)
        and (network is None or sources.model_spec(model).network == network)
    ]
