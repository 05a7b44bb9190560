"""How a long run tells where it is, and how it is told to stop."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np


class Cancelled(Exception):
    """Raised by `on_progress` when the run is to stop; the store is left as it was."""


@runtime_checkable  # so that the tests can check annotations while they run
class Progress(Protocol):
    """What a run calls as it goes. Whatever it raises (`Cancelled`, usually) stops the run."""

    def __call__(
        self,
        done: int,
        total: int,
        *,
        phase: str | None = None,
        snapshot: dict[str, np.ndarray] | None = None,
        **metrics: Any,
    ) -> None:
        """`done` of `total` units of work are finished; `snapshot` is what there is to see, `metrics` what to plot."""
