"""A job's folder, and the log of events in it: JSON lines that one process appends and any number of others follow.

A reader keeps what it has read and where it stopped, so that following a long job costs only what is new. A last line
without its end is not read yet; a line that is no JSON (its writer was killed, or the disk was full) is skipped.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

EVENTS = "events.jsonl"
SPEC = "spec.json"
LOG = "log.txt"
LOCK = "lock"
CANCEL = "cancel"
SNAPSHOT = "snapshot.safetensors"
ENDED = ("done", "failed", "cancelled", "dead")
"""States that a job does not leave; the first three are written by its worker, the last is what a reader finds."""

_lock = threading.Lock()
_read: dict[Path, tuple[int, list[dict[str, Any]]]] = {}  # by folder: the offset read up to, the events before it


def append(folder: Path, event: dict[str, Any]) -> None:
    """Append one event and the time in a single write. Raises OSError when the disk is full."""
    line = (json.dumps({"time": time.time(), **event}, allow_nan=False) + "\n").encode()
    with (folder / EVENTS).open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # the writer before was killed in mid-line, or had no room for its end
                line = b"\n" + line
        file.write(line)


def read(folder: Path) -> list[dict[str, Any]]:
    """Every whole event so far, oldest first; none without a log. The list is the caller's, its items are not."""
    with _lock:
        offset, events = _read.get(folder, (0, []))
        try:
            with (folder / EVENTS).open("rb") as file:
                if os.fstat(file.fileno()).st_size < offset:  # another log in the same place
                    offset, events = 0, []
                file.seek(offset)
                data = file.read()
        except FileNotFoundError:
            _read.pop(folder, None)
            return []
        whole = data[: data.rfind(b"\n") + 1]
        if whole:
            events = events + [event for line in whole.splitlines() if (event := _parse(line)) is not None]
            _read[folder] = (offset + len(whole), events)
        return list(events)


def forget(folder: Path) -> None:
    """Drop what is remembered of a log that is going to be removed."""
    with _lock:
        _read.pop(folder, None)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("time"), int | float) else None
