"""Own folders of images: pixels are as a viewer shows them."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from core.data.folder import DataMissing
from tests.data.own_images import RAMP, one, read, save


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_ramp_is_a_ramp_in_any_depth(tmp_path: Path, bits: int, ending: str, grey: bool) -> None:
    """Black to white in 8 to 16 bits, stored in 16: the same 8-bit ramp, to one level."""
    if ending == "pgm" and bits == 8:
        pytest.skip("a PGM of 8 bits is stored in 8")
    stored = np.rint(RAMP * (2**bits - 1)).astype(np.uint16)
    x = one(tmp_path, lambda path: Image.fromarray(stored).save(path), f"a.{ending}", grey=grey)
    assert x.shape[0] == (1 if grey else 3)
    assert float((x[0].float() - torch.from_numpy(RAMP * 255)).abs().max()) <= 1


def test_one_scale_serves_the_whole_folder(tmp_path: Path) -> None:
    """An image of 16 bits that is half as bright as another is read half as bright; the scale is noted."""
    for part, label, number in itertools.product(("train", "test"), "xy", range(4)):
        value = 4095 if number == 0 else 2000
        save(tmp_path / part / label / f"{number}.png", np.full((8, 8), value, dtype=np.uint16))
    made = read(tmp_path)
    assert made.test.x[made.test.y == 0][:, 0, 0, 0].tolist() == [255, 125, 125, 125]
    assert any("12 bits" in note for note in made.notes)
    save(tmp_path / "train" / "x" / "9.png", np.full((8, 8), 65535, dtype=np.uint16))
    assert read(tmp_path).test.x[0, 0, 0, 0] == round(4095 / 257)


def deep_png(path: Path, pixels: np.ndarray, kind: int) -> None:
    """A PNG of 16 bits a channel, which Pillow cannot write: kind 2 is RGB, 4 grey with alpha, 6 RGBA."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colours_of_16_bits_are_scaled_or_refused(tmp_path: Path, kind: int, channels: int) -> None:
    """16 bits a colour keep their range; where only 12 are used, the decoder has lost them, and the file is named."""

    def stored(top: int) -> np.ndarray:
        pixels = np.repeat(np.rint(RAMP * top).astype(np.uint16)[:, :, None], channels, axis=2)
        if kind != 2:
            pixels[..., -1] = 65535
        return pixels

    x = one(tmp_path, lambda path: deep_png(path, stored(65535), kind))
    assert float((x[0].float() - torch.from_numpy(RAMP * 255)).abs().max()) <= 1
    with pytest.raises(DataMissing, match=r"test/x/a\.png has 16 bits a colour.*12"):
        one(tmp_path, lambda path: deep_png(path, stored(4095), kind))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1"])
@pytest.mark.parametrize("grey", [False, True])
def test_a_transparent_ground_is_white_paper(tmp_path: Path, mode: str, grey: bool) -> None:
    """Black letters on a transparent ground are black on white, each its own image."""

    def write(path: Path, letter: str) -> None:
        mask = Image.new("L", (32, 32), 0)
        ImageDraw.Draw(mask).text((8, 8), letter, fill=255)
        mask = mask.point(lambda value: 255 * (value > 127))
        if mode in ("P", "1"):
            drawn = mask.point(lambda value: 0 if value else 255).convert(mode)
            drawn.save(path, transparency=255 if mode == "P" else 1)
            return
        drawn = Image.new(mode, (32, 32), 0)
        drawn.putalpha(mask)
        drawn.save(path)

    a, w = (one(tmp_path / letter, lambda path, letter=letter: write(path, letter), grey=grey) for letter in "AW")
    assert not torch.equal(a, w)
    assert (int(a.min()), int(a.max())) == (0, 255)
    assert float(a.float().mean()) > 200


def test_a_half_transparent_colour_is_mixed_with_white(tmp_path: Path) -> None:
    """Alpha is a share: red at 128 of 255 over white; opaque pixels stay as they are."""
    x = one(tmp_path, lambda path: Image.new("RGBA", (32, 32), (255, 0, 0, 128)).save(path))
    assert x[:, 0, 0].tolist() == [255, 127, 127]


def test_a_white_drawing_on_a_transparent_ground_is_named(tmp_path: Path) -> None:
    """It would vanish on white, and different drawings become one white image."""

    def write(path: Path) -> None:
        drawn = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
        ImageDraw.Draw(drawn).text((8, 8), "A", fill=(255, 255, 255, 255))
        drawn.save(path)

    with pytest.raises(DataMissing, match=r"2 files in .*test/x/a\.png is a white drawing"):
        one(tmp_path, write)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_the_camera_says(tmp_path: Path, orientation: int, ending: str) -> None:
    """EXIF orientation 1 to 8: where the white corner comes to lie."""
    corner = np.zeros((32, 32, 3), np.uint8)
    corner[:16, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    x = one(tmp_path, lambda path: Image.fromarray(corner).save(path, exif=exif), f"a.{ending}")
    corners = {(0, 0): x[0, 4, 4], (0, 1): x[0, 4, -4], (1, 0): x[0, -4, 4], (1, 1): x[0, -4, -4]}
    (white,) = [place for place, value in corners.items() if value > 200]
    assert (
        white == {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[orientation]
    )


ORDINARY: dict[str, tuple[str, Callable[[Path], object]]] = {
    "1 bit": ("a.png", lambda path: Image.fromarray(RAMP > 0.5).save(path)),
    "palette": ("a.png", lambda path: Image.fromarray(np.rint(RAMP * 255).astype(np.uint8)).convert("P").save(path)),
    "CMYK": ("a.jpg", lambda path: Image.fromarray(np.rint(RAMP * 255).astype(np.uint8)).convert("CMYK").save(path)),
    "YCbCr": (
        "a.tif",
        lambda path: Image.fromarray(np.rint(RAMP * 255).astype(np.uint8)).convert("RGB").convert("YCbCr").save(path),
    ),
    "upper case": ("A.PNG", lambda path: Image.fromarray(np.rint(RAMP * 255).astype(np.uint8)).save(path)),
    "PNG called JPEG": ("a.jpg", lambda path: Image.fromarray(np.rint(RAMP * 255).astype(np.uint8)).save(path, "PNG")),
    "unicode": ("Ünï 猫.png", lambda path: Image.fromarray(np.rint(RAMP * 255).astype(np.uint8)).save(path)),
}


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("kind", ORDINARY)
def test_usual_kinds_keep_their_brightness(tmp_path: Path, kind: str, grey: bool) -> None:
    """A ramp from black to white has the mean of a ramp in every mode."""
    name, write = ORDINARY[kind]
    assert float(one(tmp_path, write, name, grey=grey).float().mean()) == pytest.approx(127.5, abs=4)


@pytest.mark.parametrize("ending", ["gif", "tif", "webp", "png"])
def test_of_animations_the_first_frame_is_read(tmp_path: Path, ending: str) -> None:
    """And that is noted."""
    first, second = (Image.new("RGB", (32, 32), colour) for colour in ("white", "black"))
    x = one(
        tmp_path, lambda path: first.save(path, save_all=True, append_images=[second], lossless=True), f"a.{ending}"
    )
    assert int(x.min()) == 255
    assert any("several frames" in note for note in read(tmp_path, 32).notes)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (3000, 2), (7, 7)])
def test_any_shape_becomes_a_square(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Also a single pixel, and a strip that scaled whole would not fit into memory."""
    x = one(tmp_path, lambda path: save(path, np.full((*shape, 3), 90, np.uint8)))
    assert x.unique().tolist() == [90]
