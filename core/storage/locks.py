"""Locks among all processes and threads, one file each; the kernel frees them when whoever holds them dies."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from core.storage import files

CHECKPOINTS = ".checkpoints"
"""The folder of a store where the checkpoints of unfinished runs lie (see `core.storage.checkpoint`)."""
POLL = 0.1
"""Seconds between two looks at a lock that another process or thread holds."""


@contextlib.contextmanager
def hold(name: str, root: Path, *, on_wait: Callable[[], None] | None = None, timeout: float = -1.0) -> Iterator[None]:
    """Hold the lock of this name alone, and remove what a dead holder left half written (see `remove_stale`).

    A thread that holds it already goes straight in.

    Args:
        name: of the lock's file, `root/.locks/<name>.lock`.
        root: the store's folder.
        on_wait: called again and again while another holds it; what it raises ends the wait.
        timeout: seconds to wait; negative for ever.

    Raises:
        filelock.Timeout: another holds it still.
    """
    (root / ".locks").mkdir(parents=True, exist_ok=True)
    # a singleton counts how often its thread has entered; each thread has a count, and a lock, of its own
    lock = filelock.FileLock(root.resolve() / ".locks" / f"{name}.lock", is_singleton=True)
    with lock.acquire(timeout=timeout, poll_interval=POLL, cancel_check=_asking(on_wait)):
        if lock.lock_counter == 1:
            _remove_stale(name, root)
        yield


def _asking(on_wait: Callable[[], None] | None) -> Callable[[], bool] | None:
    """`on_wait` as filelock asks it: it gives up by raising, and never by its answer."""
    if on_wait is None:
        return None

    def ask() -> bool:
        on_wait()
        return False

    return ask


def remove_stale(root: Path, older: float = 0.0) -> None:
    """Remove what killed writers left half written; what a living one writes stays.

    Args:
        root: the store's folder.
        older: only what was last changed so many seconds ago.
    """
    root = Path(root)
    names = {path.name.rpartition(".")[0] for path in (root / ".tmp").glob("*.*") if files.is_old(path, older)}
    halves = (path for path in (root / CHECKPOINTS).glob(f"*{_CHECKPOINT}.*") if files.is_old(path, older))
    for name in names | {path.name.rpartition(_CHECKPOINT)[0] for path in halves}:
        with contextlib.suppress(filelock.Timeout, OSError), hold(name, root, timeout=0.0):
            pass  # taking the lock has removed it


_CHECKPOINT = ".safetensors"


def _remove_stale(name: str, root: Path) -> None:
    # Only the holder of the artifact's lock writes it and its checkpoint, so whoever wrote these is dead.
    for folder in (root / ".tmp").glob(f"{name}.*"):
        shutil.rmtree(folder, ignore_errors=True)
    for half in (root / CHECKPOINTS).glob(f"{name}{_CHECKPOINT}.*"):
        with contextlib.suppress(OSError):
            half.unlink()
