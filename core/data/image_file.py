"""One image file opened: of a known format, of a size that the memory holds, and nothing but a file.

Pillow by itself opens whatever a file says that it is, an EPS in the name of a PNG by starting Ghostscript.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""Formats that are read, by Pillow's names."""
MAX_PIXELS = 40_000_000
"""Pixels of an image at most: those of a large camera."""
_MANY = 4_000_000
_one_at_a_time = threading.Lock()
"""Held while an image of many pixels is in memory: several threads read a folder."""


class NotRead(ValueError):
    """An image that is not read; the text goes on after its name: `is empty`."""


@contextmanager
def opened(file: Path | bytes, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """The image in a file, or in the bytes of one. Decode it inside.

    Raises:
        NotRead: no file but a folder, a device or a pipe; none of the formats; too many pixels.
        OSError: it cannot be opened.
    """
    if isinstance(file, Path) and file.exists() and not file.is_file():
        raise NotRead("is no file" if not file.is_dir() else "is a folder")
    try:
        image = Image.open(BytesIO(file) if isinstance(file, bytes) else file, formats=_known(formats))
    except UnidentifiedImageError:
        empty = not (file if isinstance(file, bytes) else file.stat().st_size)
        raise NotRead("is empty" if empty else "is not an image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise NotRead(f"is too large (more than {MAX_PIXELS:,} pixels)") from None
    with image:
        pixels = image.width * image.height
        if pixels > MAX_PIXELS:
            size = f"{image.width:,} × {image.height:,} pixels"
            raise NotRead(f"is too large ({size}, expected at most {MAX_PIXELS:,} in all)")
        with _one_at_a_time if pixels > _MANY else nullcontext():
            yield image


@lru_cache(maxsize=8)
def _known(formats: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the formats that this Pillow was built with."""
    Image.init()
    return tuple(name for name in formats if name in Image.OPEN)
