"""Jobs outlive whoever asked, end when told to, and never end in a way that nobody sees."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest

from core.jobs import devices, events, queue, reading, running, turns, worker
from core.progress import Cancelled
from core.specs import (
    AttackSpec,
    CompareSpec,
    Fgsm,
    PatternSpec,
    Pgd,
    RadiiSpec,
    SweepSpec,
    Task,
    TrainSpec,
    TransferSpec,
    UniversalSpec,
    dump_task,
)
from core.storage import store
from tests.jobs.toys import MODEL, TOY, WAIT, runs, submitting, until, wait_for
from tests.planted import CARD

PROJECT = Path(queue.__file__).parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")


class Runner:
    """Makes a tiny artifact, and counts how often."""

    def __init__(self) -> None:
        self.made: list[Task] = []
        self.devices: list[str] = []

    def __call__(self, spec: Task, root: Path, *, device: str, on_progress: Any) -> store.Outcome:
        """Run, in four steps."""
        for step in range(1, 5):
            on_progress(step, 4, phase="toying", loss=1 / step)
        self.made.append(spec)
        self.devices.append(device)
        return store.Outcome(card=CARD, arrays={"weights": {"w": np.ones(3)}})


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take long to start a worker."""
    monkeypatch.setattr(reading, "START_GRACE", WAIT)
    monkeypatch.setattr(turns, "CARRIED", (*turns.CARRIED, "TOY_"))


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Every task is run by a toy, in this process."""
    toy = Runner()
    monkeypatch.setattr(running, "runner_for", lambda task: toy)
    monkeypatch.setattr(devices, "settled", lambda device, *_: device or "cpu")
    monkeypatch.setattr(
        worker, "lower_priority", lambda: None
    )  # a worker's body in this process must not slow the other tests down
    return toy


def remains(root: Path) -> list[str]:
    """What lies in the store: artifacts, and half-written ones if there are any."""
    found = [path.name for path in root.iterdir() if not path.name.startswith(".") and path.is_dir()]
    half = [f".tmp/{path.name}" for path in (root / ".tmp").iterdir()] if (root / ".tmp").exists() else []
    return sorted(found + half)


# ---------------------------------------------------------------- run, in this process


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


# ---------------------------------------------------------------- events


def test_readers_follow_a_log_and_ignore_its_torn_end(tmp_path: Path) -> None:
    """A line without its end is not there yet; when the rest comes, it is."""
    assert events.read(tmp_path) == []
    events.append(tmp_path, {"done": 1})
    log = tmp_path / "events.jsonl"
    with log.open("ab") as file:
        file.write(b'{"time": 5, "do')
        file.flush()
        assert [event["done"] for event in events.read(tmp_path)] == [1]
        file.write(b'ne": 2}\n')
    assert [event["done"] for event in events.read(tmp_path)] == [1, 2]


def test_a_line_torn_for_good_costs_only_itself(tmp_path: Path) -> None:
    """Written by a process that was killed or had no room: the next event begins on a line of its own."""
    events.append(tmp_path, {"done": 1})
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"time": 5, "do')
    events.append(tmp_path, {"done": 3})
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b"3\nnull\n\n\xff\xfe\n" + b'{"no": "time"}\n')
    events.append(tmp_path, {"done": 4})
    assert [event["done"] for event in events.read(tmp_path)] == [1, 3, 4]


def test_another_log_in_the_same_place_is_read_from_its_start(tmp_path: Path) -> None:
    """The offset that a reader keeps belongs to a log that is gone."""
    for number in range(5):
        events.append(tmp_path, {"done": number})
    assert len(events.read(tmp_path)) == 5
    (tmp_path / "events.jsonl").unlink()
    assert events.read(tmp_path) == []
    events.append(tmp_path, {"done": 9})
    assert [event["done"] for event in events.read(tmp_path)] == [9]


def test_readers_read_only_what_is_new(tmp_path: Path) -> None:
    """Following a long job costs what it wrote since, which shows when the old part is spoilt in place."""
    events.append(tmp_path, {"done": 1})
    events.read(tmp_path)
    log = tmp_path / "events.jsonl"
    log.write_bytes(b"#" * (log.stat().st_size - 1) + b"\n")
    events.append(tmp_path, {"done": 2})
    assert [event["done"] for event in events.read(tmp_path)] == [1, 2]


# ---------------------------------------------------------------- what a worker reports


@pytest.mark.slow
def test_progress_is_at_most_three_events_a_second(tmp_path: Path) -> None:
    """However often a runner speaks; the last word is there when the state changes."""
    report = worker.Reporter(tmp_path)
    start, calls = time.monotonic(), 0

    def go_on() -> bool:
        took = time.monotonic() - start
        return took < 1.2 or (len(events.read(tmp_path)) < 3 and took < WAIT)

    while go_on():
        calls += 1
        report(calls, 10**6, phase=f"phase {calls}", loss=calls)
        time.sleep(0.002)
    took = time.monotonic() - start
    report.state("done")
    log = events.read(tmp_path)
    assert calls > len(log)
    assert 4 <= len(log) <= took / worker.EVENT_INTERVAL + 3  # the first, the last before the state, and that
    assert log[-2]["done"] == calls
    assert log[-1]["state"] == "done"


def test_every_epoch_is_written(tmp_path: Path) -> None:
    """A curve must not miss points because epochs are short; what waited before one is in it."""
    report = worker.Reporter(tmp_path)
    for epoch in range(20):
        report(2 * epoch, 40, phase="training", loss=epoch)
        report(2 * epoch + 1, 40, epoch=epoch, accuracy=0.5)
    report.state("done")
    log = [event for event in events.read(tmp_path) if "epoch" in event.get("metrics", {})]
    assert [event["metrics"]["epoch"] for event in log] == list(range(20))
    assert all(event["metrics"]["loss"] == event["metrics"]["epoch"] for event in log[1:])
    assert {event["phase"] for event in log} == {"training"}


@pytest.mark.slow
def test_what_is_said_before_a_silence_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress that came too soon is written when its time has come, though the runner says nothing more."""
    monkeypatch.setattr(worker, "EVENT_INTERVAL", 2.0)  # time enough to look before it is over
    report = worker.Reporter(tmp_path)
    report(1, 10, phase="training")
    report(2, 10, phase="testing")
    assert [event["phase"] for event in events.read(tmp_path)] == ["training"]
    wait_for(lambda: len(events.read(tmp_path)) == 2)
    assert events.read(tmp_path)[-1]["phase"] == "testing"


