"""What every evaluation test shares."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def root(trained_store: Path, tmp_path: Path) -> Path:
    """A copy of the trained store."""
    return Path(shutil.copytree(trained_store, tmp_path / "copy"))
