"""A step of a task in shards, in this process: memory that does not suffice, and a disk that is full."""

from __future__ import annotations

import errno
import secrets
from pathlib import Path
from typing import Any

import pytest
import torch

from core.evaluation.tasks import radii
from core.evaluation.tasks.parts import Part
from core.jobs.shards import kept, piece, version
from core.storage import files, store
from tests.jobs.shards.toys import RADII


@pytest.fixture
def asked(root: Path) -> dict[str, Any]:
    """The first shard of a task whose images were looked at."""
    task = store.resolve(RADII, root)
    where, mark = kept.folder(task, root), secrets.token_hex(4)
    kept.open_request(where, task, mark)
    step = {"step": "find", "folder": str(where), "mark": mark, "root": str(root), "device": "cpu"}
    step["version"] = version.version()
    assert piece.do(step)["count"] == 120
    return {**step, "step": "part", "rows": [0, 32]}


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set how many images fit the memory; returns the sizes that were tried."""
    tried: list[int] = []

    def most(images: int, error: Exception) -> list[int]:
        def part(self: radii.ByImage, rows: slice, where: Path, on_progress: Any = None) -> Part:
            tried.append(rows.stop - rows.start)
            if rows.stop - rows.start > images:
                raise error
            return Part(radii.pd.DataFrame({"index": range(rows.start, rows.stop)}), counts={"seconds": 1.0})

        monkeypatch.setattr(radii.ByImage, "part", part)
        return tried

    return most


def made(asked: dict[str, Any]) -> list[int]:
    """The numbers in the shard that was made."""
    where = Path(asked["folder"])
    found = kept.read(where / kept.FOUND, {"mark": asked["mark"]})
    assert found is not None
    rows = (asked["rows"][0], asked["rows"][1])
    shard = kept.read(kept.path(where, rows, kept.SHARD), kept.of_rows(found.facts["of"], rows))
    assert shard is not None
    return shard.tables["rows"]["index"].tolist()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["cuda", "python", "cpu"],
)
def test_a_shard_that_does_not_fit_is_halved(asked: dict[str, Any], fits: Any, error: Exception) -> None:
    """Until it does, with a note each time; together the parts are the shard."""
    tried = fits(10, error)
    answer = piece.do(asked)
    assert tried == [32, 16, 8, 8, 16, 8, 8]
    assert made(asked) == list(range(32))
    assert len(answer["notes"]) == 3
    assert "Images 0 to 32 did not fit the memory" in answer["notes"][0]


def test_a_memory_too_small_for_a_few_images_is_said(asked: dict[str, Any], fits: Any) -> None:
    """It is not tried with ever fewer; other errors are not tried again at all."""
    tried = fits(1, MemoryError("no room"))
    assert piece.do(asked)["error"] == "MemoryError"
    assert tried == [32, 16, 8, 4]
    tried.clear()
    fits(1, ValueError("model: expected another"))
    answer = piece.do(asked)
    assert (answer["error"], answer["message"], tried) == ("ValueError", "model: expected another", [32])


def test_a_shard_whose_process_died_is_begun_in_smaller_pieces(asked: dict[str, Any], fits: Any) -> None:
    """The system may have ended it for its memory; with a state that was kept it goes on from there once."""
    where = Path(asked["folder"])
    tried = fits(100, MemoryError())
    kept.count_try(where, (0, 32))
    piece.do(asked)
    assert tried == [16, 16]
    tried.clear()
    kept.count_try(where, (0, 32))
    kept.path(where, (0, 32), kept.STATE).write_bytes(b"")
    piece.do(asked)
    assert tried == [32]
    assert not list(where.glob(f"*{kept.STATE}"))
    for _ in range(piece.TRIES):
        kept.count_try(where, (0, 32))
    assert "each time the process ended without an answer" in piece.do(asked)["message"]


def test_a_full_store_is_said_and_leaves_no_half(
    asked: dict[str, Any], fits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's error comes back with its number; what was written in part is removed."""
    fits(100, MemoryError())

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "move", full)
    answer = piece.do(asked)
    assert (answer["error"], answer["errno"]) == ("OSError", errno.ENOSPC)
    assert not [file for file in Path(asked["folder"]).iterdir() if file.name.startswith("000000-000032.shard")]


def test_a_model_that_changed_meanwhile_is_refused(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of two networks, or of two data sets, are never put together."""
    real = radii.ByImage.__init__

    def other(self: radii.ByImage, *args: Any, **how: Any) -> None:
        real(self, *args, **how)
        self.depends = {**self.depends, "models": ["another"]}

    monkeypatch.setattr(radii.ByImage, "__init__", other)
    monkeypatch.setattr(piece, "_opened", None)
    assert "expected the one that the run began with" in piece.do(asked)["message"]
