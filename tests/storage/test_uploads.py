"""The waiting room of files to be imported: by content, whole, and never for ever."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from core.storage import uploads


def test_a_file_and_its_bytes_wait_under_the_same_digest(tmp_path: Path) -> None:
    """The SHA-256 of the content; it can be read until it is forgotten."""
    (tmp_path / "net.onnx").write_bytes(b"content")
    digest = uploads.keep(tmp_path / "net.onnx", tmp_path)
    assert digest == uploads.keep(b"content", tmp_path) == hashlib.sha256(b"content").hexdigest()
    assert uploads.read(digest, tmp_path) == b"content"
    uploads.forget(digest, tmp_path)
    uploads.forget(digest, tmp_path)
    with pytest.raises(ValueError, match="give the file again"):
        uploads.read(digest, tmp_path)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    """What is imported is what the key says."""
    digest = uploads.keep(b"content", tmp_path)
    uploads.where(digest, tmp_path).write_bytes(b"other")
    with pytest.raises(ValueError, match="was changed"):
        uploads.read(digest, tmp_path)


@pytest.mark.parametrize("source", [b"", Path("nowhere.onnx"), Path()])
def test_what_is_no_file_is_refused_and_leaves_nothing(tmp_path: Path, source: bytes | Path) -> None:
    """Empty, absent, a folder."""
    with pytest.raises(ValueError, match="expected a file"):
        uploads.keep(source, tmp_path)
    assert not (tmp_path / uploads.UPLOADS).exists()


def test_too_large_a_file_is_refused_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a byte is read."""
    (tmp_path / "net.onnx").write_bytes(b"content")
    monkeypatch.setattr(uploads, "LARGEST", 3)
    with pytest.raises(ValueError, match="expected a file of 1 to 3 bytes, got 7"):
        uploads.keep(tmp_path / "net.onnx", tmp_path)
    assert not (tmp_path / uploads.UPLOADS).exists()


def test_what_waits_too_long_goes_when_another_comes(tmp_path: Path) -> None:
    """Refused files and half copies do not pile up; what came lately stays."""
    old, new = uploads.keep(b"old", tmp_path), uploads.keep(b"new", tmp_path)
    half = tmp_path / uploads.UPLOADS / ".half"
    half.write_bytes(b"")
    then = time.time() - uploads.KEPT - 60
    for path in (uploads.where(old, tmp_path), half):
        os.utime(path, (then, then))
    uploads.keep(b"newest", tmp_path)
    assert not uploads.where(old, tmp_path).exists()
    assert not half.exists()
    assert uploads.read(new, tmp_path) == b"new"
