"""What is found damaged is set aside, never deleted; what is bundled stays where it is. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import filelock

from core.specs import load_task
from core.specs.tasks import MODELS
from core.storage import bundled, cards, files, locks
from core.storage.cards import Damage, OtherVersion

BODIES = ("weights.safetensors", "model.onnx")
"""The files, one of which holds a model's weights."""
SET_ASIDE = "set_aside"
"""The folder of a store that they are moved to."""
WHY = "why.txt"
"""The file that says why, in each."""

_FROM = "It was: "
_REPLACED = "It is not to be put back.\n"
_STAMP = re.compile(r"-\d{8}-\d{6}(-\d+)?$")
_T = TypeVar("_T")


class DamagedArtifact(RuntimeError):
    """An artifact that does not match its card. The message says what was found, and how to make it again."""


class UnreadableArtifact(DamagedArtifact):
    """An artifact of another version, which was left as it is. The message says what cannot be read."""


def or_set_aside(folder: Path, root: Path, read: Callable[[], _T]) -> _T:
    """`read()`; where it finds damage, look again alone (it may have been made again), then set the folder aside.

    Raises DamagedArtifact; UnreadableArtifact for one of another version. That, and what is bundled, is left as it is.
    """
    try:
        return read()
    except OtherVersion as error:
        raise unreadable(folder.name, str(error)) from None
    except Damage as error:
        found = str(error)
    if bundled.is_inside(folder):
        kind = "model" if folder.parent == bundled.root() else "result"
        raise DamagedArtifact(f"{folder.name}: {found}. It is a bundled {kind} and was left as it is.")
    again = "Request it again, and it is made again."
    try:
        with locks.hold(folder.name, root, timeout=1.0):
            try:
                return read()
            except Damage as error:
                found = str(error)
            if not folder.exists():
                raise DamagedArtifact(f"{folder.name} is no longer in the store. {again}")
            where = set_aside(folder, root, found)
    except filelock.Timeout:
        raise DamagedArtifact(f"{folder.name}: {found}. Another process is making it again; wait for it.") from None
    except OSError as error:
        raise DamagedArtifact(f"{folder.name}: {found}. It could not be set aside ({error}).") from error
    count = len(results_in(where))
    if count:
        many = "1 result on it was" if count == 1 else f"{count} results on it were"
        again += (
            f" {many} set aside with it, and will be back when a model of the same weights is; "
            "python -m core restore looks for what is whole."
        )
    raise DamagedArtifact(f"{folder.name}: {found}. It was set aside in {where}. {again}")


def unreadable(name: str, why: str) -> UnreadableArtifact:
    """The refusal of an artifact that this version cannot read."""
    return UnreadableArtifact(f"{name} cannot be read by this version: {why}. It was left as it is.")


def set_aside(path: Path, root: Path, reason: str, *, replaced: bool = False) -> Path:
    """Move a folder or file out of the store's way, with the reason in `why.txt`.

    Returns the folder where it is now, the folder itself or one around the file. Raises OSError.

    replaced: another one takes its place: it is not to be put back (`core.storage.restore`). A file never is.
    """
    replaced = replaced or not path.is_dir()
    stem = where = root / SET_ASIDE / f"{path.name}-{datetime.now():%Y%m%d-%H%M%S}"
    where.parent.mkdir(exist_ok=True)
    number = 1
    while where.exists():
        number += 1
        where = stem.with_name(f"{stem.name}-{number}")
    place = Path(os.path.relpath(path, root)).as_posix()
    if path.is_dir():
        files.move(path, where)
    else:
        where.mkdir()
        try:
            files.move(path, where / path.name)
        except OSError:
            where.rmdir()
            raise
    with contextlib.suppress(OSError):
        (where / WHY).write_text(f"Set aside: {reason}\n{_FROM}{place}\n{_REPLACED * replaced}", encoding="utf-8")
    return where


def aside(root: Path) -> list[Path]:
    """Every folder that was set aside, the newest first."""
    with contextlib.suppress(OSError):
        return sorted((folder for folder in (root / SET_ASIDE).iterdir() if folder.is_dir()), key=_when, reverse=True)
    return []


def _when(folder: Path) -> tuple[str, str]:
    return stamp(folder), folder.name


def stamp(folder: Path) -> str:
    """When a folder was set aside, so that later ones are greater; from its name."""
    found = _STAMP.search(folder.name)
    return found.group(0) if found else ""


def id_of(folder: Path) -> str:
    """The id of an artifact that was set aside, from its folder there."""
    return _STAMP.sub("", folder.name)


def is_replaced(folder: Path) -> bool:
    """Whether what was set aside is not to be put back."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (folder / WHY).read_text(encoding="utf-8").endswith(_REPLACED)
    return False


def model_of(folder: Path) -> str | None:
    """The id of the model that a result was on, from its folder among those set aside; "" for a model, None unknown."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in (folder / WHY).read_text(encoding="utf-8").splitlines():
            parts = line.removeprefix(_FROM).split("/")
            if line.startswith(_FROM) and all(map(files.is_id, parts)):
                return parts[0] if len(parts) > 1 else ""
    card = cards.raw(folder)  # set aside by a version that did not write the place
    if card.get("task") in MODELS:
        return ""
    try:
        return str(load_task(card).model)  # type: ignore[union-attr]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def results_in(folder: Path) -> list[Path]:
    """The folders of the results that were set aside with a model."""
    return cards.artifact_folders(folder / "results")


def weights_in(folder: Path) -> str:
    """The SHA-256 of a model's weights, or of its graph: by its card, or by the file where no card can be read."""
    by_name = cards.raw(folder).get("files")
    for name in BODIES:
        if isinstance(by_name, dict) and isinstance(by_name.get(name), str):
            return str(by_name[name])
    for name in BODIES:
        with contextlib.suppress(OSError):
            return cards.hash_of((folder / name).read_bytes())
    return ""


def same_weights(folder: Path, data: dict[str, bytes]) -> bool:
    """Whether a model in a folder has the weights that are among the files of another, by their names."""
    return weights_in(folder) in [cards.hash_of(data[name]) for name in BODIES if name in data]


def bring_results_back(model: Path, root: Path) -> int:
    """Move results that were set aside with a model of this id and these weights under it; returns how many.

    model: the folder of one that is in the store again. A result that is there already, made again, stays.
    """
    weights, moved = weights_in(model), 0
    for folder in aside(root):
        if not weights or id_of(folder) != model.name or weights_in(folder) != weights:
            continue
        for result in results_in(folder):
            (model / "results").mkdir(exist_ok=True)
            there = model / "results" / result.name
            with contextlib.suppress(OSError):  # another process was quicker
                if not there.exists():
                    files.move(result, there)
                    moved += 1
    return moved


def step_aside(folder: Path, root: Path, reason: str) -> str:
    """Set an artifact aside that is whole, but no answer; returns a sentence on where. What is bundled stays."""
    if bundled.is_inside(folder):
        return "It is bundled and was left as it is."
    with locks.hold(folder.name, Path(root)):
        return f"It was set aside in {set_aside(folder, Path(root), reason, replaced=True)}."
