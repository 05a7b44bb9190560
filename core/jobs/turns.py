"""How many jobs may wait, and with what a job's process is to be started when its turn comes.

A job that waits has no process: who starts it later is another process than the one that asked for it. What matters of
the asker's circumstances is kept with the job: its working folder, and the part of its environment that says where
things are and how PyTorch runs. Imports no torch.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

SETTING = "ADVERSARIAL_LAB_WAITING_JOBS"
WAITING = 100
"""Jobs that may wait at once, where `SETTING` names no other number."""
CARRIED = ("ADVERSARIAL_LAB_", "CUDA_", "MKL_", "OMP_", "ONEDNN_", "PYTHON", "PYTORCH_", "TORCH_")
"""How the names of the variables begin that are kept with a job. No other is written to disk: some are secret."""


class TooManyJobs(ValueError):
    """So many jobs wait that no other may."""


def limit() -> int:
    """How many jobs may wait. Raises ValueError where `SETTING` is no number of jobs."""
    text = os.environ.get(SETTING, "").strip()
    if not text:
        return WAITING
    if not text.isdecimal():
        raise ValueError(f"{SETTING}: expected a number of jobs, 0 or more, got {text!r}")
    return int(text)


def check_room(waiting: int) -> None:
    """Raises TooManyJobs where as many jobs wait already as may."""
    if waiting >= limit():
        raise TooManyJobs(
            f"jobs: expected at most {limit()} waiting jobs, and {waiting} are waiting already. Wait until one has "
            f"ended, or cancel one; the environment variable {SETTING} sets another limit."
        )


def circumstances() -> dict[str, Any]:
    """What is kept with a job: the working folder (None where it was removed) and a part of the environment."""
    found = {name: value for name, value in os.environ.items() if name.startswith(CARRIED)}
    here = None
    with contextlib.suppress(OSError):
        here = str(Path.cwd())
    return {"folder": here, "environment": found}


def environment(kept: dict[str, Any]) -> dict[str, str]:
    """The environment of this process, with what was kept with a job in the place of its own."""
    rest = {name: value for name, value in os.environ.items() if not name.startswith(CARRIED)}
    return {**rest, **kept.get("environment", {})}


def folder(kept: dict[str, Any]) -> str | None:
    """The working folder of a job's process; None, for that of the process that starts it, where it is gone."""
    found: str | None = kept.get("folder")
    return found if found is not None and Path(found).is_dir() else None
