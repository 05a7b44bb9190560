"""What asks for the same at the same time: one makes it, the others wait and find it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.specs import TrainSpec
from core.storage import store
from tests.storage.small import MODEL, put


def test_a_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    """Threads of one process exclude each other as processes do."""
    inside = []

    def enter(number: int) -> None:
        with store.lock(MODEL, tmp_path):
            inside.append(number)
            time.sleep(0.02)
            assert inside.pop() == number
            assert not inside

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(enter, range(8)))


def test_waiting_for_a_lock_can_be_given_up(tmp_path: Path, held: Callable[..., None]) -> None:
    """`on_wait` is called again and again; what it raises ends the wait."""
    held(MODEL, tmp_path)
    calls = []

    def wait() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"), store.lock(MODEL, tmp_path, on_wait=wait):
        raise AssertionError("two are inside")
    with store.lock(TrainSpec(seed=9), tmp_path, on_wait=wait):
        assert len(calls) == 3


def test_whoever_holds_a_lock_may_take_it_again(tmp_path: Path) -> None:
    """So that `write` works inside and outside of it."""
    with store.lock(MODEL, tmp_path):
        with store.lock(MODEL, tmp_path):
            made = put(tmp_path)
        with pytest.raises(ValueError, match="card"):
            put(tmp_path, TrainSpec(seed=4), key=1)
    assert store.find(MODEL, tmp_path) == made


WRITER = """
import sys
from pathlib import Path
import numpy as np
from core.storage import store
from core.specs import TrainSpec
from tests.planted import CARD

for seed in range(10):
    arrays = {"weights": {"w": np.full(999, seed)}}
    made = store.write(TrainSpec(seed=seed), Path(sys.argv[1]), card=CARD, arrays=arrays)
    assert (made.arrays("weights")["w"] == seed).all()
"""


@pytest.mark.slow
def test_concurrent_writers_leave_one_sound_artifact_each(tmp_path: Path) -> None:
    """Three processes write the same ten artifacts at once: each is there once, whole, and nothing else is."""
    project = Path(store.__file__).parents[2]
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen(command, cwd=project) for _ in range(3)]
    assert [writer.wait(300) for writer in writers] == [0, 0, 0]
    for seed in range(10):
        found = store.find(TrainSpec(seed=seed), tmp_path)
        assert found is not None
        assert (found.arrays("weights")["w"] == seed).all()
    assert len(store.models(tmp_path)) == 10
    assert list((tmp_path / ".tmp").iterdir()) == []
    assert not (tmp_path / "set_aside").exists()
