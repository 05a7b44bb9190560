"""What a process that is started from here needs to import this package."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
"""The folder that `core` lies in."""


def environment(own: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of this process, or `own`, with what leads to this package."""
    own = os.environ if own is None else own
    paths = [str(PROJECT), *filter(None, own.get("PYTHONPATH", "").split(os.pathsep))]
    return {**own, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONUTF8": "1"}


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
