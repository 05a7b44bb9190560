"""The choice of a saved model, and what to do when there is none."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import streamlit as st
from streamlit.errors import StreamlitAPIException

from core import specs
from core.storage import store
from ui.app import jobs, sources
from ui.form import missing
from ui.form.select import seed, select, select_many
from ui.show import model_names

_EVERY = "all data sets"

FIRST = specs.TrainSpec(data=specs.DataSpec(dataset="digits28"), network="lenet", **specs.preset("fast", "digits28"))
"""The model that one button trains where there is none: the embedded digits, less than half a minute."""
FIRST_SCALAR = FIRST.model_copy(update={"data": specs.DataSpec(dataset="digits28", classes=(4, 9)), "scalar": True})
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
        network: only models of this architecture that were trained here.
        default: id to start with; otherwise the newest whose images are here. Where they are not, the page says so.

    Returns:
        The artifact, or None when none fits; the page then says what is missing, with one button that makes it.
    """
    fitting = _fitting(scalar, datasets, network)
    if not fitting:
        empty(page, scalar=scalar, network=network)
        return None
    by_id = {model.id: model for model in fitting}
    with st.container(horizontal=True, gap="small"):
        offered = _of_a_data_set(page, name, by_id, by_id.get(default or ""))
        held = st.session_state.get(f"{page}_{name}")
        names = model_names.names()
        chosen = select(
            page,
            name,
            text,
            offered,
            text=names.__getitem__,
            default=default,
            kind="list",
            named=True,
            help=model_names.facts(by_id[held if held in offered else default if default in offered else offered[0]]),
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
    wrapped: bool = False,
) -> list[store.Artifact]:
    """Draw the choice of several saved models; at first the newest `start` models of the newest one's data.

    With `wrapped` all that are chosen are seen, in several lines, else those that fit into one.

    Returns an empty list when none fits or is chosen, which the page has then said.
    """
    fitting = _fitting(scalar, datasets)
    if not fitting:
        empty(page, scalar=scalar)
        return []
    by_id = {model.id: model for model in fitting}
    with st.container(horizontal=True, gap="small"):
        offered = _of_a_data_set(page, name, by_id, many=start)
        names = model_names.short_names([by_id[model_id] for model_id in offered])
        key = f"{page}_{name}"
        seed(key, offered, names.__getitem__, many=True)
        known = {*names, *names.values()}
        if key not in st.session_state and not known.intersection(st.query_params.get_all(key)):
            # as a choice, not as the widget's default: it stands in the address, also when newer models come
            st.session_state[key] = _first(offered, by_id, start)
            with contextlib.suppress(
                StreamlitAPIException
            ):  # the widget is bound already: it writes the address itself
                st.query_params[key] = [names[model_id] for model_id in st.session_state[key]]
        with st.container() if wrapped else contextlib.nullcontext():  # in a row, Streamlit cuts it to one line
            chosen = select_many(page, name, text, offered, text=names.__getitem__)
    if not chosen:
        st.caption("Choose at least one model.")
    for model in {_images_of(by_id[model_id]): by_id[model_id] for model_id in chosen}.values():
        missing.note(page, model)
    return [by_id[model_id] for model_id in chosen]


def usual_victim() -> str | None:
    """The usual victim, if its images are here: an undefended LeNet on MNIST."""
    for model in sources.models():
        spec = sources.model_spec(model)
        if (
            spec.data == specs.DataSpec(dataset="mnist")
            and spec.network == "lenet"
            and specs.recipe_of(spec) == "standard"
        ):
            return model.id if sources.present("mnist") else None
    return None


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
    if not scalar and network is None:
        st.page_link("pages/add_model.py", label="Or add a model that you have", icon=":material/upload_file:")


def _of_a_data_set(
    page: str,
    name: str,
    by_id: Mapping[str, store.Artifact],
    default: store.Artifact | None = None,
    *,
    many: int = 0,
) -> list[str]:
    """Draw the choice of the data set where models of several are there; the ids of the models of the one chosen.

    A model that is chosen already, by a link or by another page, says which data set it is; a change of the data set
    chooses its first model, or its first `many`; then models of all data sets can be had together, too.
    """
    titles = {model_id: model_names.data_of(model) for model_id, model in by_id.items()}
    options = list(dict.fromkeys(titles.values()))
    if len(options) == 1:
        return list(by_id)
    key, filter_key = f"{page}_{name}", f"{page}_{name}_of"
    held = st.session_state.get(key, st.query_params.get_all(key))
    ids = [model_id for model_id in ([held] if isinstance(held, str) else held or []) if model_id in titles]
    if ids and st.session_state.get(filter_key) not in (titles[ids[0]], _EVERY):
        st.session_state[filter_key] = titles[ids[0]] if len({titles[one] for one in ids}) == 1 else _EVERY

    def first_of_it() -> None:
        now = st.session_state[filter_key]
        first = _first([model_id for model_id, title in titles.items() if now in (title, _EVERY)], by_id, many or 1)
        st.session_state[key] = first if many else first[0]

    chosen = select(
        page,
        f"{name}_of",
        "Data set",
        [*options, _EVERY] if many else options,
        default=titles[default.id] if default else options[0],
        kind="list",
        help="Offers only the models of this data set.",
        on_change=first_of_it,
    )
    return [model_id for model_id, title in titles.items() if chosen in (title, _EVERY)]


def _first(offered: Sequence[str], by_id: Mapping[str, store.Artifact], count: int) -> list[str]:
    """The first models on offer that are of the data of the very first."""
    data = sources.model_spec(by_id[offered[0]]).data
    return [model_id for model_id in offered if sources.model_spec(by_id[model_id]).data == data][:count]


def _images_of(model: store.Artifact) -> str:
    """What models of the same images have in common: the name of the data set, or for a folder the model itself."""
    data = sources.model_spec(model).data
    return model.id if data.path is not None else data.dataset


def _fitting(scalar: bool | None, datasets: tuple[str, ...] | None, network: str | None = None) -> list[store.Artifact]:
    return [
        model
        for model in sources.models()
        if (scalar is None or sources.model_spec(model).scalar == scalar)
        and (datasets is None or sources.model_spec(model).data.dataset in datasets)
        and (network is None or _is_trained(model, network))
    ]


def _is_trained(model: store.Artifact, network: str) -> bool:
    spec = sources.model_spec(model)
    return isinstance(spec, specs.TrainSpec) and spec.network == network
