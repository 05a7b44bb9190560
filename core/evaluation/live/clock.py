"""The time limit of what is computed while somebody waits, and the order in which threads use a model."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from core.progress import Cancelled

LIMIT = 2.0
"""Seconds of a processor that one answer may take."""
PATIENCE = 4.0
"""Times the limit that the answer may take on the wall's clock, where others use the processor too."""


class TooLong(Cancelled):
    """The time limit has passed; `snapshot` is what there was by then."""

    def __init__(self, limit: float, snapshot: dict[str, np.ndarray]) -> None:
        super().__init__(f"stopped after {limit:g} s, the time limit")
        self.limit, self.snapshot = limit, snapshot


class Clock:
    """A time limit that runs from now on, for the thread that makes it.

    It is a `Progress`: handed to an attack as `on_progress`, it ends the attack with `TooLong` once the time is over.
    """

    def __init__(self, limit: float = LIMIT) -> None:
        self.limit = limit
        self.snapshot: dict[str, np.ndarray] = {}
        self._begun, self._used = time.monotonic(), time.thread_time()

    @property
    def left(self) -> float:
        """Seconds of the processor that are left, 0 when the time is over."""
        if time.monotonic() - self._begun >= PATIENCE * self.limit:
            return 0.0
        return max(0.0, self.limit - (time.thread_time() - self._used))

    def check(self) -> None:
        """Raise `TooLong` once the time is over."""
        if self.left <= 0:
            raise TooLong(self.limit, self.snapshot)

    def __call__(
        self,
        done: int,
        total: int,
        *,
        phase: str | None = None,
        snapshot: dict[str, np.ndarray] | None = None,
        **metrics: Any,
    ) -> None:
        """Keep the snapshot, and raise `TooLong` if there is more to do and no time for it."""
        self.snapshot = snapshot or self.snapshot
        if done < total:
            self.check()


_locks: weakref.WeakKeyDictionary[nn.Module, threading.Lock] = weakref.WeakKeyDictionary()
_guard = threading.Lock()


@contextmanager
def alone(model: nn.Module) -> Iterator[None]:
    """Use a model that several threads share, one after the other, each on a single thread of the processor."""
    with _guard:
        lock = _locks.setdefault(model, threading.Lock())
    with lock:
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)
        yield
