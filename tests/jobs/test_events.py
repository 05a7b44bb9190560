"""The events of a job: how they are read while they are written, and what a worker reports."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest

from core.jobs import events, worker
from core.progress import Cancelled
from tests.jobs.toys import WAIT, wait_for


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
