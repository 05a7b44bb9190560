"""Files that wait to be imported, under the SHA-256 of their content. Nothing here looks into them.

    root/.uploads/<sha256>

Imports no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from core.storage import files

UPLOADS = ".uploads"
KEPT = 2 * 24 * 3600
"""Seconds that a file waits; one that was refused or given up goes when another comes later than that."""
LARGEST = 4 << 30
"""Bytes of a file at most."""
_CHUNK = 1 << 24


def keep(source: Path | bytes, root: Path) -> str:
    """Copy a file into the store's waiting room and return the SHA-256 of its content.

    Raises:
        ValueError: an empty file, one above `LARGEST`, or no file.
        OSError: it cannot be read, or the disk is full; nothing is left behind.
    """
    if isinstance(source, bytes):
        _check(len(source), "file")
    elif not source.is_file():
        kind = "a folder" if source.is_dir() else "not there"
        raise ValueError(f"file: expected a file, got {str(source)!r}, which is {kind}")
    else:
        _check(source.stat().st_size, source.name)
    folder = Path(root) / UPLOADS
    folder.mkdir(parents=True, exist_ok=True)
    _forget_old(folder)
    half = folder / f".{secrets.token_hex(8)}"
    digest = hashlib.sha256()
    try:
        with half.open("wb") as out:
            for chunk in _chunks(source):
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        files.move(half, folder / digest.hexdigest())
    finally:
        half.unlink(missing_ok=True)
    return digest.hexdigest()


def read(digest: str, root: Path) -> bytes:
    """The bytes of a waiting file. Raises ValueError where none waits, or its content changed."""
    try:
        data = where(digest, root).read_bytes()
    except FileNotFoundError:
        raise ValueError("digest: expected that of a file that waits to be imported; give the file again") from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError("digest: the file that waits to be imported was changed; give it again")
    return data


def where(digest: str, root: Path) -> Path:
    """Where a waiting file lies."""
    return Path(root) / UPLOADS / digest


def forget(digest: str, root: Path) -> None:
    """Drop a waiting file, if it is there."""
    with contextlib.suppress(OSError):
        where(digest, root).unlink()


def _forget_old(folder: Path) -> None:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # another process was quicker
                if entry.stat().st_mtime < time.time() - KEPT:
                    Path(entry.path).unlink()


def _check(size: int, name: str) -> None:
    if not 0 < size <= LARGEST:
        raise ValueError(f"{name}: expected a file of 1 to {LARGEST:,} bytes, got {size:,}")


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