def test_metrics_are_numbers_and_undefined_ones_are_null(tmp_path: Path) -> None:
    """The log is strict JSON; numpy's and torch's numbers are welcome, anything else is named and refused."""
    report = worker.Reporter(tmp_path)
    report(1, 2, epoch=1, loss=np.float32("nan"), rate=np.float64(0.5), n=np.int64(3), worst=math.inf)
    line = (tmp_path / "events.jsonl").read_text()
    metrics = json.loads(line, parse_constant=pytest.fail)["metrics"]
    assert metrics == {"epoch": 1, "loss": None, "rate": 0.5, "n": 3, "worst": None}
    with pytest.raises(ValueError, match="name: expected a number, got 'lenet'"):
        report(1, 2, name="lenet")


def test_snapshots_are_replaced_at_most_twice_a_second(tmp_path: Path) -> None:
    """Readers see whole ones only, and no rest lies about."""
    report = worker.Reporter(tmp_path)
    report(1, 9, snapshot={"x": np.array([1])})
    report(2, 9, snapshot={"x": np.array([2])})
    path = tmp_path / "snapshot.safetensors"
    first = path.read_bytes()
    time.sleep(worker.SNAPSHOT_INTERVAL)
    report(3, 9, snapshot={"x": np.array([3])})
    assert path.read_bytes() != first
    assert {entry.name for entry in tmp_path.iterdir()} == {"snapshot.safetensors", "events.jsonl"}


