"""What a job may ask for and take, where the environment says so: for machines that are not one person's own.

Without a setting there is no limit; on a public server (`core.access`) there are those of `PUBLIC`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from core import access
from core.specs import Task

SECONDS = "ADVERSARIAL_LAB_JOB_SECONDS"
"""How long a job may run."""
MEMORY = "ADVERSARIAL_LAB_JOB_GIB"
"""Memory that its process may have, in GiB; Linux and macOS."""
IMAGES = "ADVERSARIAL_LAB_JOB_IMAGES"
"""Images of one request."""
BUDGETS = "ADVERSARIAL_LAB_JOB_EPS"
"""Budgets ε of one request."""
STORE = "ADVERSARIAL_LAB_STORE_GIB"
"""How large the store may be for another job to begin, in GiB."""
PUBLIC: dict[str, float] = {SECONDS: 1800, IMAGES: 2000, BUDGETS: 40, STORE: 20}


class OverLimit(ValueError):
    """A request asks for more than a job may take here."""


def limit(name: str) -> float:
    """The limit of that name, infinite where there is none. Raises ValueError where it is no number above 0."""
    text = os.environ.get(name, "").strip()
    if not text:
        return PUBLIC.get(name, math.inf) if access.is_public() else math.inf
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not found > 0:
        raise ValueError(f"{name}: expected a number above 0, got {text!r}")
    return found


def check(task: Task, root: Path) -> None:
    """Refuse a request that asks for more than a job may here, or any where the store is full. Raises OverLimit."""
    asked = {
        IMAGES: ("images", max([int(getattr(task, "n", 0) or 0), len(_several(task, "indices"))])),
        BUDGETS: ("ε", len(_several(task, "eps"))),
    }
    for name, (what, count) in asked.items():
        if count > limit(name):
            raise OverLimit(f"expected at most {limit(name):,.0f} {what} in one request, got {count:,}")
    most = limit(STORE)
    if most < math.inf and (there := size(root)) > most * 2**30:
        raise OverLimit(f"the store is full: it may hold {most:g} GiB, and holds {there / 2**30:.1f}")


def _several(task: Task, name: str) -> tuple[Any, ...]:
    value = getattr(task, name, ())
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else ()


def size(root: Path) -> int:
    """Bytes of all files below a folder; what goes away meanwhile counts nothing."""
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            try:
                total += (Path(folder) / name).lstat().st_size
            except OSError:
                continue
    return total


def hold_memory() -> None:
    """Hold this process to its share of the memory from now on: what goes beyond it fails, and the machine lives."""
    most = limit(MEMORY)
    if most == math.inf:
        return
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most_bytes = int(most * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (most_bytes if hard < 0 else min(most_bytes, hard), hard))
