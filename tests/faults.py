"""Faults of disks, injected: what each operation that changes the disk does instead, and bits that flip in a file."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Act = Callable[[str, int], None]
"""Is called before each operation with its name and number from 1, and may raise or kill."""


class Operations:
    """Counts the operations that change the disk, and calls `act` before each.

    A write is two: the first half of the bytes, and the rest. Locks are not counted.
    """

    def __init__(self, patch: pytest.MonkeyPatch, act: Act = lambda name, number: None) -> None:
        self.act, self.names = act, list[str]()
        for name in ("rename", "replace", "mkdir", "rmdir", "unlink", "fsync"):
            patch.setattr(os, name, self._counted(name, getattr(os, name)))
        patch.setattr(io, "open", self._opening(io.open))

    def met(self, name: str) -> None:
        """One operation of this name is about to be done."""
        self.names.append(name)
        self.act(name, len(self.names))

    def _counted(self, name: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            if ".lock" not in str(args[0]):
                self.met(name)
            return do(*args, **options)

        return counted

    def _opening(self, do: Callable[..., Any]) -> Callable[..., Any]:
        def opening(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if not set(mode) & set("wa+"):
                return do(path, mode, *args, **options)
            self.met("open")
            return _Written(self, do(path, mode, *args, **options))

        return opening


class _Written:
    """A file whose every write is two."""

    def __init__(self, operations: Operations, file: Any) -> None:
        self._operations, self._file = operations, file

    def write(self, data: Any) -> int:
        """Write in two parts, with an operation before each."""
        half = len(data) // 2
        self._operations.met("write")
        self._file.write(data[:half])
        self._file.flush()
        self._operations.met("write the rest")
        self._file.write(data[half:])
        return len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def killed_at(number: int, do: Callable[[], object]) -> bool:
    """Whether a copy of this process is killed, as by `kill -9`, before its operation of this number; else it ends."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with pytest.MonkeyPatch.context() as patch:
                Operations(patch, lambda _, now: os.kill(os.getpid(), signal.SIGKILL) if now == number else None)
                do()
            code = 0
        finally:
            os._exit(code)  # nothing of the test's own is cleaned up twice
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def places(path: Path) -> dict[str, int]:
    """For each tensor of a safetensors file the place of a byte in the middle of it."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    found = {}
    for name, entry in header.items():
        low, high = entry["data_offsets"] if name != "__metadata__" else (0, 0)
        if high > low:
            found[name] = 8 + length + (low + high) // 2
    return found


def flip(path: Path, place: int, bit: int = 2) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)