def test_a_full_disk_does_not_end_a_run_by_its_progress(tmp_path: Path) -> None:
    """Events and snapshots are only views; the run meets the full disk where it can be told."""
    folder = tmp_path / "gone"
    report = worker.Reporter(folder)
    report(1, 3, snapshot={"x": np.ones(2)}, epoch=1)
    assert not folder.exists()
    folder.mkdir()  # there is room again
    report(2, 3, epoch=2)
    assert [event["done"] for event in events.read(folder)] == [2]


def test_progress_raises_cancelled_once_the_flag_is_up(tmp_path: Path) -> None:
    """Again and again, should a runner swallow it."""
    report = worker.Reporter(tmp_path)
    report(1, 9)
    (tmp_path / "cancel").touch()
    time.sleep(worker.LOOK_INTERVAL)
    for _ in range(2):
        with pytest.raises(Cancelled):
            report(2, 9)


def test_the_time_to_go_follows_the_pace() -> None:
    """From the last half minute; none before there is a pace, and a new start begins anew."""
    pace = worker.Pace()
    assert pace.eta(0.0, 0, 100) is None
    assert pace.eta(1.0, 10, 100) == pytest.approx(9.0)
    assert pace.eta(2.0, 20, 100) == pytest.approx(8.0)
    for second in range(3, 63):  # ten times slower from here
        eta = pace.eta(float(second), 20 + (second - 2), 100)
    assert eta == pytest.approx(20, rel=0.1)
    assert pace.eta(63.0, 1, 50) is None
    assert pace.eta(64.0, 2, 50) == pytest.approx(48)
    assert pace.eta(65.0, 1, 50) is None


def test_the_time_to_go_of_slow_steps_is_that_of_the_last() -> None:
    """Steps longer than the window have a pace, too."""
    pace = worker.Pace()
    for step in range(4):
        eta = pace.eta(100.0 * step, step, 10)
    assert eta == pytest.approx(700)


# ---------------------------------------------------------------- jobs as their files tell them


def fake(root: Path, name: str, *log: dict[str, Any], age: float = 1000.0, task: Task = MODEL) -> Path:
    """A job's folder, as a worker that is no more has left it."""
    folder = root / ".jobs" / name
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps({**dump_task(task), "created": time.time() - age}))
    for event in log:
        events.append(folder, event)
    return folder


START = ({"state": "waiting", "time": 100.0}, {"state": "loading", "time": 110.0}, {"state": "running", "time": 112.0})
STEP = {"done": 3, "total": 10, "phase": "training", "eta": 5.0, "metrics": {"loss": 0.5, "lr": None}, "time": 120.0}


def test_an_ended_job_tells_all(tmp_path: Path) -> None:
    """Progress, curves, time at work without the queue, artifacts, and the end of the log."""
    second = {**STEP, "done": 9, "metrics": {"loss": 0.25}, "time": 129.0}
    folder = fake(tmp_path, "one", *START, STEP, second, {"state": "done", "artifacts": ["a"], "time": 130.0})
    (folder / "log.txt").write_bytes(b"x" * 10_000 + "\xe9 end\n".encode())
    job = queue.read("one", tmp_path)
    assert (job.state, job.live, job.done, job.total, job.phase) == ("done", False, 9, 10, "training")
    assert (job.seconds, job.eta, job.artifacts) == (20.0, None, ["a"])
    assert job.metrics == {"loss": 0.25, "lr": pytest.approx(math.nan, nan_ok=True)}
    assert [(moment["done"], moment["loss"], moment["time"]) for moment in job.history] == [
        (3, 0.5, 120.0),
        (9, 0.25, 129.0),
    ]
    assert job.task == MODEL
    assert len(job.log_tail) <= reading.LOG_TAIL
    assert job.log_tail.endswith("é end\n")
    assert job.snapshot() is None


