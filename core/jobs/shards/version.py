"""Whether two processes run the same code: what shards of one result must have in common."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import core
from core.storage import cards


@cache
def version() -> str:
    """The version of the program, the beginning of a hash of its source, and PyTorch's version, in this process."""
    root = Path(core.__file__).parent
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    # what follows + says for which device PyTorch was built: one result may come from machines of several builds
    torch = cards.versions().get("torch", "unknown").partition("+")[0]
    return f"{core.__version__} (source {total.hexdigest()[:10]}, torch {torch})"


def check(expected: str, host: str) -> None:
    """Raises ValueError where this process, on `host`, does not run what the process that asks does."""
    if version() != expected:
        raise ValueError(
            f"engine: expected Adversarial Lab {expected} on every machine, got {version()} on {host}: install the "
            "same version there, and start again"
        )
