"""Run a spec in this process: load its artifact from the store, or make it, once among all processes that want it."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from core.checks import check_choice
from core.data import shown
from core.jobs import devices
from core.jobs.runners import RUNNERS
from core.jobs.shards import drive, engines, kept
from core.models import trained_on
from core.progress import Progress, part
from core.specs import (
    TASKS,
    CompareSpec,
    ImportSpec,
    ModelSpec,
    ModelTask,
    SweepSpec,
    Task,
    TrainSpec,
)
from core.storage import bundled, damage, store, uploads
from core.storage.store import Artifact, Outcome

_logger = logging.getLogger(__name__)

Note = Callable[[str], None]
"""Takes a message for the reader."""


def run(
    task: Task,
    root: Path | None = None,
    *,
    device: str | None = None,
    allow_bundled: bool = True,
    on_progress: Progress | None = None,
) -> Artifact | list[Artifact]:
    """Find what `task` asks for in the store, or make it here; a comparison gives the list of its sweeps.

    When several processes or threads want the same artifact, one makes it and the others wait. A damaged artifact is
    set aside, with a warning in the log, and made again.

    Args:
        task: what to make.
        root: the store's folder; None takes `store.default_root()`.
        device: "cpu", "cuda" or another that `devices.settled` takes; None takes CUDA where there is one.
        allow_bundled: whether a bundled model counts as found.
        on_progress: called by the runner; whatever it raises ends the run, and nothing is written.

    Raises:
        ValueError: the folder that a model was trained on has changed, so that what was found before is no answer; or
            a device that is not there.
    """
    made = run_all(task, root, device=device, allow_bundled=allow_bundled, on_progress=on_progress)
    return made if isinstance(task, CompareSpec) else made[0]


def run_all(
    task: Task,
    root: Path | None = None,
    *,
    device: str | None = None,
    allow_bundled: bool = True,
    on_progress: Progress | None = None,
    note: Note = _logger.warning,
) -> list[Artifact]:
    """As `run`, always a list; `note` is called with a message on damaged artifacts.

    What judges images one by one is run in shards where an engine is chosen (`core.jobs.shards.engines`).
    """
    root = Path(root) if root is not None else store.default_root()
    task = store.resolve(task, root)
    report = on_progress or _silent
    cells = [store.normal(cell, root) for cell in parts(task)]
    if processes() > 1:
        return [_take_part(task, root, device, report, note, allow_bundled)]
    with drive.pool(engines.chosen(), device, lambda: devices.settled(device, root, note)) as pool:
        return [
            _make(
                cell,
                root,
                device,
                _of_comparison(report, place, cells) if len(cells) > 1 else report,
                note,
                allow_bundled,
                pool=pool,
            )
            for place, cell in enumerate(cells)
        ]


def processes() -> int:
    """How many processes torchrun started to do this together; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this is the first of them, which reports and writes."""
    return processes() == 1 or os.environ.get("RANK", "0") == "0"


def parts(task: Task) -> list[ModelSpec | ModelTask]:
    """The specs of the artifacts that `task` leaves: a comparison's sweeps, else the task itself."""
    return list(task.sweeps()) if isinstance(task, CompareSpec) else [task]


def find_all(task: Task, root: Path, note: Note = _logger.warning) -> list[Artifact] | None:
    """Every artifact that `task` leaves, when all of them are in the store; damaged ones are set aside."""
    found = [_find(store.normal(cell, root), root, note) for cell in parts(task)]
    there = [artifact for artifact in found if artifact is not None]
    return there if len(there) == len(found) else None


def runner_for(task: Task) -> Callable[..., Outcome]:
    """The function that makes the artifact of `task`; importing it imports torch."""
    names = {kind: name for name, kind in TASKS.items()}
    check_choice("task", names.get(type(task), type(task).__name__), [names[kind] for kind in RUNNERS])
    run: Callable[..., Outcome] = import_module(RUNNERS[type(task)]).run
    return run


def load() -> None:
    """Import PyTorch and every runner, and leave all that out of later searches for garbage."""
    for name in RUNNERS.values():
        import_module(name)
    gc.collect()
    gc.freeze()