@pytest.mark.parametrize(
    ("log", "cancelled", "state", "message"),
    [
        ((*START, STEP), False, "dead", "ended without a message"),
        ((*START, STEP), True, "cancelled", "Cancelled"),
        (START[:1], False, "dead", "ended without a message"),
        ((), False, "dead", "ended without a message"),
        ((*START, {"state": "failed", "message": "No room."}), False, "failed", "No room."),
        ((*START, {"state": "cancelled", "message": "Stopped."}), True, "cancelled", "Stopped."),
        ((*START, {"state": "done", "artifacts": []}), True, "done", ""),
    ],
)
def test_a_job_without_a_worker_has_ended(
    tmp_path: Path, log: tuple, cancelled: bool, state: str, message: str
) -> None:
    """Whatever its last words were: with the lock free, it is dead or what it said."""
    folder = fake(tmp_path, "one", *log)
    (folder / "lock").touch()
    if cancelled:
        (folder / "cancel").touch()
    with (folder / "events.jsonl").open("ab") as file:
        file.write(b'{"time": 131, "state": "ru')
    job = queue.read("one", tmp_path)
    assert job.state == state
    assert message in job.message
    assert not job.live


def test_a_job_is_live_while_its_lock_is_held(tmp_path: Path) -> None:
    """The state is the last one said, and the time to go shrinks as time goes by."""
    now = time.time()
    log = [{**event, "time": now - 3} for event in (*START, STEP)]
    folder = fake(tmp_path, "one", *log)
    with filelock.FileLock(folder / "lock"):
        job = queue.read("one", tmp_path)
        late = time.time() - now
        assert (job.state, job.live) == ("running", True)
        assert max(0, 2 - late) - 1e-3 <= job.eta <= 2 + 1e-3
        assert 3 - 1e-3 <= job.seconds <= 3 + late + 1e-3
        with pytest.raises(ValueError, match=r"job_id: expected the id of an ended job, got 'one' \(running\)"):
            queue.forget("one", tmp_path)
    assert queue.read("one", tmp_path).state == "dead"


def test_a_new_job_is_starting_until_its_time_is_up(tmp_path: Path) -> None:
    """A worker needs a moment to take its lock; one that never does, or is known to be gone, is dead."""
    fake(tmp_path, "new", age=1)
    fake(tmp_path, "late", age=reading.START_GRACE + 1)
    assert queue.read("new", tmp_path).state == "starting"
    assert queue.read("late", tmp_path).state == "dead"
    if os.name == "posix":
        import platform

        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        fake(tmp_path, "gone", {"pid": gone.pid, "host": platform.node()}, age=1)
        fake(tmp_path, "abroad", {"pid": gone.pid, "host": "another-machine"}, age=1)
        assert queue.read("gone", tmp_path).state == "dead"
        assert queue.read("abroad", tmp_path).state == "starting"


def test_a_worker_that_comes_between_two_looks_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes its lock after the reader looked at it, and speaks before the reader reads: alive, not dead."""
    fake(tmp_path, "one", START[0], age=1)
    looks = iter([False, True])
    monkeypatch.setattr(reading, "is_held", lambda folder: next(looks))
    assert queue.read("one", tmp_path).state == "waiting"


def test_a_worker_that_ends_between_two_looks_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lets its lock go before the reader looks, and its last word comes before the reader reads: done, not dead."""
    folder = fake(tmp_path, "one", *START)

    def look(_: Path) -> bool:
        events.append(folder, {"state": "done", "artifacts": []})
        return False

    monkeypatch.setattr(reading, "is_held", look)
    assert queue.read("one", tmp_path).state == "done"


