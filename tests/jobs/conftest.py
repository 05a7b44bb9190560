"""Jobs whose runners and processes are toys (see `toys.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.jobs import devices, queue, reading, running, turns
from tests.jobs.toys import WAIT, Runner, submitting


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take long to start a worker."""
    monkeypatch.setattr(reading, "START_GRACE", WAIT)
    monkeypatch.setattr(turns, "CARRIED", (*turns.CARRIED, "TOY_"))


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Every task is run by a toy, in this process."""
    toy = Runner()
    monkeypatch.setattr(running, "runner_for", lambda task: toy)
    monkeypatch.setattr(devices, "settled", lambda device, *_: device or "cpu")
    return toy


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., queue.Job]]:
    """Submit jobs whose processes are toys; none is left when the test ends."""
    yield from submitting(tmp_path, monkeypatch)
