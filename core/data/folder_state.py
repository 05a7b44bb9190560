"""What an own folder of images holds at one moment: its fingerprints, its classes, which images are held out.

Imports neither torch nor an image library.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from core.data.folder import DataMissing
from core.data.folder_layout import Layout, cannot_be_read
from core.specs import DATASETS, DataSpec


def stamp_of_files(dataset: str, root: Path) -> str:
    """As `stamp`, of the files of a built-in data set; the same for ever where it needs none."""
    info, found = DATASETS[dataset], []
    if info.embedded:
        return ""
    with contextlib.suppress(OSError), os.scandir((root / info.mark).parent) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                facts = entry.stat()
                found.append((entry.name, facts.st_size, facts.st_mtime_ns, facts.st_ino))
    return repr(sorted(found))


def stamp(found: Layout) -> str:
    """A fingerprint of the listing: paths, sizes and times. Cheap; another value means that something may differ."""
    digest = hashlib.sha256(repr(found.notes).encode())
    for part, name, path in found.every():
        try:
            stat = path.stat()
            state = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        except OSError:  # a broken link: reading it says so
            state = (-1, 0, 0)
        digest.update(repr((part, name, str(path), *state)).encode())
    return digest.hexdigest()


def content(found: Layout) -> str:
    """SHA-256 of every image file with its part, its class and its name; reads all of them once per `stamp`."""
    return _content(_Listed(found), stamp(found))


class _Listed:
    """Carries a layout past the cache, which goes by the stamp alone."""

    def __init__(self, found: Layout) -> None:
        self.found = found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Listed)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=16)
def _content(listed: _Listed, stamped: str) -> str:
    digest = hashlib.sha256()
    unreadable = []
    for part, name, path in listed.found.every():
        try:
            if path.exists() and not path.is_file():  # a pipe would never end
                unreadable.append((path, "is no file"))
                continue
            with path.open("rb") as file:
                body = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            unreadable.append((path, f"cannot be opened ({error.strerror or error})"))
            continue
        where = unicodedata.normalize("NFC", "/".join(path.relative_to(listed.found.root).parts[1:]))
        digest.update(repr((part, name, where, body)).encode())
    if unreadable:
        raise DataMissing(cannot_be_read(listed.found.root, unreadable))
    return digest.hexdigest()


def class_names(found: Layout, spec: DataSpec) -> tuple[str, ...]:
    """Names of the classes that a spec takes from a folder. Raises ValueError for a class that it does not have."""
    if spec.classes is None:
        return found.classes
    if max(spec.classes) >= len(found.classes):
        raise ValueError(
            f"classes: {found.root.name} has the classes 0 to {len(found.classes) - 1}, got {max(spec.classes)}"
        )
    return tuple(found.classes[number] for number in spec.classes)


def held_out(items: Sequence[tuple[Path, int]], share: int, *, least: int, limit: int | None = None) -> list[int]:
    """Rows of a list of images that are held out: of each class one in `share`, but one of `least` images or more.

    Which ones hangs on the files' names alone, not on what else is there: an image that is added moves no other.
    `limit` is the most that are wanted in all; every class keeps at least one.
    """
    rows: dict[int, list[int]] = {}
    for row, (_, label) in enumerate(items):
        rows.setdefault(label, []).append(row)
    sizes = {label: max(1, len(of) // share) if len(of) >= least else 0 for label, of in rows.items()}
    whole = sum(sizes.values())
    if limit is not None and whole > limit:
        sizes = {label: min(size, max(1, size * limit // whole)) for label, size in sizes.items()}
    return sorted(
        row
        for label, of in rows.items()
        for row in sorted(of, key=lambda row: (_mark(items[row][0]), row))[: sizes[label]]
    )


def _mark(path: Path) -> str:
    """A number for a file's name that looks like chance and is the same everywhere."""
    return hashlib.sha256(unicodedata.normalize("NFC", path.name).encode(errors="surrogateescape")).hexdigest()