def test_jobs_are_listed_newest_first_and_broken_ones_left_out(tmp_path: Path) -> None:
    """A folder of another version, or torn, must not take the list away."""
    assert queue.jobs(tmp_path) == []
    for name, age in [("b", 100.0), ("a", 300.0), ("c", 200.0)]:
        fake(tmp_path, name, *START, age=age)
    folder = tmp_path / ".jobs"
    for name, text in [
        ("torn", '{"task": "tra'),
        ("later", '{"task": "other", "spec": {}, "created": 1}'),
        ("refused", '{"task": "train", "spec": {"epochs": -1}, "created": 1}'),
        ("undated", json.dumps(dump_task(MODEL))),
        ("number", "3"),
    ]:
        (folder / name).mkdir()
        (folder / name / "spec.json").write_text(text)
    (folder / "empty").mkdir()
    (folder / "file").write_text("")
    fake(tmp_path, "strange", {"metrics": "good", "state": "running", "eta": "soon"})
    assert [job.id for job in queue.jobs(tmp_path)] == ["b", "c", "a"]
    for name in ("torn", "empty", "nowhere", "undated", "strange"):
        with pytest.raises(ValueError, match=f"job_id: expected the id of a job, got '{name}'"):
            queue.read(name, tmp_path)
    queue.forget("torn", tmp_path)
    assert not (folder / "torn").exists()


@pytest.mark.parametrize("name", ["../one", "..", "", "/etc", "a/b", ".", "x" * 300])
def test_dangerous_job_ids_are_refused(tmp_path: Path, name: str) -> None:
    """Ids come from addresses."""
    fake(tmp_path, "one", *START)
    for ask in (queue.read, queue.cancel, queue.forget):
        with pytest.raises(ValueError, match="job_id: expected an id of letters"):
            ask(name, tmp_path)
    assert (tmp_path / ".jobs" / "one").exists()


def test_forget_removes_the_job_and_nothing_else(tmp_path: Path, runner: Runner) -> None:
    """What it made stays; forgetting twice is a mistake."""
    made = queue.run(MODEL, tmp_path)
    fake(tmp_path, "one", *START, {"state": "done", "artifacts": [made.id]})
    fake(tmp_path, "two", *START)
    queue.forget("one", tmp_path)
    assert [job.id for job in queue.jobs(tmp_path)] == ["two"]
    assert store.find(MODEL, tmp_path) == made
    for ask in (queue.forget, queue.read, queue.cancel):
        with pytest.raises(ValueError, match="job_id: expected the id of"):
            ask("one", tmp_path)


def test_many_ended_jobs_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page asks for the list at every click: what has ended stays as it was, unless its files change."""
    for number in range(30):
        fake(tmp_path, f"job{number}", *START, {"state": "done"})
    first = queue.jobs(tmp_path)
    events.append(tmp_path / ".jobs" / "job3", {"message": "changed"})
    monkeypatch.setattr(reading, "load_task", lambda body: first[0].task)
    read: list[Path] = []
    monkeypatch.setattr(events, "read", lambda folder: read.append(folder) or [])
    queue.jobs(tmp_path)
    assert {path.name for path in read} == {"job3"}


def test_the_oldest_ended_jobs_are_forgotten(tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder does not grow for ever."""
    monkeypatch.setattr(queue, "KEPT", 3)
    for number in range(5):
        fake(tmp_path, f"job{number}", *START, {"state": "done"}, age=100 + number, task=TrainSpec(seed=9))
    queue.run(MODEL, tmp_path)
    new = queue.submit(MODEL, tmp_path)
    assert [job.id for job in queue.jobs(tmp_path)] == [new.id, "job0", "job1", "job2"]


# ---------------------------------------------------------------- jobs as processes


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., queue.Job]]:
    """Submit jobs whose processes are toys; none is left when the test ends."""
    yield from submitting(tmp_path, monkeypatch)


