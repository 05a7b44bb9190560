"""What every test of shards shares."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core.jobs.shards import ranges
from tests.jobs.shards.toys import RADII, SIZE, Made, run


@pytest.fixture
def root(trained_store: Path, tmp_path: Path) -> Path:
    """A copy of the trained store."""
    return Path(shutil.copytree(trained_store, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small shards, so that few images make several."""
    monkeypatch.setattr(ranges, "SIZES", dict.fromkeys(ranges.SIZES, SIZE))


@pytest.fixture(scope="session")
def whole(trained_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What `toys.RADII` leaves in one piece."""
    return Made(run(RADII, Path(shutil.copytree(trained_store, tmp_path_factory.mktemp("whole") / "copy"))))
