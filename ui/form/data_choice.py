"""The choice of the images that a model is shown: its own data set's, or others of the same shape and classes."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core import specs
from core.data import shown
from core.storage import store
from ui.app import sources
from ui.form import missing
from ui.form.select import select
from ui.text import literal

TASKS = ("radii", "evaluate", "certify", "sweep")
"""Results that say something of a model without its images."""
_AS = {"digits28": "UCI digits in MNIST's frame"}
"""How images are called where they stand in for others; elsewhere by their title."""


def choose(page: str, *models: store.Artifact, stored: bool = False) -> specs.DataSpec | None:
    """Draw the choice where there is one, and return the `data` that the page's tasks take; None: the models' own.

    The own images are the default. Where they are not on this machine, others stand in for them, if some that fit are
    there; a line says so, with a button that fetches the own ones. The choice (key `<page>_data`) is in the address.
    Of models of several data sets, all are shown the same images. Call it once on a page, after the models are chosen.
    With `stored`, results are enough: own images that are not here can be chosen where results on them are stored.
    """
    if not models:
        return None
    fitting = common(*models)
    owns = [sources.model_spec(model).data for model in models]
    measured = [own for model, own in zip(models, owns, strict=True) if stored and sources.results(model.id, *TASKS)]
    here = [data for data in fitting if sources.present(data.dataset) or data in measured]
    if not here:
        return None
    default = _default(here, owns)
    chosen = default
    if len(here) > 1:
        by_name = {data.dataset: data for data in here}
        name = select(
            page,
            "data",
            "Images",
            list(by_name),
            text=lambda one: sources.data_title(by_name[one]),
            default=default.dataset,
            kind="list",
            help="Test images that the model is shown. It can be shown images of any data set with the shape and the "
            "classes of its own. Results on different images are kept apart.",
        )
        chosen = by_name[name]
    absent = next((own for own in owns if not sources.present(own.dataset)), None)
    if absent is not None:
        _stand_in(page, absent, chosen)
    try:
        found = {store.shown_data(model, chosen) for model in models}
    except ValueError:
        return None  # the folder of a model has changed: `missing.note` says so
    return None if found == {None} else chosen


def among_settings(page: str, model: store.Artifact) -> tuple[specs.DataSpec | None, DeltaGenerator]:
    """Draw the expander `More settings` with the choice of images in it, as `choose`; returns both.

    Where the model's own images are not here, the line that says so stands above the expander.
    """
    note, more_settings = st.container(), st.expander("More settings", icon=":material/tune:")
    with more_settings if sources.present(sources.model_spec(model).data.dataset) else note:
        return choose(page, model), more_settings


def common(*models: store.Artifact) -> list[specs.DataSpec]:
    """The data sets whose images all of these models can be shown, the first model's own before the others."""
    frames = [shown.frame(model.id, model.card) for model in models]
    first = frames[0]
    if any((one.shape, one.class_names) != (first.shape, first.class_names) for one in frames):
        return []
    owns = list(dict.fromkeys(one.own for one in frames))
    if len(owns) > 1:  # people's own images are shown to their own model alone
        owns = [own for own in owns if own.path is None]
    others = [data for data in shown.fitting(first) if not any(shown.same(data, own) for own in owns)]
    return owns + others


def _default(here: list[specs.DataSpec], owns: list[specs.DataSpec]) -> specs.DataSpec:
    """Of the models' own data sets the one with most test images, where one is here; else the first that is."""
    own = [data for data in here if data in owns]
    return max(own, key=lambda data: _size(data)) if own else here[0]


def _size(data: specs.DataSpec) -> int:
    return specs.DATASETS[data.dataset].test_size if data.dataset in specs.DATASETS else 0


def _stand_in(page: str, own: specs.DataSpec, chosen: specs.DataSpec) -> None:
    """Say that other images are shown than the model's own, and offer to fetch those."""
    shown_as = _AS.get(chosen.dataset, literal(shown.title(chosen)))
    title = specs.DATASETS[own.dataset].title
    text = f"the images are {shown_as}." if chosen != own else "these are stored results. To run more, fetch it."
    missing.offer(page, own.dataset, f"{title} is not on this machine: {text}")