def test_a_job_runs_to_its_end(tmp_path: Path, toys: Callable[..., queue.Job]) -> None:
    """Through its states, with progress, log and environment; asked again, the same job answers."""
    job = toys(seconds=0.7, misdeed="hold")
    assert job.state == "starting"
    assert job.live
    seen = until(job, "running", tmp_path)
    seen = wait_for(lambda: (now := queue.read(job.id, tmp_path)).eta is not None and now)
    assert 0 < seen.done <= 17
    assert seen.total == 35
    assert seen.eta > 0
    assert seen.phase == "toying"
    assert set(seen.snapshot()) == {"x"}
    (tmp_path / "release").touch()
    job = until(job, "done", tmp_path)
    assert job.artifacts == [MODEL.artifact_name()]
    assert (job.done, job.total) == (35, 35)
    assert job.history[-1]["loss"] == job.metrics["loss"] == pytest.approx(1 / 35)
    assert "a word on standard output" in job.log_tail
    assert store.find(MODEL, tmp_path).arrays("weights")["w"].tolist() == [0] * 4
    assert [mark for _, mark, _ in runs(tmp_path)] == ["passed-on"]
    assert toys() == job
    assert len(queue.jobs(tmp_path)) == 1


def test_an_existing_artifact_gives_a_job_that_is_done(tmp_path: Path, runner: Runner) -> None:
    """No process is started; a second asker gets the same job."""
    made = queue.run(MODEL, tmp_path)
    job = queue.submit(MODEL, tmp_path)
    assert (job.state, job.artifacts, job.seconds) == ("done", [made.id], 0.0)
    assert queue.submit(MODEL, tmp_path) == job
    sweep = queue.run(SweepSpec(model=made.id), tmp_path)
    job = queue.submit(CompareSpec(models=("digits",)), tmp_path)
    assert (job.state, job.artifacts) == ("done", [f"{made.id}/results/{sweep.id}"])


def test_submit_refuses_an_unknown_model(tmp_path: Path) -> None:
    """At once, where it was asked, and no folder is left."""
    with pytest.raises(ValueError, match="model: expected the id of a saved model"):
        queue.submit(SweepSpec(model="nothing"), tmp_path)
    assert queue.jobs(tmp_path) == []


def test_submit_makes_a_damaged_artifact_again(tmp_path: Path, toys: Callable[..., queue.Job], runner: Runner) -> None:
    """The job says what was found and that it was set aside."""
    made = queue.run(MODEL, tmp_path)
    done = queue.submit(MODEL, tmp_path)
    (made.folder / "weights.safetensors").write_bytes(b"cut short")
    job = until(toys(), "done", tmp_path)
    assert job.id != done.id
    assert "does not match" in job.message
    assert "set aside" in job.message
    assert len(runs(tmp_path)) == 1


@pytest.mark.slow
def test_two_askers_share_a_job_and_the_next_waits_for_the_device(
    tmp_path: Path, toys: Callable[..., queue.Job]
) -> None:
    """One at a time computes; the other waits its turn, before torch is loaded."""
    first = toys(misdeed="hold")
    until(first, "running", tmp_path)
    assert toys().id == first.id
    other = TrainSpec(seed=7)
    second = until(toys(other), "waiting", tmp_path)
    assert queue.read(first.id, tmp_path).state == "running"
    assert (second.seconds, second.eta) == (0.0, None)
    assert len(runs(tmp_path)) == 1
    (tmp_path / "release").touch()
    until(second, "done", tmp_path)
    assert queue.read(first.id, tmp_path).state == "done"
    assert [loaded for _, _, loaded in runs(tmp_path)] == ["False", "False"]
    assert [job.task for job in queue.jobs(tmp_path)] == [other, MODEL]


