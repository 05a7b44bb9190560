"""Own folders of images: every file that cannot be read is named."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.data.folder import DataMissing
from core.data.folder_layout import layout
from tests.data.own_images import NOISE, RAMP, RNG, fill, one, read, save


def _jpeg() -> bytes:
    import io

    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def header(width: int, height: int) -> bytes:
    """The beginning of a PNG that says it has this size."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + body
        + struct.pack(">I", zlib.crc32(body))
        + b"\0\0\0\x04IDATx\x9c\0\0"
    )


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("not an image"), "is not an image"),
    "cut JPEG": (lambda path: path.write_bytes(_jpeg()[:900]), "is damaged"),
    "cut PNG": (lambda path: (save(path, NOISE), path.write_bytes(path.read_bytes()[:1500])), "is damaged"),
    "bomb": (lambda path: Image.new("1", (20_000, 20_000)).save(path, "PNG"), "is too large"),
    "half a bomb": (lambda path: Image.new("1", (10_000, 10_000)).save(path, "PNG"), "is too large"),
    "a header of 50,000 × 50,000": (lambda path: path.write_bytes(header(50_000, 50_000)), "is too large"),
    "pipe": (lambda path: os.mkfifo(path), "is no file"),
    "PostScript": (
        lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "is not an image",
    ),
    "Photoshop": (lambda path: path.write_bytes(b"8BPS\x00\x01" + bytes(60)), "is not an image"),
    "float": (lambda path: Image.fromarray(RAMP.astype(np.float32)).save(path, "TIFF"), "has decimal numbers"),
    "32 bits": (lambda path: Image.fromarray((RAMP * 1e6).astype(np.int32)).save(path, "TIFF"), "has values from 0 to"),
    "negative": (
        lambda path: Image.fromarray((RAMP * -9).astype(np.int32)).save(path, "TIFF"),
        "has values from -9 to",
    ),
    "broken link": (lambda path: path.symlink_to(path.parent / "nowhere.png"), "cannot be opened"),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    """Whatever is wrong with it, with the reason."""
    write, expected = BROKEN[kind]
    with pytest.raises(DataMissing, match=rf"2 files in .* cannot be read: test/x/a\.png {expected}.*; test/y/a\.png"):
        one(tmp_path, write)


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"bell\x07"])
def test_a_class_with_a_name_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: bytes) -> None:
    """Before anything is trained that could not be stored."""
    fill(tmp_path)
    os.rename(os.fsencode(tmp_path / "dog"), os.fsencode(tmp_path) + b"/" + name)  # noqa: PTH104  # bytes
    with pytest.raises(DataMissing, match=r"names of printable UTF-8, got '.*\\.*rename it"):
        read(tmp_path)


def test_files_with_names_that_are_no_utf8_are_read(tmp_path: Path) -> None:
    """Their names are nothing but an order."""
    fill(tmp_path)
    os.rename(os.fsencode(tmp_path / "dog" / "0.png"), os.fsencode(tmp_path / "dog") + b"/caf\xe9.png")  # noqa: PTH104
    assert sum(1 for _ in layout(str(tmp_path)).every()) == 12
    assert len(read(tmp_path).class_names) == 2


def test_all_broken_files_are_named_at_once(tmp_path: Path) -> None:
    """Ten by name, the others by their number."""
    fill(tmp_path, n=3)
    for number in range(22):
        (tmp_path / "cat" / f"x{number:02}.png").write_bytes(b"")
    with pytest.raises(DataMissing) as caught:
        read(tmp_path)
    text = str(caught.value)
    assert text.startswith(f"folder: 22 files in {tmp_path} cannot be read: cat/x00.png is empty; cat/x01.png")
    assert text.endswith("and 12 more")
