"""Which images a model may be shown besides its own: of the same shape, and of the same classes in the same order.

A model answers with numbers of classes, so a number must mean the same class in both data sets. Where a data set has
more classes than the model, or in another order, the model's are taken by their names. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.data import folder_layout, folder_state
from core.data.folder_layout import listed
from core.specs import DATASETS, DataSpec

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Frame:
    """What a model takes: its name for messages, the data set that it was trained on, image shape and class names."""

    model: str
    own: DataSpec
    shape: Shape
    """Channels, height and width."""
    class_names: tuple[str, ...]


def frame(model_id: str, card: Mapping[str, Any]) -> Frame:
    """What a saved model takes, from its card."""
    channels, height, width = card["shape"]
    own = DataSpec.model_validate(card["spec"]["data"])
    return Frame(model_id, own, (channels, height, width), tuple(card["class_names"]))


def title(spec: DataSpec) -> str:
    """A data set as people read it, such as `MNIST, 4 against 9`."""
    if spec.classes is None:
        return _name(spec)
    names = DATASETS[spec.dataset].class_names if spec.dataset in DATASETS else ()
    chosen = [names[number] if names else f"class {number}" for number in spec.classes]
    return f"{_name(spec)}, {' against '.join(chosen) if len(chosen) == 2 else f'{len(chosen)} classes'}"


def _name(spec: DataSpec) -> str:
    return DATASETS[spec.dataset].title if spec.dataset in DATASETS else f"folder {spec.folder}"


def same(one: DataSpec, other: DataSpec) -> bool:
    """Whether two specs mean the same images and numbers of classes.

    Of a folder, whose files may have been changed in between, only where both say which content they mean, or `other`
    is from before that was kept.
    """
    if one.dataset != other.dataset:
        return False
    if one.dataset != "folder":
        return _numbers(one) == _numbers(other)
    if Path(one.folder or "").expanduser().resolve() != Path(other.folder or "").expanduser().resolve():
        return False
    settings = [(spec.image_size, spec.grey, spec.classes) for spec in (one, other)]
    return settings[0] == settings[1] and other.content in (None, one.content) and one.content is not None


def fitted(data: DataSpec, frame: Frame) -> DataSpec | None:
    """The same data set as a model is shown it, in the form that keys have: None for the model's own.

    Filled in are the model's classes by their names, of a folder also the size and colours of the model's images, and
    the content that it has now.

    Raises:
        ValueError: images of another shape, or classes that the data set does not have, or has in another order.
        DataMissing: a folder that cannot be used.
    """
    if data.dataset == "folder":
        data = _framed(data, frame)
        assert data.folder is not None
        every = folder_layout.layout(data.folder).classes
    else:
        every = DATASETS[data.dataset].class_names
        if DATASETS[data.dataset].shape != frame.shape:
            raise _other_shape(data, DATASETS[data.dataset].shape, frame)
    data = _with_classes(data, every, frame)
    if data.dataset == "folder":
        data = folder_state.resolved(data)
    return None if same(data, frame.own) else data


def fitting(frame: Frame) -> list[DataSpec]:
    """The built-in data sets that a model may be shown besides its own, in the form that keys have."""
    found = []
    for name, info in DATASETS.items():
        if info.shape == frame.shape and set(frame.class_names) <= set(info.class_names):
            made = fitted(DataSpec(dataset=name), frame)
            if made is not None:
                found.append(made)
    return found


def check_folder(data: DataSpec) -> None:
    """Refuse a folder that no longer holds what a spec with `content` means; one that is not there passes.

    Raises:
        ValueError: with the folder, and what can be done.
    """
    if data.folder is None or data.content is None or not Path(data.folder).expanduser().is_dir():
        return
    if folder_state.content(folder_layout.layout(data.folder)) != data.content:
        raise ValueError(
            f"data: the files in {data.folder} are no longer those that were asked for: ask again for the folder as it "
            "is now, or put it back as it was"
        )


def _numbers(spec: DataSpec) -> tuple[int, ...]:
    return spec.classes or tuple(range(len(DATASETS[spec.dataset].class_names)))


def _framed(data: DataSpec, frame: Frame) -> DataSpec:
    """A folder's images, read as the model's images are, unless the spec says how to read them."""
    channels, height, width = frame.shape
    if height != width or channels not in (1, 3):
        raise ValueError(
            f"data: {frame.model} takes images of shape {_by(frame.shape)}; those of a folder are square, grey or in "
            f"colour, got folder {data.folder}"
        )
    wanted = {"image_size": height, "grey": channels == 1}
    for name, value in wanted.items():
        if name in data.model_fields_set and getattr(data, name) != value:
            raise ValueError(
                f"data.{name}: expected {value} for {frame.model}, which takes images of shape {_by(frame.shape)}, got "
                f"{getattr(data, name)}; leave it out to read the folder so"
            )
    return data.model_copy(update=wanted)


def _with_classes(data: DataSpec, every: Sequence[str], frame: Frame) -> DataSpec:
    names = frame.class_names
    if data.classes is None:
        missing = [name for name in names if name not in every]
        if missing:
            raise ValueError(
                f"data: expected the classes of {frame.model} ({listed(list(names))}), got {_name(data)}, which has no "
                f"{listed(missing)}"
            )
        numbers = tuple(list(every).index(name) for name in names)
    else:
        if max(data.classes) >= len(every):
            raise ValueError(
                f"data.classes: {_name(data)} has the classes 0 to {len(every) - 1}, got {max(data.classes)}"
            )
        found = tuple(every[number] for number in data.classes)
        if found != names:
            raise ValueError(
                f"data.classes: expected the classes of {frame.model} in its order ({listed(list(names))}), got "
                f"{listed(list(found))}; leave the classes out to take them by name"
            )
        numbers = data.classes
    whole = numbers == tuple(range(len(every)))
    return data.model_copy(update={"classes": None if whole else numbers})


def _other_shape(data: DataSpec, shape: Shape, frame: Frame) -> ValueError:
    return ValueError(
        f"data: expected images of shape {_by(frame.shape)} for {frame.model}, got {title(data)}, whose images are "
        f"{_by(shape)}"
    )


def _by(shape: Shape) -> str:
    return "×".join(map(str, shape))
