"""How a long run reports its progress, and how it is asked to stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np


class Cancelled(Exception):
    """Raised by `on_progress` when the run is to stop. Nothing is written to the store then."""


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


def part(
    on_progress: Progress | None,
    begin: int,
    end: int,
    whole: int,
    *,
    phase: str | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Progress | None:
    """The progress of a part, to be passed to what runs the part, reported as progress of the whole.

    Args:
        on_progress: what is called with the progress of the whole.
        begin: units of the whole that are finished when the part begins.
        end: units that are finished when the part ends. The part may count other units: its share done is what counts.
        whole: units of the whole.
        phase: stands before the part's own phase, if it reports one.
        metrics: reported instead of the part's own metrics and snapshot; None passes these on.

    Returns:
        A function that calls `on_progress`; None where that is None.
    """
    if on_progress is None:
        return None

    def report(done: int, total: int, **own: Any) -> None:
        units = min(done, total) * (end - begin) // total if total else 0
        phases = [text for text in (phase, own.pop("phase", None)) if text]
        on_progress(begin + units, whole, phase=", ".join(phases) or None, **(own if metrics is None else metrics))

    return report
