"""Locks among all processes and threads, one file each; the kernel frees them when whoever holds them dies.

Where the disk has no `flock`, a lease beside the file takes its place (see `core.storage.leases`). A machine that has
none leaves a mark in the folder of the lock's store; those that have it take a lease as well from then on.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from core.storage import files, leases

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CHECKPOINTS = ".checkpoints"
"""The folder of a store where the checkpoints of unfinished runs lie (see `core.storage.checkpoint`)."""
_CHECKPOINT = ".safetensors"  # how a checkpoint's name ends
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
    with held(root.resolve() / ".locks" / f"{name}.lock", on_wait=on_wait, timeout=timeout) as first:
        if first:
            _remove_stale(name, root)
        yield


@contextlib.contextmanager
def held(path: Path, *, on_wait: Callable[[], None] | None = None, timeout: float = -1.0) -> Iterator[bool]:
    """Hold the lock that a file stands for; the folder is there. See `hold`.

    Yields:
        Whether this thread did not hold it already.
    """
    for _ in files.PAUSES:
        if not _has_flock(path.parent):
            break
        try:
            # a singleton counts how often its thread has entered; each thread has a count, and a lock, of its own
            lock = filelock.FileLock(path, is_singleton=True)
            taken = lock.acquire(timeout=timeout, poll_interval=POLL, cancel_check=_asking(on_wait))
        except OSError as error:
            if isinstance(error, filelock.Timeout) or error.errno not in NO_FLOCK:
                raise
            _flocks.clear()  # look again: one error does not mean that there is none
        else:
            with taken, _leased(path, on_wait, timeout) if _some_lack_it(path) else contextlib.nullcontext():
                yield lock.lock_counter == 1
            return
    _say_that_we_lack_it(path)
    with _leased(path, on_wait, timeout) as first:
        yield first


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock that a file stands for; a look that takes it from nobody."""
    if leases.is_held(_lease(path)):
        return True
    if not path.exists():
        return False
    if fcntl is None:
        probe = filelock.FileLock(path)
        try:
            probe.acquire(blocking=False)
        except filelock.Timeout:
            return True
        probe.release()
        return False
    with path.open("rb") as file:
        # a shared lock: several readers that look at once do not take each other for a worker
        return _try_flock(file.fileno()) == "held"


NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EIO)
"""Errors that say that the disk has no `flock`: at once, or with EIO when it is said again and again."""

LACKING = "no-flock"
"""Name of the file that says so to the other machines."""

_flocks: dict[int, bool] = {}  # by device: whether it has them
_mine = threading.local()  # leases of this thread: by path the lease, and how often it was entered


def _has_flock(folder: Path) -> bool:
    if fcntl is None:
        return True  # filelock has another way there
    device = folder.stat().st_dev
    if device not in _flocks:
        with tempfile.TemporaryFile(dir=folder) as probe:
            _flocks[device] = _try_flock(probe.fileno()) != "none"
    return _flocks[device]


def _mark(path: Path) -> Path:
    """Where it stands that some machine that uses this lock's store has no `flock`."""
    stores = (folder / ".locks" for folder in path.parents if (folder / ".locks").is_dir())
    return next(stores, path.parent) / LACKING


def _some_lack_it(path: Path) -> bool:
    return fcntl is not None and _mark(path).exists()


def _say_that_we_lack_it(path: Path) -> None:
    mark = _mark(path)
    if not mark.exists():
        mark.touch()


def _try_flock(descriptor: int) -> str:
    """Whether a lock is "free" or "held", or there is "none" on this disk."""
    for pause in (*files.PAUSES, None):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return "free"
        except OSError as error:
            if error.errno not in NO_FLOCK:
                return "held"
            if pause is None or error.errno != errno.EIO:
                return "none"
            time.sleep(pause)
    raise AssertionError


def _lease(path: Path) -> Path:
    return path.with_name(f"{path.name}.lease")


@contextlib.contextmanager
def _leased(path: Path, on_wait: Callable[[], None] | None, timeout: float) -> Iterator[bool]:
    """As `held`, by a lease."""
    mine: dict[Path, int] = _mine.__dict__.setdefault("counts", {})
    if path in mine:
        mine[path] += 1
        try:
            yield False
        finally:
            mine[path] -= 1
        return
    lease, end = leases.Lease(_lease(path)), time.monotonic() + timeout
    while not lease.take():
        if timeout >= 0 and time.monotonic() >= end:
            raise filelock.Timeout(str(path))
        if on_wait is not None:
            on_wait()
        time.sleep(POLL)
    mine[path] = 1
    try:
        yield True
    finally:
        del mine[path]
        lease.release()


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


def _remove_stale(name: str, root: Path) -> None:
    # Only the holder of the artifact's lock writes it and its checkpoint, so whoever wrote these is dead.
    for folder in (root / ".tmp").glob(f"{name}.*"):
        shutil.rmtree(folder, ignore_errors=True)
    for half in (root / CHECKPOINTS).glob(f"{name}{_CHECKPOINT}.*"):
        with contextlib.suppress(OSError):
            half.unlink()
