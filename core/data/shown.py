"""Which images a model may be shown besides its own: of the same shape, and of the same classes in the same order.

A model answers with numbers of classes, so a number must mean the same class in both data sets. Where a data set has
more classes than the model, or in another order, the model's are taken by their names. Imports no torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core import paths
from core.data import npz, own
from core.data.folder import DataMissing
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
    return DATASETS[spec.dataset].title if spec.dataset in DATASETS else f"{spec.dataset} {spec.path}"


def same(one: DataSpec, other: DataSpec) -> bool:
    """Whether two specs mean the same images and numbers of classes.

    Of people's own images, which may have been changed in between, only where both say which content they mean, or
    `other` is from before that was kept.
    """
    if one.dataset != other.dataset:
        return False
    if one.path is None or other.path is None:
        return _numbers(one) == _numbers(other)
    if paths.expanded(one.path).resolve() != paths.expanded(other.path).resolve():
        return False
    settings = [(spec.image_size, spec.grey, spec.classes) for spec in (one, other)]
    return settings[0] == settings[1] and other.content in (None, one.content) and one.content is not None


def fitted(data: DataSpec, frame: Frame) -> DataSpec | None:
    """The same data set as a model is shown it, in the form that keys have: None for the model's own.

    Filled in are the model's classes by their names, of a folder also the size and colours of the model's images, and
    of people's own images the content that they have now. A file that names no classes is taken by their numbers where
    the model's names are no numbers: see `by_number`.

    Raises:
        ValueError: images of another shape, or classes that the data set does not have, or has in another order.
        DataMissing: people's own images that cannot be used.
    """
    if data.dataset == "folder":
        data = _framed(data, frame)
        every = own.all_classes(data)
    elif data.file is not None:
        facts = npz.facts(data.file)
        every = facts.class_names
        if facts.shape != frame.shape:
            raise _other_shape(data, facts.shape, frame)
        if by_number(data, frame.class_names):
            return _numbered(own.resolved(data), frame)
    else:
        every = DATASETS[data.dataset].class_names
        if DATASETS[data.dataset].shape != frame.shape:
            raise _other_shape(data, DATASETS[data.dataset].shape, frame)
    data = own.resolved(_with_classes(data, every, frame))
    return None if same(data, frame.own) else data


def by_number(data: DataSpec, class_names: Sequence[str]) -> bool:
    """Whether a model with these classes takes the classes of a data set by their numbers, not by their names.

    Only those of a file that names none, and only where the model's names are not among the numbers either.
    """
    if data.file is None:
        return False
    facts = npz.facts(data.file)
    return not facts.named and not set(class_names) <= set(facts.class_names)


def note(data: DataSpec | None, class_names: Sequence[str]) -> str:
    """A sentence on images whose classes a model takes by their numbers; "" for others, or where they are gone."""
    with contextlib.suppress(DataMissing):
        if data is not None and by_number(data, class_names) and not _are_numbers(class_names):
            first = ", ".join(f"{number} = {name}" for number, name in enumerate(class_names[:3]))
            return (
                f"{data.file} names no classes: its numbers count as the model's ({first}, …). Add class_names to the "
                "file to have them compared by name."
            )
    return ""


def _are_numbers(class_names: Sequence[str]) -> bool:
    """Whether the classes are called by their numbers, so that names and numbers say the same."""
    return list(class_names) == [str(number) for number in range(len(class_names))]


def _numbered(data: DataSpec, frame: Frame) -> DataSpec | None:
    """The classes of a file by their numbers: those of the model that come first, or all of them."""
    count = len(own.class_names(data))
    if count > len(frame.class_names):
        raise ValueError(
            f"data: expected classes from 0 to {len(frame.class_names) - 1} for {frame.model} "
            f"({listed(list(frame.class_names))}), got {title(data)}, whose classes go to {count - 1} and have no names"
        )
    if data.classes is not None and data.classes != tuple(range(count)):
        raise ValueError(
            "data.classes: expected none for a file that names no classes, got "
            f"{' '.join(map(str, data.classes))}; add class_names to the file to choose some of them"
        )
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


def check_own(data: DataSpec) -> None:
    """Refuse people's own images that are no longer what a spec with `content` means; what is not there passes.

    Raises:
        ValueError: with where they lie, and what can be done.
    """
    if text := own.changed(data):
        raise ValueError(f"data: {text}")


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
