"""Shards in processes of this machine: the same artifact as in one piece, whatever happens on the way."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.__main__ import main
from core.jobs import processes, queue
from core.jobs.shards import drive, engines, kept, local
from core.progress import Cancelled
from core.specs import CompareSpec, EvaluateSpec, TrainSpec
from core.storage import store
from tests.jobs.shards.toys import RADII, Made, assert_alike, left, run, shards, toy, workers
from tests.jobs.toys import wait_for

pytestmark = pytest.mark.skipif(os.name != "posix", reason="ends processes by signals")
TOY = [sys.executable, str(Path(__file__).with_name("toy_serve.py"))]


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes whose steps are toys."""
    monkeypatch.setattr(local, "COMMAND", TOY)


# ---------------------------------------------------------------- the real thing


def test_two_processes_leave_what_one_leaves(root: Path, whole: Made) -> None:
    """The same key, rows and card; nothing else is left, and progress only grows, up to all images."""
    seen: list[tuple[int, int, str]] = []

    def report(done: int, total: int, *, phase: str | None = None, **more: Any) -> None:
        seen.append((done, total, phase or ""))

    made = Made(run(RADII, root, "local:2", on_progress=report))
    assert_alike(whole, made)
    assert [made.card["shards"][name] for name in ("engine", "count", "machines")] == ["local", 4, 1]
    assert not kept.folder(RADII, root).exists()
    assert not left(root)
    assert not workers()
    counted = [done for done, total, _ in seen if total == 120]
    assert counted == sorted(counted)
    assert counted[-1] == 120
    assert any("of 4 shards" in phase and "images/s" in phase for _, _, phase in seen)


@pytest.mark.slow
def test_a_comparison_in_shards(root: Path) -> None:
    """Each of its cells comes out as it does in one process."""
    compared = CompareSpec(models=("digits-linear", "digits-mlp"), attacks=({"name": "fgsm"},), eps=(0.1,), n=90)
    cells = store.resolve(compared, root).sweeps()
    plain = [Made(run(cell, root)) for cell in cells]
    for cell in cells:
        store.locate(cell, root).rename(root / f"set-{cell.model}")
    with engines.on("local:2"):
        made = queue.run(compared, root, device="cpu")
    for one, other in zip(plain, made, strict=True):
        assert_alike(one, Made(other))


def test_errors_of_a_task_are_those_of_one_process(root: Path) -> None:
    """What is wrong with a request is said as it is without an engine."""
    spec = EvaluateSpec(model="digits-mlp", eps=0.1, n=90, threshold=1.0)
    said = []
    for on in ("", "local:1"):
        with pytest.raises(ValueError, match="threshold") as error:
            run(spec, root, on)
        said.append(str(error.value))
    assert said[0] == said[1]


# ---------------------------------------------------------------- what happens on the way


def cancelled(root: Path) -> list[str]:
    """Run until a shard is done, and cancel; the shards that are done."""

    def report(done: int, total: int, **more: Any) -> None:
        if shards(RADII, root):
            raise Cancelled

    with pytest.raises(Cancelled):
        toy(root, on_progress=report)
    return shards(RADII, root)


@pytest.mark.usefixtures("toys")
def test_a_cancelled_run_leaves_no_process_and_resumes(root: Path) -> None:
    """Every process ends, nothing is seen as a result; what was finished is not made again."""
    done = cancelled(root)
    assert done
    assert len(done) < 4
    assert not workers()
    assert not left(root)
    assert store.find(store.resolve(RADII, root), root) is None
    where = kept.folder(store.resolve(RADII, root), root)
    of = {low: {"toy": 1, "rows": [low, low + 30]} for low in (int(name[:6]) for name in done)}
    made = {low: kept.read(kept.path(where, (low, low + 30), kept.SHARD), of[low]) for low in of}
    by = toy(root)
    for low, part in made.items():
        assert part is not None
        assert by[low : low + 30] == part.tables["rows"]["process"].tolist()


