"""A process that waits with PyTorch loaded: it takes the next job, and nothing depends on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.jobs import events, queue, reading, spare, turns
from core.specs import TrainSpec
from core.storage import store

TOY = [sys.executable, str(Path(__file__).with_name("toy_worker.py"))]
WAIT = 300.0  # seconds at most: a wait ends when its condition holds
posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")


def wait_for(true: Callable[[], Any]) -> Any:
    """Whatever `true` gives, as soon as it is true."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        if value := true():
            return value
        time.sleep(0.01)
    raise AssertionError(f"not true after {WAIT} s")


def until(job: queue.Job, state: str, root: Path) -> queue.Job:
    """The job as soon as it is in `state`."""
    return wait_for(lambda: (now := queue.read(job.id, root)).state == state and now)


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Gives the number of a toy that waits for a job. No process is left when the test ends."""
    monkeypatch.setattr(queue, "_command", lambda folder: [*TOY, "work", str(folder)])
    monkeypatch.setattr(reading, "START_GRACE", WAIT)
    monkeypatch.setattr(turns, "CARRIED", (*turns.CARRIED, "TOY_"))
    monkeypatch.setattr(spare, "_command", lambda: [*TOY, "wait"])
    monkeypatch.setattr(spare, "ANSWER", WAIT)
    monkeypatch.setattr(spare, "PAUSE", WAIT)  # a second one comes only where a test asks for it
    monkeypatch.setattr(spare, "_not_before", 0.0)
    monkeypatch.setenv(spare.SETTING, "1")
    monkeypatch.setattr(spare, "NEEDED", 0)

    def make() -> int:
        monkeypatch.setattr(spare, "_not_before", 0.0)
        spare.keep()
        assert spare._spare is not None
        assert spare._spare.ready.wait(WAIT)
        return spare._spare.process.pid

    yield make
    spare.stop()
    for process in list(queue._children.values()):
        process.kill()
    wait_for(lambda: not queue._children)


def workers(root: Path) -> list[int]:
    """The processes that ran toys."""
    path = root / "runs"
    return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_waiting_process_takes_the_next_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ready: Callable[[], int]
) -> None:
    """At once: `submit` returns with the worker at it. It has the asker's environment, the job's own log, and ends."""
    monkeypatch.setenv("TOY_MARK", "passed-on")
    number = ready()
    job = queue.submit(TrainSpec(epochs=1), tmp_path)
    assert job.state != "starting", "it had taken the lock and said so before submit returned"
    job = until(job, "done", tmp_path)
    assert workers(tmp_path) == [number]
    assert (tmp_path / "runs").read_text().split()[1] == "passed-on"
    assert "a word on standard output" in job.log_tail
    assert store.find(TrainSpec(epochs=1), tmp_path) is not None
    wait_for(lambda: not queue._children)


def test_of_two_jobs_at_once_one_is_taken_and_the_other_has_the_ordinary_start(
    tmp_path: Path, ready: Callable[[], int]
) -> None:
    """Each in a process of its own, one after the other on the device."""
    number = ready()
    jobs = [queue.submit(TrainSpec(epochs=1, seed=seed), tmp_path) for seed in (0, 1)]
    for job in jobs:
        until(job, "done", tmp_path)
    found = workers(tmp_path)
    assert len(set(found)) == 2
    assert number in found


def test_the_next_job_finds_the_next_process(tmp_path: Path, ready: Callable[[], int]) -> None:
    """One process takes one job."""
    numbers = []
    for seed in (0, 1):
        numbers.append(ready())
        until(queue.submit(TrainSpec(epochs=1, seed=seed), tmp_path), "done", tmp_path)
    assert workers(tmp_path) == numbers
    assert len(set(numbers)) == 2


@posix
def test_a_process_that_died_while_it_waited_harms_nothing(tmp_path: Path, ready: Callable[[], int]) -> None:
    """The job has the ordinary start."""
    number = ready()
    os.kill(number, signal.SIGKILL)
    until(queue.submit(TrainSpec(epochs=1), tmp_path), "done", tmp_path)
    assert number not in workers(tmp_path)


@posix
def test_a_process_that_does_not_answer_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ready: Callable[[], int]
) -> None:
    """It hangs; it is ended, so that it cannot come to the job later."""
    number = ready()
    monkeypatch.setattr(spare, "ANSWER", 0.2)
    os.kill(number, signal.SIGSTOP)
    until(queue.submit(TrainSpec(epochs=1), tmp_path), "done", tmp_path)
    assert number not in workers(tmp_path)
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


@posix
@pytest.mark.parametrize("asked", [True, False])
def test_its_job_is_cancelled_or_killed_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ready: Callable[[], int], asked: bool
) -> None:
    """Cancelled is cancelled, `kill -9` is shown as a crash."""
    monkeypatch.setenv("TOY_MISDEED", "hold")
    number = ready()
    job = until(queue.submit(TrainSpec(epochs=1), tmp_path), "running", tmp_path)
    if asked:
        queue.cancel(job.id, tmp_path)
    else:
        os.kill(number, signal.SIGKILL)
    until(job, "cancelled" if asked else "dead", tmp_path)


@pytest.mark.parametrize("changed", ["code", "environment", "folder"])
def test_what_was_started_under_other_circumstances_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ready: Callable[[], int], changed: str
) -> None:
    """After a change of the code, of the environment or of the working folder, the ordinary start is used."""
    number = ready()
    if changed == "code":
        before = spare._code
        monkeypatch.setattr(spare, "_code", lambda folder: [*before(folder), ("new.py", 1, 1)])
    elif changed == "environment":
        monkeypatch.setenv("ADVERSARIAL_LAB_DATA", str(tmp_path))
    else:
        monkeypatch.chdir(tmp_path)
    until(queue.submit(TrainSpec(epochs=1), tmp_path), "done", tmp_path)
    assert number not in workers(tmp_path)
    assert spare._spare is None


def test_a_change_of_any_source_file_is_seen(tmp_path: Path) -> None:
    """Content of another length, another time, a new file in a folder below."""
    (tmp_path / "below").mkdir()
    (tmp_path / "a.py").write_text("one")
    seen = [list(spare._code(tmp_path))]
    (tmp_path / "a.py").write_text("two and more")
    seen.append(list(spare._code(tmp_path)))
    os.utime(tmp_path / "a.py", (1, 1))
    seen.append(list(spare._code(tmp_path)))
    (tmp_path / "below" / "b.py").touch()
    seen.append(list(spare._code(tmp_path)))
    assert all(one != other for place, one in enumerate(seen) for other in seen[:place])


def test_it_ends_when_nothing_is_asked_of_it(monkeypatch: pytest.MonkeyPatch, ready: Callable[[], int]) -> None:
    """After a while; then the next `keep` starts another."""
    monkeypatch.setenv("TOY_IDLE", "0.1")
    number = ready()
    wait_for(lambda: not spare._spare.alive)
    assert spare._spare.process.returncode == 0
    monkeypatch.delenv("TOY_IDLE")
    assert ready() != number


def test_it_ends_with_the_server(tmp_path: Path, ready: Callable[[], int]) -> None:
    """Even when the server is killed."""
    server = (
        "import sys, time; from core.jobs import spare; spare._command = lambda: sys.argv[1:];"
        "spare.NEEDED = 0; spare.keep(); spare._spare.ready.wait();"
        "print(spare._spare.process.pid, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", server, *TOY, "wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=spare.PROJECT) as process:
        number = int(process.stdout.readline())
        os.kill(number, 0)
        process.kill()

    def gone() -> bool:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        # an orphan without anybody to collect it, as in a container whose first process does not
        stat = Path(f"/proc/{number}/stat")
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"

    wait_for(gone)


@pytest.mark.parametrize("why", ["setting", "memory"])
def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch, ready: Callable[[], int], why: str) -> None:
    """By the setting, and where memory is small."""
    if why == "setting":
        monkeypatch.setenv(spare.SETTING, "0")
    else:
        monkeypatch.setattr(spare, "NEEDED", 2**60)
    spare.keep()
    assert spare._spare is None


def test_one_that_cannot_load_is_not_started_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ready: Callable[[], int]
) -> None:
    """After a failure there is none for a while, and jobs have the ordinary start."""
    monkeypatch.setenv("TOY_MISDEED", "no torch")
    spare.keep()
    wait_for(lambda: spare._spare.failed)
    spare.keep()
    assert spare._spare is None
    until(queue.submit(TrainSpec(epochs=1), tmp_path), "done", tmp_path)


@pytest.mark.slow
def test_the_real_one_has_loaded_all_that_a_job_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ready: Callable[[], int]
) -> None:
    """Its job is at work as soon as it is taken: it loads nothing more, so that it says so within one look at it."""
    monkeypatch.undo()
    monkeypatch.setenv(spare.SETTING, "1")
    monkeypatch.setattr(spare, "NEEDED", 0)
    monkeypatch.setattr(spare, "ANSWER", WAIT)
    begun = time.time()
    spare.keep()
    assert spare._spare.ready.wait(WAIT)
    loaded = time.time()
    number = spare._spare.process.pid
    job = queue.submit(TrainSpec(data={"dataset": "digits"}, network="linear", epochs=1), tmp_path)
    job = until(job, "done", tmp_path)
    log = events.read(job.folder)
    assert {event["pid"] for event in log if "pid" in event} == {number}
    at = {event["state"]: event["time"] for event in log if "state" in event}
    assert at["running"] - at["loading"] < 0.1 * (loaded - begun), "of what it takes to load"
