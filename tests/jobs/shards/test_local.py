"""Shards in processes of this machine: the same artifact as in one piece, whatever happens on the way."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.__main__ import main
from core.jobs import processes, queue
from core.jobs.shards import drive, engines, kept
from core.progress import Cancelled
from core.specs import CompareSpec, EvaluateSpec, TrainSpec
from core.storage import store
from tests.jobs.shards.toys import RADII, Made, assert_alike, left, run, shards, workers
from tests.jobs.toys import wait_for

pytestmark = pytest.mark.skipif(os.name != "posix", reason="ends processes by signals")


def test_two_processes_leave_what_one_leaves(root: Path, whole: Made) -> None:
    """The same key, rows and card; nothing else is left, and progress only grows, up to all images."""
    seen: list[tuple[int, int, str]] = []

    def report(done: int, total: int, *, phase: str | None = None, **more: Any) -> None:
        seen.append((done, total, phase or ""))

    made = Made(run(RADII, root, "local:2", on_progress=report))
    assert_alike(whole, made)
    assert {name: made.card["shards"][name] for name in ("engine", "count", "machines")} == {
        "engine": "local",
        "count": 4,
        "machines": 1,
    }
    assert not kept.folder(RADII, root).exists()
    assert not left(root)
    assert not workers()
    counted = [done for done, total, _ in seen if total == 120]
    assert counted == sorted(counted)
    assert counted[-1] == 120
    assert any("of 4 shards" in phase and "images/s" in phase for _, _, phase in seen)


def test_an_evaluation_and_a_comparison_in_shards(root: Path) -> None:
    """Reliability checks and cells of a comparison come out as they do in one process."""
    spec = EvaluateSpec(model="digits-mlp", eps=0.05, effort="quick", n=90)
    assert_alike(Made(run(spec, root)), Made(run(spec, root, "local:2")))
    compared = CompareSpec(models=("digits-linear", "digits-mlp"), attacks=({"name": "fgsm"},), eps=(0.1,), n=90)
    cells = store.resolve(compared, root).sweeps()
    plain = [Made(run(cell, root)) for cell in cells]
    for cell in cells:
        run(cell, root)
        for file in store.locate(cell, root).iterdir():
            file.unlink()
        store.locate(cell, root).rmdir()
    with engines.on("local:2"):
        made = queue.run(compared, root, device="cpu")
    for one, other in zip(plain, made, strict=True):
        assert_alike(one, Made(other))


def cancelled(root: Path, **how: Any) -> None:
    """Run until a shard is done, and cancel."""

    def report(done: int, total: int, **more: Any) -> None:
        if shards(RADII, root):
            raise Cancelled

    with pytest.raises(Cancelled):
        run(RADII, root, "local:2", on_progress=report, **how)


def test_a_cancelled_run_leaves_no_process_and_resumes(root: Path, whole: Made) -> None:
    """Every process ends, nothing is seen as a result; what was finished is not made again."""
    cancelled(root)
    assert not workers()
    assert not left(root)
    assert store.find(store.resolve(RADII, root), root) is None
    where = kept.folder(store.resolve(RADII, root), root)
    before = {name: (where / name).stat().st_mtime_ns for name in shards(RADII, root)}
    assert before
    again: dict[str, int] = {}

    def report(done: int, total: int, **more: Any) -> None:
        again.update({name: (where / name).stat().st_mtime_ns for name in shards(RADII, root)})

    assert_alike(whole, Made(run(RADII, root, "local:2", on_progress=report)))
    assert {name: again[name] for name in before} == before


def test_damaged_and_foreign_shards_are_made_again(root: Path, whole: Made) -> None:
    """A flipped bit, half a file, and the shard of another run are no shards of this one."""
    cancelled(root)
    where = kept.folder(store.resolve(RADII, root), root)
    first = where / shards(RADII, root)[0]
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    (where / "000030-000060.shard").write_bytes(bytes(data[:100]))
    kept.write(where / "000060-000090.shard", kept.Kept({}), {"rows": [60, 90]})
    assert_alike(whole, Made(run(RADII, root, "local:2")))


def test_a_killed_process_s_shard_is_made_by_another(root: Path, whole: Made) -> None:
    """A worker that is killed in the middle of its shard costs that shard, and no more."""
    killed: list[int] = []

    def report(done: int, total: int, **more: Any) -> None:
        if shards(RADII, root) and len(killed) < 2 and (there := workers()):
            os.kill(there[0], signal.SIGKILL)
            killed.append(there[0])

    assert_alike(whole, Made(run(RADII, root, "local:2", on_progress=report)))
    assert killed


ASKS = """
import sys
from pathlib import Path
from core.jobs.shards import ranges
from tests.jobs.shards.toys import RADII, SIZE, run
ranges.SIZES = dict.fromkeys(ranges.SIZES, SIZE)
run(RADII, Path(sys.argv[1]), "local:2")
"""


def test_a_killed_asker_takes_its_processes_along_and_is_resumed(root: Path, whole: Made) -> None:
    """SIGKILL of the process that asks ends all; started again, it goes on with what there is."""
    asker = subprocess.Popen([sys.executable, "-c", ASKS, str(root)], cwd=processes.PROJECT)
    try:
        wait_for(lambda: shards(RADII, root))
        children = [
            int(entry.name)
            for entry in Path("/proc").glob("[0-9]*")
            if (entry / "stat").exists()
            and (entry / "stat").read_text().rpartition(")")[2].split()[1] == str(asker.pid)
        ]
    finally:
        asker.kill()
        asker.wait()
    assert len(children) == 2
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    before = shards(RADII, root)
    where = kept.folder(store.resolve(RADII, root), root)
    kept_at = (where / before[0]).stat().st_mtime_ns
    times: list[int] = []

    def report(done: int, total: int, **more: Any) -> None:
        if (where / before[0]).exists():
            times.append((where / before[0]).stat().st_mtime_ns)

    assert_alike(whole, Made(run(RADII, root, "local:2", on_progress=report)))
    assert set(times) == {kept_at}
    assert not left(root)


def test_a_full_disk_is_said_and_loses_nothing(root: Path, whole: Made) -> None:
    """A shard that finds no room ends the run with the system's words; with room again it is finished."""
    cancelled(root)
    before = shards(RADII, root)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (4096, hard)
    )  # a file may not be larger: as on a full disk, a write fails
    try:
        with pytest.raises(OSError, match="too large"):
            run(RADII, root, "local:2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert shards(RADII, root) == before
    assert not left(root)
    assert not workers()
    assert_alike(whole, Made(run(RADII, root, "local:2")))


def test_another_version_of_the_code_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that run other code than the one that asks would mix two programs into one result."""
    monkeypatch.setattr(drive.version, "version", lambda: "0.0.0 (source 0000000000, torch 0)")
    with pytest.raises(
        ValueError, match=r"expected Adversarial Lab 0.0.0 .* on every machine, got .*: install the same"
    ):
        run(RADII, root, "local:1")
    assert not left(root)


def test_errors_of_a_task_are_those_of_one_process(root: Path) -> None:
    """What is wrong with a request is said as it is without an engine, and from the command line as well."""
    spec = EvaluateSpec(model="digits-mlp", eps=0.1, n=90, threshold=1.0)
    with pytest.raises(ValueError) as plain:
        run(spec, root)
    with pytest.raises(ValueError) as apart:
        run(spec, root, "local:2")
    assert str(apart.value) == str(plain.value)


def test_what_fits_one_shard_or_is_no_such_task_runs_here(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No process is started for a few images; a training takes no notice of the setting."""
    monkeypatch.setenv(engines.SETTING, "local:2")
    monkeypatch.setenv("ADVERSARIAL_LAB_STORE", str(root))
    assert main(["radii", "--model", "digits-mlp", "--n", "30", "--budget", "60", "--on", "local:2", "--json"]) == 0
    assert "shards" not in store.results(json.loads(capsys.readouterr().out)["model"], root, "radii")[0].card
    with drive.pool(engines.chosen(), None, lambda: "cpu") as pool:
        assert not pool.takes(TrainSpec())
        assert pool.takes(RADII)


def test_a_job_runs_where_the_environment_says(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's job is one of the server's engine: its events show shards, and cancelling it ends them all."""
    monkeypatch.setenv(engines.SETTING, "local:2")
    monkeypatch.setattr(queue, "KILL_AFTER", 60.0)
    spec = RADII.model_copy(update={"n": 360, "budget": 2000})  # two shards of 250: the job is another process
    job = queue.submit(spec, root)
    now = (
        wait_for(lambda: (job := queue.read(job_id, root)).total == 360 and job, seconds=120)
        if (job_id := job.id)
        else 0
    )
    assert "shards" in now.phase
    queue.cancel(job.id, root)
    ended = wait_for(lambda: not (now := queue.read(job.id, root)).live and now)
    assert ended.state == "cancelled"
    assert not left(root)


def test_bad_engines_are_refused_in_a_sentence(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """On the command line and in the environment; the sentence says what may be asked for."""
    for text in (
        "local",
        "local:0",
        "local:999",
        "local:x",
        "slurm",
        "ray:/x",
        "host",
        "host:0",
        "host:70000",
        "a b:1",
    ):
        assert main(["radii", "--model", "digits-mlp", "--on", text]) == 2
        assert f"got {text!r}" in capsys.readouterr().err
    for text in ("local:1", "ray", "ray://head:10001", "10.0.0.1:6379", "[::1]:6379"):
        assert engines.parse(text) is not None
    monkeypatch.setenv(engines.SETTING, "gpu")
    with pytest.raises(ValueError, match=r"ADVERSARIAL_LAB_ENGINE: engine: expected local:N"):
        run(RADII, root)


def test_threads_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """N processes run no more threads than there are cores, and no more than was asked for."""
    from core.jobs.shards.local import _share

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processes, "cores", lambda: 8)
    assert [_share(0, n, "cpu")["OMP_NUM_THREADS"] for n in (1, 3, 8, 20)] == ["8", "2", "1", "1"]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert _share(0, 2, "cpu")["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [_share(n, 4, "cuda")["CUDA_VISIBLE_DEVICES"] for n in range(3)] == ["3", "5", "3"]
