"""What is found damaged is set aside, never deleted; what is bundled stays where it is. Imports no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import filelock

from core.storage import bundled, files, locks
from core.storage.cards import Damage

SET_ASIDE = "set_aside"
"""The folder of a store that they are moved to."""

_T = TypeVar("_T")


class DamagedArtifact(RuntimeError):
    """An artifact that does not match its card. The message says what was found, and how to make it again."""


def or_set_aside(folder: Path, root: Path, read: Callable[[], _T]) -> _T:
    """`read()`; where it finds damage, look again alone (it may have been made again), then set the folder aside.

    Raises DamagedArtifact. What is bundled is left as it is.
    """
    try:
        return read()
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
    raise DamagedArtifact(f"{folder.name}: {found}. It was set aside in {where}. {again}")


def set_aside(path: Path, root: Path, reason: str) -> Path:
    """Move a folder or file out of the store's way, with the reason in `why.txt`.

    Returns the folder where it is now, the folder itself or one around the file. Raises OSError.
    """
    stem = where = root / SET_ASIDE / f"{path.name}-{datetime.now():%Y%m%d-%H%M%S}"
    where.parent.mkdir(exist_ok=True)
    number = 1
    while where.exists():
        number += 1
        where = stem.with_name(f"{stem.name}-{number}")
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
        (where / "why.txt").write_text(f"Set aside: {reason}\n", encoding="utf-8")
    return where
