"""Cached access to the store, the data and the networks. What needs torch imports it when it is called."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import streamlit as st

from core import specs
from core.data import folder, shown
from core.models import reference
from core.storage import bundled, store
from ui.text import literal, sentence_case

if TYPE_CHECKING:
    from core.data.sets import Dataset
    from core.models.saved import SavedModel
    from core.networks.table import Layer
    from core.progress import Progress


M = TypeVar("M", specs.TrainSpec, specs.ImportSpec)

_ORDER = ("mnist", "digits28", "fashion_mnist", "cifar10")
"""Data sets in the order in which their bundled models are offered."""


def start_data() -> str:
    """The data set that pages start with: MNIST where it is on this machine, else the embedded digits in its frame."""
    return "mnist" if present("mnist") else "digits28"


def present(dataset: str) -> bool:
    """Whether a data set can be used without a download."""
    return dataset in specs.OWN or folder.is_present(dataset)


def artifact(spec: specs.Task) -> store.Artifact | None:
    """The stored artifact of this spec, or None; a damaged one is set aside with a warning on the page."""
    try:
        return store.find(spec, store.default_root())
    except store.DamagedArtifact as error:
        st.warning(literal(error), icon=":material/warning:")
        return None


def models() -> list[store.Artifact]:
    """All saved models, only their cards: the user's, newest first, then the bundled models in their own order.

    Of the bundled ones those come first whose own images are on this machine, MNIST before the embedded digits, then
    those that are shown others, then the digits of 8 by 8 pixels; models that can be shown no images come last.
    """
    places = {name: place for place, name in enumerate(reference.REFERENCES, start=1)}

    def place(model: store.Artifact) -> tuple[int, int, int]:
        name, data = model.card.get("reference", {}).get("name"), model_spec(model).data.dataset
        where = places.get(name, len(places)) if name else 0
        if not has_images(model):
            return 4, 0, where
        if not name:
            return 0, 0, 0
        usual = _ORDER.index(data) if data in _ORDER else len(_ORDER)
        return 3 if data == "digits" else 1 if present(data) else 2, usual, where

    return sorted(store.models(store.default_root()), key=place)


def results(model_id: str, *tasks: str, data: specs.DataSpec | None = None) -> list[store.Artifact]:
    """The stored results of a model on the images of `data` (None: its own), as `store.results`.

    Cards are read again only after a change in the folder.
    """
    root = store.default_root()
    wanted = None if data is None else store.shown_data(store.open_model(model_id, root), data)
    stamp = [("", 0)]
    for place in (root / model_id / "results", bundled.results(model_id)):
        with contextlib.suppress(OSError), os.scandir(place or "") as entries:
            stamp += sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries)
    with contextlib.suppress(OSError):  # another model under this id has other results
        stamp[0] = (model_id, (root / model_id / "card.json").stat().st_mtime_ns)
    return _results(model_id, root, tasks, wanted, tuple(stamp))


@st.cache_resource(max_entries=128, show_spinner=False)
def _results(
    model_id: str, root: Path, tasks: tuple[str, ...], data: specs.DataSpec | None, stamp: tuple[tuple[str, int], ...]
) -> list[store.Artifact]:
    return store.results(model_id, root, *tasks, data=data)


def references() -> list[tuple[reference.Reference, store.Artifact]]:
    """The bundled reference models in their own order, only their cards."""
    return [(one, model) for one, model in reference.saved(store.default_root()) if bundled.is_copy(model.card)]


def counterpart(spec: specs.TrainSpec) -> store.Artifact | None:
    """The reference model of the same kind as what `spec` trains, or None."""
    return reference.counterpart(spec, store.default_root())


def model_spec(model: store.Artifact) -> specs.ModelSpec:
    """What a saved model was made from: a training, or the import of a file."""
    spec = model.spec()
    assert isinstance(spec, specs.ModelSpec)
    return spec


def data_title(spec: specs.DataSpec) -> str:
    """A data set as people read it, such as `MNIST, 4 against 9`."""
    return sentence_case(shown.title(spec))


def class_names(spec: specs.DataSpec) -> tuple[str, ...]:
    """The names of the classes; a folder is loaded for them, a built-in data set is not."""
    if spec.dataset not in specs.DATASETS:
        return dataset(spec).class_names
    names = specs.DATASETS[spec.dataset].class_names
    return names if spec.classes is None else tuple(names[c] for c in spec.classes)


def dataset(spec: specs.DataSpec, on_progress: Progress | None = None) -> Dataset:
    """A data set in memory, as it is now; `on_progress` is told the bytes of a download.

    Raises `core.data.folder.DataMissing` where it is absent.
    """
    from core.data import sets

    return sets.load(spec, on_progress=on_progress)  # it keeps what it read, and looks whether a folder has changed


def model_data(model: store.Artifact, data: specs.DataSpec | None = None) -> Dataset:
    """The images of `data` (None: those that the model was trained on), as the model is shown them.

    Raises DataMissing, or ValueError if the images have changed since or do not fit the model.
    """
    from core.models import saved

    return saved.data_of(model, data)


def has_images(model: store.Artifact) -> bool:
    """Whether a model can be shown images without a download: its own, or a built-in data set that fits."""
    if present(model_spec(model).data.dataset):
        return True
    return any(present(data.dataset) for data in shown.fitting(shown.frame(model.id, model.card)))


def as_it_is(spec: M) -> M | None:
    """The spec of a training, or an import, on own images as they are now.

    None, with an error on the page, if they cannot be used.
    """
    try:
        with st.spinner(f"Looking through the {spec.data.dataset} …"):
            found = store.resolve(spec, store.default_root())
    except (folder.DataMissing, ValueError, OSError) as error:
        st.error(literal(str(error).removeprefix("folder: ").removeprefix("file: ")), icon=":material/folder_off:")
        return None
    assert isinstance(found, type(spec))
    return found


@st.cache_resource(max_entries=8, show_spinner="Loading the model …")
def saved_model(model_id: str, root: Path, threshold: float = 0.0) -> SavedModel:
    """A saved model on the CPU, in eval mode, frozen. It is shared by all visitors: never change it."""
    from core.models import saved

    return saved.load_model(model_id, root, threshold=threshold)


def layers_of(spec: specs.TrainSpec) -> list[Layer]:
    """The layer table of a network before it is trained; empty for a folder, whose classes are not known yet."""
    if spec.data.dataset not in specs.DATASETS:
        return []
    return _layers(spec.network, specs.DATASETS[spec.data.dataset].shape, len(class_names(spec.data)), spec.scalar)


@st.cache_data(max_entries=32, show_spinner=False)
def _layers(network: str, shape: tuple[int, int, int], classes: int, scalar: bool) -> list[Layer]:
    from core.networks.catalogue import build
    from core.networks.table import layer_table

    return layer_table(build(network, shape, classes, scalar=scalar), shape)


def on_gpu() -> bool:
    """Whether jobs run on a GPU. Imports torch."""
    from core.jobs import devices

    return devices.settled(None, store.default_root()) == "cuda"


def expected_seconds(spec: specs.TrainSpec) -> float | None:
    """Expected training time on this machine in seconds, by a short calibration; None for a folder."""
    one = _seconds_an_epoch(spec.model_copy(update={"epochs": 1, "seed": 0}))
    return None if one is None else one * spec.epochs


@st.cache_data(max_entries=64, show_spinner=False)
def _seconds_an_epoch(spec: specs.TrainSpec) -> float | None:
    from core.training.estimate import estimate_seconds

    return estimate_seconds(spec, device="cuda" if on_gpu() else "cpu")