def _take_part(
    task: Task, root: Path, device: str | None, report: Progress, note: Note, allow_bundled: bool
) -> Artifact:
    """As `_make`, in one of several processes: the first finds the artifact or makes it, the others help and wait."""
    if not isinstance(task, TrainSpec):
        raise ValueError(
            f"task: expected a training where torchrun starts several processes, got {type(task).__name__}"
        )
    from core.training import parallel

    device, begun = parallel.join(device or devices.first()), False
    if device != devices.CPU and (text := devices.fault(device)):  # on the CPU it would keep the others waiting
        raise ValueError(f"device: {text}")

    def begin() -> None:
        nonlocal begun
        begun = parallel.broadcast_flag(True)

    if leads():
        made = _make(task, root, device, report, note, allow_bundled, begin)
        if not begun:
            parallel.broadcast_flag(False)
        parallel.broadcast_flag(True)  # it is written
        return made
    if parallel.broadcast_flag():
        runner_for(task)(task, root, device=device, on_progress=_silent)
    parallel.broadcast_flag()
    found = _find(task, root, note, allow_bundled)
    if found is None:
        raise FileNotFoundError(f"{task.artifact_name()}: not in {root}, where the first process wrote it")
    return found


def _make(
    task: Task,
    root: Path,
    device: str | None,
    report: Progress,
    note: Note,
    allow_bundled: bool,
    begin: Callable[[], None] = lambda: None,
    pool: drive.Pool | None = None,
) -> Artifact:
    found = _find(task, root, note, allow_bundled)
    if found is None:
        with store.lock(task, root, on_wait=lambda: report(0, 1, phase="waiting for another process that makes it")):
            found = _find(task, root, note, allow_bundled)  # whoever held the lock may have made it
            if found is None:
                begin()
                if pool is not None and pool.takes(task):
                    outcome = drive.make(task, root, pool, report, note)
                else:
                    where = devices.settled(device, root, note)
                    outcome = runner_for(task)(task, root, device=where, on_progress=report)
                made = store.write(
                    task,
                    root,
                    card=outcome.card,
                    arrays=outcome.arrays,
                    tables=outcome.tables,
                    blobs=outcome.blobs,
                )
                _forget_progress(task, root)
                if isinstance(task, ImportSpec):
                    uploads.forget(task.digest, root)
                return made
    report(1, 1, phase="loaded from the store")
    return found


def _find(task: Task, root: Path, note: Note, allow_bundled: bool = True) -> Artifact | None:
    if isinstance(task, ModelTask):  # what was found before a folder changed is no answer for the folder as it is now
        if task.data is not None:
            shown.check_own(task.data)
        for model in trained_on.models_of(task) if task.data is None else ():
            trained_on.check_own(store.open_model(model, root))
    try:
        found = store.find(task, root, allow_bundled=allow_bundled)
    except store.DamagedArtifact as error:
        note(str(error))
        return None
    if found is not None and (text := trained_on.of_other_images(found, root)):
        note(f"{text}. {damage.step_aside(found.folder, root, text)}")
        return None
    if found is not None and found.root == root and not bundled.is_copy(found.card):
        _forget_progress(task, root)  # whoever made it may have been killed before it came to this
    return found


def _forget_progress(task: Task, root: Path) -> None:
    """Remove the checkpoint, and the shards, of a task whose artifact is written."""
    kept.forget(kept.folder(task, root))
    with contextlib.suppress(OSError):
        store.unfinished(task, root).unlink(missing_ok=True)


def _of_comparison(report: Progress, place: int, cells: list[ModelSpec | ModelTask]) -> Progress:
    """The progress of one cell as progress of the whole comparison; a unit is an image of a cell."""
    cell = cells[place]
    assert isinstance(cell, SweepSpec)
    name = f"{place + 1} of {len(cells)}: {cell.attack.slug()} on {cell.model}"
    made = part(report, place * cell.n, (place + 1) * cell.n, len(cells) * cell.n, phase=name)
    assert made is not None
    return made


def _silent(
    done: int, total: int, *, phase: str | None = None, snapshot: dict[str, np.ndarray] | None = None, **metrics: Any
) -> None:
    """For runs without a listener."""
