"""A lock for disks without `flock`: a file that its holder renews; whoever sees it unchanged for long takes it over.

Time is measured by the watcher's own monotonic clock, from its first look: no clock of another machine counts. On the
holder's machine it is known at once whether its process has ended. Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import threading
import time
from functools import cache
from pathlib import Path

BEAT = 5.0
"""Seconds between two renewals."""
TERM = 30.0
"""Seconds without a change after which the holder is taken for dead."""

_seen: dict[Path, tuple[bytes, float]] = {}  # content, and time.monotonic() when it was first seen


class Lease:
    """A claim to a file. `take` tries once; a thread renews it until `release`, or until the process ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._file = -1
        self._token = ""

    def take(self) -> bool:
        """Whether it is ours now. One whose holder is dead is taken over. Raises OSError."""
        if self._create():
            return True
        if is_held(self.path):
            return False
        _drop(self.path)
        return self._create()

    def release(self) -> None:
        """Let it go."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(OSError):
            os.close(self._file)
        with contextlib.suppress(OSError):
            if json.loads(self.path.read_bytes()).get("token") == self._token:  # else another took it for dead
                self.path.unlink()

    def _create(self) -> bool:
        try:
            self._file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        self._token = secrets.token_hex(8)
        self._write(0)
        self._thread = threading.Thread(target=self._renew, name=f"lease {self.path.name}", daemon=True)
        self._thread.start()
        return True

    def _renew(self) -> None:
        beat = 0
        while not self._ended.wait(BEAT):
            beat += 1
            with contextlib.suppress(OSError):  # the next one may succeed
                self._write(beat)

    def _write(self, beat: int) -> None:
        body = {"token": self._token, "machine": _machine(), "pid": os.getpid(), "beat": f"{beat:012}"}
        os.pwrite(self._file, json.dumps(body).encode(), 0)  # of one length: nothing is left of the one before


def is_held(path: Path) -> bool:
    """Whether a living process holds the lease: it was renewed lately, and its process is not known to be dead."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        _seen.pop(path, None)
        return False
    except OSError:  # nothing can be said of it now
        content = _seen.get(path, (b"", 0.0))[0]
    if _is_of_a_dead_process(content):
        return False
    known = _seen.get(path)
    if known is None or known[0] != content:
        _seen[path] = (content, time.monotonic())
        return True
    return time.monotonic() - known[1] < TERM


def _drop(path: Path) -> None:
    """Remove a lease whose holder is dead, unless another has taken it since it was looked at."""
    stale = _seen.pop(path, (None, 0.0))[0]
    half = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):
        path.rename(half)
        content = half.read_bytes()
        if stale not in (None, content) and not _is_of_a_dead_process(content):
            os.link(half, path)
        half.unlink()


def _is_of_a_dead_process(content: bytes) -> bool:
    """Whether it was written on this machine, by a process that is no more."""
    try:
        body = json.loads(content)
        pid, machine = int(body["pid"]), body["machine"]
    except (ValueError, KeyError, TypeError):
        return False
    if machine != _machine() or os.name != "posix":  # elsewhere signal 0 is not harmless
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    with contextlib.suppress(OSError, IndexError):  # it may have ended and wait for its parent to notice
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] == "Z"
        )
    return False


@cache
def _machine() -> str:
    """What tells machines and containers apart, whose process numbers mean different processes."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)
