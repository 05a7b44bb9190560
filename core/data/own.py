"""People's own images at one moment, in a folder or a `.npz` file: their classes, their content. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from core import access, paths
from core.data import folder_layout, folder_state, npz
from core.specs import DataSpec

PARTS = ("train", "validation", "test")


def is_own(spec: DataSpec) -> bool:
    """Whether these are people's own images, which may change, and no built-in data set."""
    return spec.path is not None


def is_there(spec: DataSpec) -> bool:
    """Whether the folder, or the file, exists."""
    if spec.path is None:
        return False
    path = paths.expanded(spec.path)
    return access.may_read(path) and (path.is_dir() if spec.dataset == "folder" else path.is_file())


def all_classes(spec: DataSpec) -> tuple[str, ...]:
    """Names of all classes there. Raises DataMissing for what cannot be used."""
    assert spec.path is not None
    if spec.dataset == "folder":
        return folder_layout.layout(spec.path).classes
    return npz.facts(spec.path).class_names


def class_names(spec: DataSpec) -> tuple[str, ...]:
    """Names of the classes that a spec takes.

    Raises:
        DataMissing: what cannot be used.
        ValueError: a class that is not there.
    """
    assert spec.path is not None
    if spec.dataset == "folder":
        return folder_state.class_names(folder_layout.layout(spec.path), spec)
    every = npz.facts(spec.path).class_names
    if spec.classes is None:
        return every
    if max(spec.classes) >= len(every):
        raise ValueError(
            f"classes: {Path(spec.path).name} has the classes 0 to {len(every) - 1}, got {max(spec.classes)}"
        )
    return tuple(every[number] for number in spec.classes)


def content(spec: DataSpec) -> str:
    """SHA-256 of what is there now. Raises DataMissing for what cannot be used."""
    assert spec.path is not None
    if spec.dataset == "folder":
        return folder_state.content(folder_layout.layout(spec.path))
    return npz.content(spec.path)


def sizes(spec: DataSpec) -> tuple[int, int, int] | None:
    """Images of the training, validation and test part; None where counting them would mean reading the classes."""
    assert spec.path is not None
    if spec.dataset == "folder":
        found = folder_layout.layout(spec.path)
        names = folder_state.class_names(found, spec)
        train, validation, test = (
            sum(found.classes[label] in names for _, label in found.files(part)) for part in PARTS
        )
        return train, validation, test
    if spec.classes is not None:
        return None
    every = npz.facts(spec.path).sizes
    return every["train"], every["validation"], every["test"]


def resolved(spec: DataSpec) -> DataSpec:
    """The same spec; of people's own images with the `content` that they have now.

    Raises DataMissing for what cannot be used, ValueError for a class that is not there.
    """
    if not is_own(spec) or spec.content is not None:
        return spec
    class_names(spec)
    return spec.model_copy(update={"content": content(spec)})


def check_trainable(spec: DataSpec) -> None:
    """Refuse images that are all test images. Raises ValueError; DataMissing for what cannot be used."""
    if not is_there(spec):
        return
    assert spec.path is not None
    if spec.dataset == "folder":
        if "train" not in folder_layout.layout(spec.path).parts:
            raise ValueError(
                f"data: expected images to train on, got folder {spec.path}, whose images are all test images: put the "
                "others into FOLDER/train/CLASS"
            )
    elif not npz.facts(spec.path).sizes["train"]:
        raise ValueError(
            f"data: expected images to train on, got file {spec.path}, whose images are all test images: save the "
            "others as x_train and y_train, and these as x_test and y_test"
        )


def changed(spec: DataSpec) -> str:
    """A sentence if what is there is no longer what a spec with `content` means; "" if it is, or is not there."""
    if spec.content is None or not is_there(spec) or content(spec) == spec.content:
        return ""
    if spec.dataset == "folder":
        return (
            f"the files in {spec.path} are no longer those that were asked for: ask again for the folder as it is now, "
            "or put it back as it was"
        )
    return (
        f"{spec.path} is no longer the file that was asked for: ask again for the file as it is now, or put it back as "
        "it was"
    )