@pytest.mark.usefixtures("toys")
def test_damaged_and_foreign_shards_are_made_again(root: Path) -> None:
    """A flipped bit, half a file, and the shard of another run are no shards of this one."""
    first, *_ = cancelled(root)
    where = kept.folder(store.resolve(RADII, root), root)
    data = bytearray((where / first).read_bytes())
    data[len(data) // 2] ^= 1
    (where / first).write_bytes(data)
    (where / "000060-000090.shard").write_bytes(bytes(data[:100]))
    kept.write(where / "000090-000120.shard", kept.Kept({}), {"rows": [90, 120]})
    toy(root)


@pytest.mark.usefixtures("toys")
def test_a_process_that_dies_costs_its_shard_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes it; one that dies each time ends the run with a sentence, and what was done is kept."""
    monkeypatch.setenv("TOY_MISDEED", "die")
    assert len(set(toy(root))) in (2, 3)
    monkeypatch.setenv("TOY_MISDEED", "die always")
    with pytest.raises(engines.EngineError, match=r"images 30 to 60 was ended by signal 9, 3 times.* lack of memory"):
        toy(root)
    assert "000000-000030.shard" in shards(RADII, root)
    assert not workers()
    assert not left(root)


ASKS = """
import sys
from pathlib import Path
from core.jobs.shards import local, ranges
from tests.jobs.shards.toys import SIZE, toy
ranges.SIZES = dict.fromkeys(ranges.SIZES, SIZE)
local.COMMAND = sys.argv[2:]
toy(Path(sys.argv[1]))
"""


@pytest.mark.usefixtures("toys")
def test_a_killed_asker_takes_its_processes_along_and_is_resumed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL of the process that asks ends all, in the middle of a shard; started again, it goes on."""
    monkeypatch.setenv("TOY_SECONDS", "1")
    asker = subprocess.Popen([sys.executable, "-c", ASKS, str(root), *TOY], cwd=processes.PROJECT)
    try:
        wait_for(lambda: shards(RADII, root))
        there = workers(asker.pid)
    finally:
        asker.kill()
        asker.wait()
    assert len(there) == 2
    wait_for(lambda: not any(Path(f"/proc/{one}").exists() for one in there))
    done = shards(RADII, root)
    assert len(done) < 4
    monkeypatch.setenv("TOY_SECONDS", "0.1")
    by = toy(root)
    assert all(set(by[int(name[:6]) : int(name[7:13])]) <= set(there) for name in done)
    assert not left(root)


@pytest.mark.usefixtures("toys")
def test_a_full_disk_is_said_and_loses_nothing(root: Path) -> None:
    """A shard that finds no room ends the run with the system's words; with room again it is finished."""
    done = cancelled(root)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # as on a full disk, the system refuses to write more
    try:
        with pytest.raises(OSError, match="too large"):
            toy(root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert shards(RADII, root) == done
    assert not left(root)
    assert not workers()
    toy(root)


@pytest.mark.usefixtures("toys")
def test_another_version_of_the_code_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that run other code than the one that asks would mix two programs into one result."""
    monkeypatch.setattr(drive.version, "version", lambda: "0.0.0 (source 0000000000, torch 0)")
    with pytest.raises(ValueError, match=r"expected Adversarial Lab 0.0.0 .* on every machine, got .*: install"):
        toy(root)
    assert not left(root)


@pytest.mark.usefixtures("toys")
def test_a_store_that_is_not_shared_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does not see the asker's request refuses, and makes nothing elsewhere."""
    real = kept.open_request
    monkeypatch.setattr(kept, "open_request", lambda where, task, mark: real(where, task, "another"))
    with pytest.raises(ValueError, match="expected the store in a folder that every machine sees"):
        toy(root)


def test_what_fits_one_shard_or_is_no_such_task_runs_here(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No process is started for a few images; a training takes no notice of the setting."""
    monkeypatch.setenv(engines.SETTING, "local:2")
    monkeypatch.setenv("ADVERSARIAL_LAB_STORE", str(root))
    assert main(["radii", "--model", "digits-mlp", "--n", "30", "--budget", "60", "--on", "local:2", "--json"]) == 0
    (made,) = store.results(json.loads(capsys.readouterr().out)["model"], root, "radii")
    assert "shards" not in made.card
    with drive.pool(engines.chosen(), None, lambda: "cpu") as pool:
        assert not pool.takes(TrainSpec())
        assert pool.takes(RADII)


def test_what_is_printed_while_it_runs_is_no_part_of_the_result(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray prints on standard output when a node is lost; `--json` stays JSON."""
    real = queue.run

    def chatty(*args: Any, **options: Any) -> Any:
        sys.stdout.write("(raylet) a node is lost\n")
        return real(*args, **options)

    monkeypatch.setattr(queue, "run", chatty)
    monkeypatch.setenv("ADVERSARIAL_LAB_STORE", str(root))
    assert main(["radii", "--model", "digits-mlp", "--n", "10", "--budget", "60", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["n"] == 10
    assert "a node is lost" in said.err


@pytest.mark.slow
def test_a_job_runs_where_the_environment_says(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's job is one of the server's engine: its events show shards, and cancelling it ends them all."""
    monkeypatch.setenv(engines.SETTING, "local:2")
    monkeypatch.setattr(queue, "KILL_AFTER", 60.0)
    spec = RADII.model_copy(update={"n": 360, "budget": 2000})  # two shards of 250: the job is another process
    job_id = queue.submit(spec, root).id
    wait_for(lambda: "of 2 shards" in queue.read(job_id, root).phase)
    queue.cancel(job_id, root)
    ended = wait_for(lambda: not (now := queue.read(job_id, root)).live and now)
    assert ended.state == "cancelled"
    assert not left(root)


# ---------------------------------------------------------------- what may be asked for


def test_bad_engines_are_refused_in_a_sentence(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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
    """N processes run no more threads than there are cores, and no more than was asked for; GPUs go round."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processes, "cores", lambda: 8)
    assert [local._share(0, n, [])["OMP_NUM_THREADS"] for n in (1, 3, 8, 20)] == ["8", "2", "1", "1"]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert local._share(0, 2, [])["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    gpus = local._gpus("cuda")
    assert [local._share(n, 4, gpus)["CUDA_VISIBLE_DEVICES"] for n in range(3)] == ["3", "5", "3"]
    assert local._gpus("cuda:1") == ["5"]


def test_the_sidebar_s_words_for_an_engine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of this machine at once; a cluster's nodes and devices as a run found them last."""
    assert engines.described(root) == ""
    monkeypatch.setenv(engines.SETTING, "local:4")
    assert engines.described(root) == "4 processes here"
    monkeypatch.setenv(engines.SETTING, "ray://head:10001")
    assert engines.described(root) == "Ray at head:10001, not used yet"
    nodes = [{"host": "a", "cpus": 8.0, "gpus": 1.0}, {"host": "b", "cpus": 8.0, "gpus": 1.0}]
    engines.note_seen(engines.parse("ray://head:10001"), nodes, root)
    assert engines.described(root) == "Ray at head:10001, 2 nodes with 16 CPUs, 2 GPUs when last used"
    monkeypatch.setenv(engines.SETTING, "nonsense")
    assert "expected local:N" in engines.described(root)
