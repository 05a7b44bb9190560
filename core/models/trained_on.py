"""Whether the images at hand are still those that a saved model was trained on. Imports no torch.

A model's card holds its class names in their order and the fingerprint of its images; the spec of one that was trained
on an own folder holds the SHA-256 of the folder's files (`content`). A model answers with numbers of classes, and
results name images by their numbers: where these mean something else by now, every result would be wrong without a
warning. They are compared at every use, of every data set; that a built-in set is what it comes with is looked at where
it is loaded (`core.data.sets`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from core.data import own, shown
from core.data.folder import DataMissing
from core.data.folder_layout import listed
from core.specs import DATASETS, DataSpec, ModelSpec, ModelTask, TrainSpec, TransferSpec
from core.storage import store

_PARTS = ("train", "validation", "test")


def spec_of(model: store.Artifact) -> DataSpec:
    """The data set that a saved model was trained on, as its spec names it."""
    spec = model.spec()
    assert isinstance(spec, ModelSpec)
    return spec.data


def models_of(task: ModelTask) -> tuple[str, ...]:
    """Ids of the models that a task shows images to."""
    return task.models if isinstance(task, TransferSpec) else (task.model,)


def check(
    model: store.Artifact, class_names: Sequence[str], fingerprint: str, sizes: tuple[int, int, int] | None = None
) -> None:
    """Compare a loaded data set with what a model was trained on.

    Other classes are refused, and other images.

    Args:
        model: a saved model.
        class_names: of the data set at hand, in their order.
        fingerprint: of its images and labels.
        sizes: its training, validation and test images, for the message.

    Raises:
        ValueError: with what differs, and how to mend it.
    """
    data, spec = model.card.get("data", {}), spec_of(model)
    if text := _other_classes(model, class_names):
        raise ValueError(text)
    if data.get("fingerprint") in (None, fingerprint):
        return
    if not own.is_own(spec):
        raise ValueError(
            f"model: {model.id} {_how(model)} other images or labels than {data.get('title', spec.dataset)} holds on "
            f"this machine (fingerprint {data['fingerprint']:.8}, now {fingerprint:.8}), so that no figure on it would "
            f"be right; put the files back as they were, or move {model.folder} away and {_verb(model)} again."
        )
    if spec.content is None or own.content(spec) != spec.content:  # else the same files, decoded by another version
        raise ValueError(_other_images(model, sizes))


def check_own(model: store.Artifact) -> None:
    """As `check`, without reading an image: by the names and files of the own folder that a model was trained on.

    Other data sets, and a folder that is not there, pass: what was found on them before stays true.

    Raises:
        ValueError: with what differs, and how to mend it.
    """
    if text := changed(model):
        raise ValueError(text)


def changed(model: store.Artifact) -> str:
    """What differs between an own folder and what a model was trained on, and how to mend it; "" where nothing does."""
    spec = spec_of(model)
    if not own.is_there(spec):
        return ""
    try:
        if text := _other_classes(model, own.class_names(spec)):
            return text
        sizes = own.sizes(spec)
        if spec.content is None:  # trained before the content was kept: compare what is known without reading an image
            then = [model.card.get("data", {}).get(f"{part}_size") for part in _PARTS]
            other = sizes is not None and None not in then and sum(sizes) != sum(then)
        else:
            other = own.content(spec) != spec.content
        if other:
            return _other_images(model, sizes)
    except (DataMissing, ValueError) as error:
        why = str(error).removeprefix("folder: ").removeprefix("file: ")
        return f"model: the {spec.dataset} that {model.id} {_how(model)} has changed: {why}. {_again(model)}"
    return ""


def of_other_images(found: store.Artifact, root: Path) -> str:
    """Why what was stored is no answer: it was made on other images or labels than are meant; "" where it was not.

    By cards alone: the fingerprint of a built-in set that is known, else that of the model that a result is on. Of
    people's own images it is their content that is compared.
    """
    spec = found.spec()
    fingerprint = found.card.get("data", {}).get("fingerprint")
    data = spec.data or spec_of(store.open_model(models_of(spec)[0], root))  # type: ignore[arg-type]
    if fingerprint is None or data.dataset not in DATASETS:
        return ""
    wanted = DATASETS[data.dataset].fingerprint if data.classes is None else ""
    if not wanted and isinstance(spec, ModelTask) and spec.data is None:
        wanted = store.open_model(models_of(spec)[0], root).card.get("data", {}).get("fingerprint") or ""
    if wanted in ("", fingerprint):
        return ""
    return (
        f"{found.id} was made on other images or labels than {shown.title(data)} has (fingerprint {fingerprint:.8}, "
        f"expected {wanted:.8})"
    )


def earlier(spec: TrainSpec, root: Path) -> str:
    """A sentence on the model that was trained with the same settings before the folder changed; "" where none was."""
    if spec.data.content is None:
        return ""
    for model in store.models(root):
        with contextlib.suppress(ValueError):  # of another version, whose settings this one does not know
            other = model.spec()
            if not isinstance(other, TrainSpec):
                continue
            if other.data.content != spec.data.content and _without_content(other) == _without_content(spec):
                return (
                    f"{model.id} was trained with the same settings before the folder changed. It is kept; "
                    f"{spec.artifact_name()} is another model."
                )
    return ""


def _without_content(spec: TrainSpec) -> TrainSpec:
    return spec.model_copy(update={"data": spec.data.model_copy(update={"content": None})})


def _again(model: store.Artifact) -> str:
    """What can be done where the images of a model are others by now."""
    what, verb = spec_of(model).dataset, _verb(model)
    what = what if own.is_own(spec_of(model)) else "data set"
    return (
        f"To use this model, put the {what} back as it was. To use the {what} as it is now, {verb} again: that makes "
        "another model and keeps this one."
    )


def _verb(model: store.Artifact) -> str:
    return "train" if isinstance(model.spec(), TrainSpec) else "import"


def _how(model: store.Artifact) -> str:
    return "was trained on" if isinstance(model.spec(), TrainSpec) else "was imported for"


def _other_classes(model: store.Artifact, now: Sequence[str]) -> str:
    then = model.card["class_names"]
    if list(now) == list(then):
        return ""
    gone, new = [name for name in then if name not in now], [name for name in now if name not in then]
    parts = [
        f"{listed([repr(name) for name in names])} {'is' if len(names) == 1 else 'are'} {word}"
        for names, word in ((gone, "gone"), (new, "new"))
        if names
    ]
    where = spec_of(model).path or f"data set {spec_of(model).dataset}"
    return (
        f"model: {model.id} {_how(model)} other classes than {where} has now: "
        f"{', '.join(parts) or 'their order is another'}. It {_how(model)} {len(then)} classes "
        f"({listed(list(then))}); now there are {len(now)} ({listed(list(now))}). {_again(model)}"
    )


def _other_images(model: store.Artifact, sizes: tuple[int, int, int] | None) -> str:
    data, spec = model.card["data"], spec_of(model)
    then = tuple(data.get(f"{name}_size") for name in _PARTS)
    counts = ""
    if sizes is not None and None not in then and sum(sizes) != sum(size or 0 for size in then):
        counts = f" There were {sum(size or 0 for size in then):,} images, now there are {sum(sizes):,}."
    read = " (or an earlier version of this program decoded them differently)" if spec.content is None else ""
    how = "files were added, removed, renamed, moved or changed" if spec.dataset == "folder" else "it was changed"
    return (
        f"model: {model.id} {_how(model)} other images than {spec.path} holds now: {how} since{read}.{counts} The "
        f"classes have the same names. {_again(model)}"
    )
