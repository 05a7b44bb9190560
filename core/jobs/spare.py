"""A process that has loaded PyTorch and waits for a job, so that a job starts at once instead of after ten seconds.

A server that is used by people calls `keep` now and then; there is then at most one such process, which takes one job,
is that job's process in every respect (see `core.jobs.queue`), and ends with it; another one takes its place. It ends
as well when nothing was asked of it for `IDLE` seconds, and when the server that started it ends, for the pipe to it
closes then. It is not used, and the ordinary start is, where it would not be the same: after a change of the code, with
another environment or another working folder, while it still loads, and when it does not answer.

`ADVERSARIAL_LAB_SPARE=0` turns it off; so does too little memory. Importing this module imports no torch.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from core.jobs import events, processes, running, worker
from core.jobs.processes import PROJECT as PROJECT

SETTING = "ADVERSARIAL_LAB_SPARE"
IDLE = 600.0  # seconds without a job after which it ends
PAUSE = 2.0  # seconds from a taken process to the next one: the job that has just begun goes first
RETRY = 60.0  # seconds after one that failed to load
ANSWER = 3.0  # seconds that a waiting process has to take the lock of its job
NEEDED = 2 << 30  # bytes of free memory

_FLAGS = getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0) | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
_READY = b"ready\n"

_lock = threading.Lock()
_spare: Spare | None = None
_not_before = 0.0  # time.monotonic()


class Spare:
    """A started process, and what it was started with.

    ready: set when it has loaded PyTorch. failed: whether it ended before that.
    """

    def __init__(self) -> None:
        self.circumstances = _circumstances()  # before it starts: code that changes from now on makes it old
        self.ready = threading.Event()
        self.process = start(_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        threading.Thread(target=self._listen, name="spare process", daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    @property
    def failed(self) -> bool:
        """Whether it ended without having loaded."""
        return not self.alive and not self.ready.is_set()

    def give(self, folder: Path) -> bool:
        """Give it the job in `folder`; whether it took it. It is ended when it does not."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has just ended
            self.process.stdin.write(os.fsencode(folder))
            self.process.stdin.close()
        deadline = time.monotonic() + ANSWER
        while not _begun(folder) and self.alive and time.monotonic() < deadline:
            time.sleep(0.005)
        if not _begun(folder):
            self.end()
        return _begun(folder)

    def end(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as said:
            if said.readline() == _READY:
                self.ready.set()
        self.process.wait()  # else a dead one stays in the process table
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()


def keep() -> None:
    """See that a process waits, or that one is on its way; returns at once."""
    global _not_before, _spare
    with _lock:
        if _spare is not None and _spare.alive:
            return
        now = time.monotonic()
        if _spare is not None and _spare.failed:
            _not_before = now + RETRY
        _spare = None
        if now >= _not_before and allowed():
            with contextlib.suppress(OSError):
                _spare = Spare()


def take(folder: Path) -> subprocess.Popen[bytes] | None:
    """The process that has taken the job in `folder`, or None: the job then needs a process of its own."""
    global _not_before, _spare
    with _lock:
        found = _spare
        if found is None or not (found.ready.is_set() or found.failed):
            return None
        _spare = None
        _not_before = time.monotonic() + (RETRY if found.failed else PAUSE)
    later = threading.Timer(PAUSE, keep)
    later.daemon = True
    later.start()
    if found.circumstances != _circumstances():
        found.end()
    return found.process if found.alive and found.give(folder) else None


def stop() -> None:
    """End the waiting process, if there is one."""
    global _spare
    with _lock:
        if _spare is not None:
            _spare.end()
        _spare = None


def allowed() -> bool:
    """Whether the setting and the free memory allow a process that only waits."""
    return os.environ.get(SETTING, "1").lower() not in ("0", "false", "no", "off") and _free_memory() >= NEEDED


def wait(work: Callable[[Path], int] = worker.work) -> int:
    """The body of the process: load, say so, do the one job whose folder comes on standard input; its exit status."""
    asked: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=lambda: asked.put(b"".join(iter(lambda: os.read(0, 4096), b""))), daemon=True).start()
    worker.lower_priority()
    running.load()
    sys.stdout.buffer.write(_READY)
    sys.stdout.buffer.flush()
    try:
        name = asked.get(timeout=IDLE)
    except queue.Empty:
        return 0
    if not name:  # the server has ended
        return 0
    folder = Path(os.fsdecode(name))
    with (folder / events.LOG).open("ab") as log, Path(os.devnull).open("rb") as nothing:
        for target, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source.fileno(), target)
    return work(folder)


def start(
    command: list[str], *, env: dict[str, str] | None = None, cwd: str | None = None, **streams: Any
) -> subprocess.Popen[bytes]:
    """Start a process that can import `core`, of low priority, that outlives this one. Raises OSError.

    env, cwd: its environment and working folder; by default `environment()` and this process's.
    """
    return subprocess.Popen(
        command,
        env=environment() if env is None else env,
        cwd=cwd,
        start_new_session=True,  # a group of its own: signals for the server pass it by
        creationflags=_FLAGS,
        **streams,
    )


def environment(own: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a job's process: this process's, or `own`, with what leads to this package."""
    lowered = {worker.LOWERED: "1"} if worker.is_lowered() else {}
    return {**processes.environment(own), **lowered}


def _command() -> list[str]:
    # -P: the caller's working folder is kept, for relative paths, but no module is imported from it.
    return [sys.executable, "-P", "-u", "-m", "core", "wait"]


def _circumstances() -> tuple[object, ...]:
    """All that a process started now would have otherwise than one started before: environment, folder, code."""
    here = None
    with contextlib.suppress(OSError):  # it was removed
        here = Path.cwd()
    return environment(), here, tuple(_code(PROJECT / "core"))


def _code(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of every source file."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    yield from _code(Path(entry.path))
            elif entry.name.endswith(".py"):
                stat = entry.stat()
                yield entry.path, stat.st_size, stat.st_mtime_ns


def _begun(folder: Path) -> bool:
    """Whether a worker has written into the job's log of events."""
    return any(event.get("state") == "waiting" for event in events.read(folder))


def _free_memory() -> float:
    """Bytes that a new process may use; infinite where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        with Path("/proc/meminfo").open(encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return 1024.0 * int(lines["MemAvailable"].split()[0])
    return float("inf")
