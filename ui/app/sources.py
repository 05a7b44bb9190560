"""Cached access to the store, the data and the networks. What needs torch imports it when it is called."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from core import specs
from core.data import folder, shown
from core.models import reference
from core.storage import bundled, store

if TYPE_CHECKING:
    from core.data.sets import Dataset
    from core.models.saved import SavedModel
    from core.networks.table import Layer


def present(dataset: str) -> bool:
    """Whether a data set can be used without a download."""
    return dataset == "folder" or folder.is_present(dataset)


def artifact(spec: specs.Task) -> store.Artifact | None:
    """The stored artifact of this spec, or None; a damaged one is set aside with a warning on the page."""
    try:
        return store.find(spec, store.default_root())
    except store.DamagedArtifact as error:
        st.warning(str(error), icon=":material/warning:")
        return None


def models() -> list[store.Artifact]:
    """All saved models, only their cards: the user's, newest first, then the bundled models in their own order.

    Those that can be shown no images on this machine come last.
    """
    places = {name: place for place, name in enumerate(reference.REFERENCES, start=1)}

    def place(model: store.Artifact) -> tuple[bool, int]:
        name = model.card.get("reference", {}).get("name")
        return not has_images(model), places.get(name, len(places)) if name else 0

    return sorted(store.models(store.default_root()), key=place)


def results(model_id: str, *tasks: str, data: specs.DataSpec | None = None) -> list[store.Artifact]:
    """The stored results of a model on the images of `data` (None: its own), as `store.results`.

    Cards are read again only after a change in the folder.
    """
    root = store.default_root()
    wanted = None if data is None else store.shown_data(store.open_model(model_id, root), data)
    try:
        with os.scandir(root / model_id / "results") as entries:
            stamp = tuple(sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries))
    except OSError:
        stamp = ()
    return _results(model_id, root, tasks, wanted, stamp)


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


def model_spec(model: store.Artifact) -> specs.TrainSpec:
    """The spec that a saved model was trained from."""
    spec = model.spec()
    assert isinstance(spec, specs.TrainSpec)
    return spec


def data_title(spec: specs.DataSpec) -> str:
    """A data set as people read it, such as `MNIST, 4 against 9`."""
    title = specs.DATASETS[spec.dataset].title if spec.dataset in specs.DATASETS else f"Folder {spec.folder}"
    if spec.classes is None:
        return title
    if len(spec.classes) > 2:
        return f"{title}, {len(spec.classes)} classes"
    names = specs.DATASETS[spec.dataset].class_names if spec.dataset in specs.DATASETS else None
    return f"{title}, {' against '.join(names[c] if names else f'class {c}' for c in spec.classes)}"


def class_names(spec: specs.DataSpec) -> tuple[str, ...]:
    """The names of the classes; a folder is loaded for them, a built-in data set is not."""
    if spec.dataset not in specs.DATASETS:
        return dataset(spec).class_names
    names = specs.DATASETS[spec.dataset].class_names
    return names if spec.classes is None else tuple(names[c] for c in spec.classes)


def dataset(spec: specs.DataSpec) -> Dataset:
    """A data set in memory, as it is now. Raises `core.data.folder.DataMissing` where it is absent."""
    from core.data import sets

    return sets.load(spec)  # it keeps what it read, and looks whether a folder has changed


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


def as_it_is(spec: specs.TrainSpec) -> specs.TrainSpec | None:
    """The spec of a training on a folder as it is now; None, with an error on the page, if it cannot be used."""
    try:
        with st.spinner("Looking through the folder …"):
            found = store.resolve(spec, store.default_root())
    except (folder.DataMissing, ValueError, OSError) as error:
        st.error(str(error).removeprefix("folder: "), icon=":material/folder_off:")
        return None
    assert isinstance(found, specs.TrainSpec)
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
    from core.jobs import running

    return running.default_device() == "cuda"


def expected_seconds(spec: specs.TrainSpec) -> float | None:
    """Expected training time on this machine in seconds, by a short calibration; None for a folder."""
    one = _seconds_an_epoch(spec.model_copy(update={"epochs": 1, "seed": 0}))
    return None if one is None else one * spec.epochs


@st.cache_data(max_entries=64, show_spinner=False)
def _seconds_an_epoch(spec: specs.TrainSpec) -> float | None:
    from core.training.estimate import estimate_seconds

    return estimate_seconds(spec, device="cuda" if on_gpu() else "cpu")
