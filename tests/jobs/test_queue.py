"""Jobs outlive whoever asked, end when told to, and never end in a way that nobody sees."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest

from core.jobs import events, queue
from core.specs import (
    CompareSpec,
    SweepSpec,
    TrainSpec,
)
from core.storage import store
from tests.jobs.toys import MODEL, START, TOY, WAIT, Runner, fake, remains, runs, until, wait_for

PROJECT = Path(queue.__file__).parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")
pytestmark = pytest.mark.usefixtures("patient")


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


def test_a_job_is_of_whoever_made_it(tmp_path: Path, toys: Callable[..., queue.Job], runner: Runner) -> None:
    """Whoever asks for the same gets the job, live or done, and it stays what it was; a new one is of its asker."""
    with filelock.FileLock(fake(tmp_path, "one", *START) / "lock"):
        assert (queue.submit(MODEL, tmp_path, owner="ann").id, queue.read("one", tmp_path).owner) == ("one", "")
    queue.forget("one", tmp_path)
    queue.run(MODEL, tmp_path)
    assert [queue.submit(MODEL, tmp_path, owner=who).owner for who in ("ann", "bob", "")] == ["ann"] * 3
    queue.forget(queue.jobs(tmp_path)[0].id, tmp_path)
    assert queue.submit(MODEL, tmp_path, owner="bob").owner == "bob"


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
