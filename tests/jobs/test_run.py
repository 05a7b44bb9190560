"""A task that is run in this process: made once, found ever after, and nothing is left of one that stops."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.jobs import queue, running
from core.progress import Cancelled
from core.specs import (
    AttackSpec,
    CompareSpec,
    Fgsm,
    PatternSpec,
    Pgd,
    RadiiSpec,
    SweepSpec,
    TrainSpec,
    TransferSpec,
    UniversalSpec,
)
from tests.jobs.toys import MODEL, Runner, remains


def test_run_makes_once_and_finds_ever_after(tmp_path: Path, runner: Runner) -> None:
    """The second asker gets the first one's artifact, and is told at once that all is done."""
    made = queue.run(MODEL, tmp_path)
    said = []
    assert queue.run(MODEL, tmp_path, on_progress=lambda *args, **more: said.append((args, more))) == made
    assert runner.made == [MODEL]
    assert said == [((1, 1), {"phase": "loaded from the store"})]
    assert queue.run(TrainSpec(seed=1), tmp_path, device="cuda") != made
    assert runner.devices == ["cpu", "cuda"]


def test_run_knows_a_model_by_the_beginning_of_its_id(tmp_path: Path, runner: Runner) -> None:
    """A short id and the full one ask for the same; an unknown one is refused before anything is run."""
    model = queue.run(MODEL, tmp_path)
    short = queue.run(SweepSpec(model="digits"), tmp_path)
    assert queue.run(SweepSpec(model=model.id), tmp_path) == short
    assert len(runner.made) == 2
    with pytest.raises(ValueError, match=f"model: expected the id of a saved model .*{model.id}.*, got 'mnist'"):
        queue.run(SweepSpec(model="mnist"), tmp_path)


def test_run_makes_a_damaged_artifact_again(tmp_path: Path, runner: Runner, caplog: pytest.LogCaptureFixture) -> None:
    """Asked for is asked for: what was damaged is set aside, said in the log, and made anew."""
    made = queue.run(MODEL, tmp_path)
    (made.folder / "weights.safetensors").write_bytes(b"cut short")
    with caplog.at_level(logging.WARNING):
        again = queue.run(MODEL, tmp_path)
    assert "weights.safetensors (9 bytes) does not match" in caplog.text
    assert runner.made == [MODEL, MODEL]
    np.testing.assert_array_equal(again.arrays("weights")["w"], np.ones(3))
    assert len(list((tmp_path / "set_aside").iterdir())) == 1


@pytest.mark.parametrize("error", [Cancelled(), RuntimeError("no memory"), KeyboardInterrupt()])
def test_run_leaves_the_store_clean_when_it_stops(tmp_path: Path, runner: Runner, error: BaseException) -> None:
    """Cancelled, failed or interrupted: the error passes through, and the next asker starts afresh."""

    def stop(done: int, total: int, **_: Any) -> None:
        if done == 3:
            raise error

    with pytest.raises(type(error)):
        queue.run(MODEL, tmp_path, on_progress=stop)
    assert remains(tmp_path) == []
    assert queue.run(MODEL, tmp_path).card["task"] == "train"


def test_a_comparison_runs_its_cells_as_one(tmp_path: Path, runner: Runner) -> None:
    """Progress counts the images of all cells, never falls, and ends at the end; cells that exist are not run."""
    models = [queue.run(TrainSpec(seed=seed), tmp_path).id for seed in (0, 1)]
    spec = CompareSpec(models=(models[0], models[1]), attacks=(Fgsm(), Pgd()), n=100)
    cells = spec.sweeps()
    queue.run(cells[1], tmp_path)
    runner.made.clear()
    said: list[tuple[int, int]] = []
    phases: list[str] = []

    def listen(done: int, total: int, *, phase: str, **_: Any) -> None:
        said.append((done, total))
        phases.append(phase)

    made = queue.run(spec, tmp_path, on_progress=listen)
    assert [artifact.spec() for artifact in made] == cells
    assert runner.made == [cells[0], cells[2], cells[3]]
    assert {total for _, total in said} == {400}
    assert [done for done, _ in said] == [25, 50, 75, 100, 200, 225, 250, 275, 300, 325, 350, 375, 400]
    assert phases[0] == f"1 of 4: fgsm on {models[0]}, toying"
    assert phases[4] == f"2 of 4: pgd on {models[0]}, loaded from the store"


def test_every_task_has_its_runner() -> None:
    """The real ones, which the other tests replace."""
    from core.evaluation.tasks import attack, pattern, radii, sweep, transfer, universal
    from core.training import task

    assert running.runner_for(MODEL) is task.run
    assert running.runner_for(AttackSpec(model="x", attack=Fgsm(), eps=0.1)) is attack.run
    assert running.runner_for(SweepSpec(model="x")) is sweep.run
    assert running.runner_for(UniversalSpec(model="x", eps=0.1)) is universal.run
    assert running.runner_for(PatternSpec(model="x")) is pattern.run
    assert running.runner_for(RadiiSpec(model="x")) is radii.run
    assert running.runner_for(TransferSpec(models=("x", "y"), eps=0.1)) is transfer.run
    with pytest.raises(ValueError, match=r"task: expected one of train, import, attack, .*, got 'compare'"):
        running.runner_for(CompareSpec(models=("x",)))
