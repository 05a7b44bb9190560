"""Locks where the disk has none of the kernel's: a lease, its heartbeat and the watcher's own clock decide."""

from __future__ import annotations

import errno
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

from core.storage import files, leases, locks

fcntl = pytest.importorskip("fcntl", reason="flock is POSIX")
PROJECT = Path(locks.__file__).parents[2]


@pytest.fixture(params=["ENOLCK", "ENOSYS", "EIO"])
def without_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every flock fails."""

    def refuse(*_: Any) -> None:
        raise OSError(getattr(errno, request.param), request.param)

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(leases, "BEAT", 0.01)
    locks._flocks.clear()
    yield
    locks._flocks.clear()


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_one_error_does_not_make_a_disk_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """EIO that is gone at the next try: the kernel's lock is taken."""
    real, calls = fcntl.flock, list[int]()

    def once(*args: Any) -> None:
        calls.append(1)
        if len(calls) == failing:  # in the look for such locks, in taking one, in a look at it
            raise OSError(errno.EIO, "EIO")
        real(*args)

    locks._flocks.clear()
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(fcntl, "flock", once)
    with locks.held(tmp_path / "a.lock"):
        assert not (tmp_path / "a.lock.lease").exists()
        assert locks.is_held(tmp_path / "a.lock")
    locks._flocks.clear()


@pytest.mark.usefixtures("without_flock")
def test_a_lease_lets_one_in_at_a_time(tmp_path: Path) -> None:
    """Threads exclude each other, the one inside may enter again, and waiting can be given up or timed out."""
    path = tmp_path / "a.lock"
    inside, entered = list[int](), list[int]()

    def enter(number: int) -> None:
        with locks.held(path) as first, locks.held(path) as again:
            assert (first, again) == (True, False)
            inside.append(number)
            assert inside == [number]
            assert locks.is_held(path)
            entered.append(number)
            inside.remove(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(4)]
    with locks.held(path):
        for thread in threads:
            thread.start()
        assert entered == []

        def other() -> None:
            with pytest.raises(filelock.Timeout), locks.held(path, timeout=0.0):
                raise AssertionError("two are inside")

        waiter = threading.Thread(target=other)
        waiter.start()
        waiter.join()
    for thread in threads:
        thread.join()
    assert sorted(entered) == [0, 1, 2, 3]
    assert not locks.is_held(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [locks.LACKING]


@pytest.mark.usefixtures("without_flock")
def test_a_lease_that_is_renewed_is_held_however_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that is not is free after its term by the watcher's clock, wherever its holder was."""
    lease = tmp_path / "a.lock.lease"
    monkeypatch.setattr(leases, "_machine", lambda: "here")
    now = [1000.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: now[0])
    body = {"token": "x", "machine": "elsewhere", "pid": 1, "beat": "0"}
    for beat in range(5):
        lease.write_text(json.dumps(body | {"beat": str(beat)}))
        assert leases.is_held(lease)
        now[0] += leases.TERM - 1
        assert leases.is_held(lease)
    now[0] += 1
    assert not leases.is_held(lease)


@pytest.mark.usefixtures("without_flock")
@pytest.mark.parametrize("shift", [-86400.0, 86400.0])
def test_a_clock_that_is_set_anew_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: float
) -> None:
    """Neither the living nor the dead are taken for the other."""
    real = time.time
    with locks.held(tmp_path / "a.lock"):
        monkeypatch.setattr(time, "time", lambda: real() + shift)
        assert locks.is_held(tmp_path / "a.lock")
    assert not locks.is_held(tmp_path / "a.lock")


HOLDER = """
import errno, fcntl, sys, time
from pathlib import Path

def refuse(*_):
    raise OSError(errno.ENOLCK, "ENOLCK")

fcntl.flock = refuse
from core.storage import locks
print("asks", flush=True)
with locks.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.usefixtures("without_flock")
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_holder_is_dead_at_once_on_its_machine(tmp_path: Path) -> None:
    """Its lease lies there still; another takes it over."""
    path = tmp_path / "a.lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], cwd=PROJECT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert [holder.stdout.readline() for _ in range(2)] == [b"asks\n", b"held\n"]
        assert locks.is_held(path)
        holder.kill()
    assert (tmp_path / "a.lock.lease").exists()
    assert not locks.is_held(path)
    with locks.held(path, timeout=60.0):
        assert locks.is_held(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [locks.LACKING]


@pytest.mark.usefixtures("without_flock")
def test_a_lease_that_was_taken_over_is_not_removed_by_the_one_before(tmp_path: Path) -> None:
    """Its holder was taken for dead, and comes back."""
    lease = leases.Lease(tmp_path / "a")
    assert lease.take()
    (tmp_path / "a").unlink()
    other = leases.Lease(tmp_path / "a")
    assert other.take()
    lease.release()
    assert leases.is_held(tmp_path / "a")
    other.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.lock", "store/.locks/a.lock", "store/.jobs/one/lock"])
def test_machines_with_and_without_flock_exclude_each_other(tmp_path: Path, name: str) -> None:
    """One that has none has been there: from then on the others see its lease, and it sees theirs."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if "store" in name:
        (tmp_path / "store" / ".locks").mkdir(exist_ok=True)

    def without_flock() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], cwd=PROJECT, stdout=subprocess.PIPE)

    with without_flock() as other:
        assert other.stdout is not None
        assert [other.stdout.readline() for _ in range(2)] == [b"asks\n", b"held\n"]
        with pytest.raises(filelock.Timeout), locks.held(path, timeout=0.0):
            raise AssertionError("two are inside")
        other.kill()
    with locks.held(path, timeout=60.0), locks.held(path), without_flock() as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"asks\n"
        assert select.select([other.stdout], [], [], 1.0)[0] == [], "it waits"
        other.kill()
    assert not locks.is_held(path)
