"""Shards on a real Ray of two nodes: the same artifact as in one process, whichever node is lost on the way.

The nodes are processes of this machine that listen on its loopback interface, with small object stores. They are ended
by their numbers; `ray stop` would end every Ray of the machine.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.jobs import processes
from core.jobs.shards import cluster, drive, engines, kept
from core.progress import Cancelled
from core.storage import store
from tests.jobs.shards.toys import RADII, Made, assert_alike, left, run, shards
from tests.jobs.toys import wait_for

pytestmark = [
    # looked for and not imported: Ray reads its settings when it is
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="no Ray: requirements-ray.txt"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
    pytest.mark.skipif(sys.platform != "linux", reason="Ray's clusters of several nodes are for Linux"),
]
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000, "node_ip_address": "127.0.0.1"}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of two nodes with one CPU each."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # the loopback interface and no other
        patch.setenv("RAY_AUTH_MODE", "token")  # Ray's default, with a token of this test's own for all nodes
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_DEDUP_LOGS", "0")
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        made.add_node(**NODE)
        yield made
        made.shutdown()


def _toy_step() -> Callable[..., dict[str, Any]]:
    """As `cluster._step`, with steps that are toys: they load no PyTorch."""

    def do(step: dict[str, Any], places: tuple[str, str], settings: dict[str, str]) -> dict[str, Any]:
        import os
        import sys

        os.environ.update(settings)
        if places[0] not in sys.path:
            sys.path.insert(0, places[0])
        from tests.jobs.shards import toy_serve

        return toy_serve.do(step)

    return do


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that are toys, about a second each, and their settings, which go to the nodes."""
    monkeypatch.setattr(cluster, "_step", _toy_step)
    real = cluster._settings
    mine = {"TOY_SECONDS", "TOY_MISDEED"}
    monkeypatch.setattr(
        cluster, "_settings", lambda cpus: {**real(cpus), **{name: os.environ.get(name, "") for name in mine}}
    )
    monkeypatch.setenv("TOY_SECONDS", "1")


def toy(root: Path, address: str, **more: Any) -> list[int]:
    """Run `RADII` by toys; the process that judged each image."""
    table = run(RADII, root, address, **more).table("images")
    assert table["index"].tolist() == list(range(120))
    assert not kept.folder(RADII, root).exists()
    return table["process"].tolist()


def test_two_nodes_leave_what_one_process_leaves(root: Path, whole: Made, nodes: Any) -> None:
    """The same key, rows and card; the sidebar then knows the nodes."""
    made = Made(run(RADII, root, nodes.address))
    assert_alike(whole, made)
    assert [made.card["shards"][name] for name in ("engine", "count")] == ["ray", 4]
    assert not left(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(engines.SETTING, nodes.address)
        assert engines.described(root) == f"Ray at {nodes.address}, 2 nodes with 2 CPUs when last used"


@pytest.mark.usefixtures("toys")
def test_a_node_that_is_killed_in_mid_run_costs_its_shard_alone(root: Path, nodes: Any) -> None:
    """With its processes and all: another node makes its shard, and the result is whole."""
    third = nodes.add_node(**NODE)
    killed: list[int] = []

    def report(done: int, total: int, **more: Any) -> None:
        if shards(RADII, root) and not killed:
            nodes.remove_node(third, allow_graceful=False)
            killed.append(done)

    by = toy(root, nodes.address, on_progress=report)
    assert killed
    assert len(set(by)) >= 2


@pytest.mark.usefixtures("toys")
def test_a_process_that_dies_is_begun_again_elsewhere(root: Path, nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the system ends it for its memory; one that dies each time ends the run with a sentence."""
    monkeypatch.setenv("TOY_SECONDS", "0.1")
    monkeypatch.setenv("TOY_MISDEED", "die")
    toy(root, nodes.address)
    monkeypatch.setenv("TOY_MISDEED", "die always")
    with pytest.raises(engines.EngineError, match="Ray could not finish a shard"):
        toy(root, nodes.address)
    assert "000000-000030.shard" in shards(RADII, root)
    assert not left(root)


@pytest.mark.usefixtures("toys")
def test_cancelling_ends_all_shards_and_a_new_run_resumes(root: Path, nodes: Any) -> None:
    """Nothing that was begun is finished afterwards; what was finished is not made again."""

    def report(done: int, total: int, **more: Any) -> None:
        if shards(RADII, root):
            raise Cancelled

    with pytest.raises(Cancelled):
        toy(root, nodes.address, on_progress=report)
    done = shards(RADII, root)
    assert not left(root)
    assert store.find(store.resolve(RADII, root), root) is None
    where = kept.folder(store.resolve(RADII, root), root)
    before = {name: (where / name).stat().st_mtime_ns for name in done}
    seen: dict[str, int] = {}

    def look(done: int, total: int, **more: Any) -> None:
        seen.update({name: (where / name).stat().st_mtime_ns for name in shards(RADII, root)})

    toy(root, nodes.address, on_progress=look)
    assert {name: seen[name] for name in before} == before


@pytest.mark.usefixtures("toys")
def test_another_version_on_a_node_is_refused(root: Path, nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence that says what is expected and where it was not found."""
    monkeypatch.setattr(drive.version, "version", lambda: "0.0.0 (source 0000000000, torch 0)")
    with pytest.raises(ValueError, match=r"expected Adversarial Lab 0.0.0 .* on every machine, got .*: install"):
        toy(root, nodes.address)


ASKS = """
import sys
from pathlib import Path
from core.jobs.shards import cluster, ranges
from tests.jobs.shards import test_cluster
from tests.jobs.shards.toys import SIZE
ranges.SIZES = dict.fromkeys(ranges.SIZES, SIZE)
cluster._step = test_cluster._toy_step
test_cluster.toy(Path(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.usefixtures("toys")
def test_a_driver_that_is_killed_is_resumed(root: Path, nodes: Any) -> None:
    """Its tasks end with it; the next driver finds the shards that were finished, and makes the others."""
    driver = subprocess.Popen([sys.executable, "-c", ASKS, str(root), nodes.address], cwd=processes.PROJECT)
    try:
        wait_for(lambda: shards(RADII, root))
    finally:
        driver.kill()
        driver.wait()
    done = shards(RADII, root)
    assert done
    where = kept.folder(store.resolve(RADII, root), root)
    before = (where / done[0]).stat().st_mtime_ns
    seen: list[int] = []

    def look(done_images: int, total: int, **more: Any) -> None:
        if (where / done[0]).exists():
            seen.append((where / done[0]).stat().st_mtime_ns)

    toy(root, nodes.address, on_progress=look)
    assert set(seen) == {before}


def test_what_cannot_be_used_is_said_in_a_sentence(root: Path, nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of CPUs that no node has, one that is no number, and a Ray that is not installed."""
    monkeypatch.setenv(cluster.TASK_CPUS, "4")
    with pytest.raises(ValueError, match="expected a Ray node with 4 CPU or more, there is none"):
        run(RADII, root, nodes.address)
    monkeypatch.setenv(cluster.TASK_CPUS, "all")
    with pytest.raises(ValueError, match="ADVERSARIAL_LAB_TASK_CPUS: expected a whole number of CPUs, 1 or more"):
        run(RADII, root, nodes.address)
    monkeypatch.delenv(cluster.TASK_CPUS)
    with pytest.raises(ValueError, match=r"expected a Ray cluster at 127.0.0.1:9, it did not answer"):
        run(RADII, root, "127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"Ray is not installed; get it with `pip install -r requirements-ray.txt`"):
        run(RADII, root, "ray")
