"""From a task to its shards: ranges of images, which hang on the task and its images alone, never on machines."""

from __future__ import annotations

from core.specs import (
    AttackSpec,
    CertifySpec,
    EvaluateSpec,
    RadiiSpec,
    SweepSpec,
    Task,
    TransferSpec,
)

SIZES: dict[type[Task], int] = {
    EvaluateSpec: 500,
    RadiiSpec: 250,
    SweepSpec: 250,
    AttackSpec: 250,
    CertifySpec: 250,
    TransferSpec: 250,
}
"""Images of a shard, of each task that is run in shards. A comparison is: its cells are sweeps. An evaluation judges
blocks of images together (`core.evaluation.robust.digging.BLOCK`): a shard is a block."""
SLOW = 25
"""Images of a shard where each one may take seconds: exact proofs, smoothing, every class as a target."""


def size(task: Task) -> int:
    """Images of a shard of this task."""
    slow = isinstance(task, CertifySpec) and task.method in ("exact", "smoothing")
    return SLOW if slow or getattr(task, "target", None) == "all" else SIZES[type(task)]


def asked(task: Task) -> int:
    """Images that a task asks for at most, as far as it is known without them."""
    indices = getattr(task, "indices", None)
    return int(getattr(task, "n", 0)) if indices is None else len(indices)


def ranges(task: Task, count: int) -> list[tuple[int, int]]:
    """The shards of a task on `count` images: the places of the first and behind the last one."""
    step = size(task)
    return [(low, min(low + step, count)) for low in range(0, count, step)]