@pytest.mark.slow
def test_two_processes_that_run_one_spec_train_once(tmp_path: Path) -> None:
    """The second waits at the lock and finds what the first has made."""
    env = {**os.environ, "TOY_SECONDS": "0.5", "PYTHONPATH": str(PROJECT)}
    askers = [
        subprocess.Popen([*TOY, "run", str(tmp_path)], env=env, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    said = {asker.communicate(timeout=WAIT)[0].splitlines()[-1] for asker in askers}
    assert said == {MODEL.artifact_name()}
    assert len(runs(tmp_path)) == 1


@posix
def test_cancel_ends_the_whole_group_and_leaves_the_store_clean(tmp_path: Path, toys: Callable[..., queue.Job]) -> None:
    """The worker and its children are gone long before their time; the next job has the device."""
    job = until(toys(seconds=60, misdeed="child"), "running", tmp_path)
    child = int(wait_for(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text()))
    start = time.monotonic()
    queue.cancel(job.id, tmp_path)
    job = until(job, "cancelled", tmp_path)
    assert time.monotonic() - start < 30  # measured: 0.2 on a quiet machine; they would live for 60
    assert "Cancelled" in job.message
    wait_for(lambda: not _lives(child))
    assert remains(tmp_path) == []
    assert store.find(MODEL, tmp_path) is None
    assert queue.cancel(job.id, tmp_path).state == "cancelled"
    again = toys()
    assert again.id != job.id
    until(again, "done", tmp_path)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # an orphan in a container may stay a zombie: dead all the same
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


@posix
def test_waiting_and_starting_jobs_can_be_cancelled(tmp_path: Path, toys: Callable[..., queue.Job]) -> None:
    """Nothing is run for them; the job before goes on."""
    first = until(toys(seconds=60), "running", tmp_path)
    waiting = until(toys(TrainSpec(seed=1)), "waiting", tmp_path)
    starting = toys(TrainSpec(seed=2))
    queue.cancel(waiting.id, tmp_path)
    queue.cancel(starting.id, tmp_path)
    until(waiting, "cancelled", tmp_path)
    until(starting, "cancelled", tmp_path)
    assert queue.read(first.id, tmp_path).state == "running"
    queue.cancel(first.id, tmp_path)
    until(first, "cancelled", tmp_path)
    assert len(runs(tmp_path)) == 1


@posix
def test_cancel_in_mid_write_leaves_the_store_clean(tmp_path: Path, toys: Callable[..., queue.Job]) -> None:
    """The half-written folder goes with the job."""
    job = toys(misdeed="slow write")
    wait_for(lambda: (tmp_path / "writing").exists())
    assert len(remains(tmp_path)) == 1
    queue.cancel(job.id, tmp_path)
    until(job, "cancelled", tmp_path)
    assert remains(tmp_path) == []


@pytest.mark.slow
@posix
def test_a_worker_that_does_not_listen_is_killed(tmp_path: Path, toys: Callable[..., queue.Job]) -> None:
    """A few seconds after it was asked, at the next look."""
    job = until(toys(misdeed="deaf"), "running", tmp_path)
    wait_for(lambda: queue.read(job.id, tmp_path).phase == "deaf")
    queue.cancel(job.id, tmp_path)
    wait_for(lambda: (tmp_path / "heard").exists())
    until(job, "cancelled", tmp_path)
    wait_for(lambda: not queue._children)
    assert remains(tmp_path) == []


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_from_outside_cancels(tmp_path: Path, toys: Callable[..., queue.Job], number: int) -> None:
    """As when the machine is shut down."""
    job = until(toys(seconds=60), "running", tmp_path)
    pid = int(wait_for(lambda: runs(tmp_path))[0][0])
    os.kill(pid, number)
    until(job, "cancelled", tmp_path)


@posix
def test_a_killed_job_is_dead_at_once(tmp_path: Path, toys: Callable[..., queue.Job]) -> None:
    """With the end of its log; it leaves no zombie, and the device and the artifact are free for the next."""
    job = until(toys(seconds=60), "running", tmp_path)
    pid = int(wait_for(lambda: runs(tmp_path))[0][0])
    wait_for(lambda: "a word" in queue.read(job.id, tmp_path).log_tail)
    assert os.getpgid(pid) == os.getsid(pid) == pid  # signals for the server pass it by
    assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
    os.kill(pid, signal.SIGKILL)
    start = time.monotonic()
    job = until(job, "dead", tmp_path)
    assert time.monotonic() - start < 30  # not when its 60 seconds are over
    assert "a word on standard output" in job.log_tail
    assert "killed, or out of memory" in job.message
    wait_for(lambda: not Path(f"/proc/{pid}").exists())
    queue.forget(job.id, tmp_path)
    until(toys(), "done", tmp_path)


@pytest.mark.slow
@posix
def test_a_job_killed_in_mid_write_leaves_the_store_clean(tmp_path: Path, toys: Callable[..., queue.Job]) -> None:
    """Whoever sees that it is dead has cleared away what it had half written."""
    until(toys(misdeed="killed in mid-write"), "dead", tmp_path)
    assert remains(tmp_path) == []
    assert store.find(MODEL, tmp_path) is None
    until(toys(), "done", tmp_path)


def test_a_failed_job_says_why(tmp_path: Path, toys: Callable[..., queue.Job]) -> None:
    """One sentence on the job, the traceback in its log; asked again, it is run again."""
    job = until(toys(misdeed="raise"), "failed", tmp_path)
    assert job.message == "RuntimeError: the toy is broken"
    assert "Traceback" in job.log_tail
    assert remains(tmp_path) == []
    until(toys(), "done", tmp_path)


def test_a_process_that_cannot_start_is_a_failed_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not one that starts for ever."""
    monkeypatch.setattr(queue, "_command", lambda folder: [str(tmp_path / "no-such-program")])
    job = queue.submit(MODEL, tmp_path)
    assert job.state == "failed"
    assert "No process could be started" in job.message


SERVER = """
import sys
from pathlib import Path
from core.jobs import queue
from core.specs import TrainSpec
from tests.planted import CARD

queue._command = lambda folder: [*sys.argv[2:], "work", str(folder)]
print(queue.submit(TrainSpec(epochs=1), Path(sys.argv[1])).id)
"""


@posix
def test_a_restarted_server_finds_its_jobs_again(tmp_path: Path) -> None:
    """All that is known is in files: another process sees the job running, and can cancel it."""
    env = {**os.environ, "TOY_SECONDS": "60", "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-W", "error", "-c", SERVER, str(tmp_path), *TOY]
    server = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    assert server.stderr == ""
    job = queue.read(server.stdout.strip(), tmp_path)
    job = until(job, "running", tmp_path)
    assert [found.id for found in queue.jobs(tmp_path)] == [job.id]
    assert queue.submit(MODEL, tmp_path).id == job.id
    queue.cancel(job.id, tmp_path)
    until(job, "cancelled", tmp_path)


SECOND = "import sys; from core.jobs import worker; worker.LOCK_TIMEOUT = 0.1; sys.exit(worker.work(sys.argv[1]))"


def test_a_job_is_done_once(tmp_path: Path, runner: Runner) -> None:
    """A second worker in the same folder goes away, during the first one's life and after it."""
    folder = fake(tmp_path, "one")
    with filelock.FileLock(folder / "lock"):
        second = subprocess.run([sys.executable, "-c", SECOND, folder], cwd=PROJECT, check=False, capture_output=True)
    assert second.returncode == 1
    assert b"another process works on this job" in second.stderr
    assert queue.work(folder) == 0
    assert queue.work(folder) == 0
    assert runner.made == [MODEL]
    assert queue.read("one", tmp_path).state == "done"


def test_a_worker_of_a_broken_folder_says_so(tmp_path: Path, runner: Runner) -> None:
    """A job whose spec cannot be read fails; it does not vanish."""
    folder = fake(tmp_path, "one")
    (folder / "spec.json").write_text('{"task": "other"}')
    assert queue.work(folder) == 1
    assert events.read(folder)[-1]["state"] == "failed"
    assert "task: expected one of train" in events.read(folder)[-1]["message"]


def test_the_real_entry_trains_a_real_model(tmp_path: Path) -> None:
    """`python -m core work`, PyTorch and all, from another working folder."""
    spec = TrainSpec(network="linear", epochs=2)
    job = queue.submit(spec, tmp_path)
    job = until(job, "done", tmp_path)
    found = store.find(spec, tmp_path)
    assert found is not None
    assert found.card["metrics"]["test_accuracy"] > 0.5
    assert [moment["epoch"] for moment in job.history if "epoch" in moment][-1] == 2
    shutil.rmtree(tmp_path / ".jobs")
    assert queue.jobs(tmp_path) == []
