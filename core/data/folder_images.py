"""The files of an own folder of images as uint8 pixels.

What a person sees in a viewer is what is read: turned as the camera says (EXIF), a transparent ground as white, of
animations the first frame. Whole numbers of more than 8 bits are scaled by the bits that the whole folder uses (8, 10,
12, 14 or 16), so that files stay comparable with each other. Decimal numbers have no known range and are refused.
Whatever cannot be read is named, all of it in one message.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from core.data.folder import DataMissing
from core.data.folder_layout import cannot_be_read, count
from core.data.image_file import NotRead, opened
from core.progress import Progress

DEPTHS = (8, 10, 12, 14, 16)
"""Bits that a file of 16 bits may use."""
_LONGEST = 16  # times the shorter side: of a longer image only the middle is scaled


@dataclass(frozen=True)
class _Pixels:
    """One image: (C, H, W) uint8, or (H, W) float32 where the scale is not known yet, with its largest value."""

    values: np.ndarray
    peak: int = 0
    deep_colour: bool = False
    animated: bool = False


def read_images(
    paths: Sequence[Path], root: Path, *, size: int, grey: bool, on_progress: Progress | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read images of any shape and kind; the shorter side is scaled to `size`, the middle kept.

    Args:
        paths: the files.
        root: their folder, for messages.
        size: side in pixels.
        grey: one channel instead of three.
        on_progress: called with files read.

    Returns:
        (N, C, size, size) uint8, and sentences on what was decided for the folder as a whole.

    Raises:
        DataMissing: naming the files that cannot be read, and why.
    """
    done: list[_Pixels] = []
    bad: list[tuple[Path, str]] = []
    with warnings.catch_warnings():  # around all threads: what they do to the filters is shared
        warnings.simplefilter("ignore")  # on damaged EXIF and palettes; the pixels are read all the same
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        pool = ThreadPoolExecutor()
        try:
            for path, image in zip(paths, pool.map(lambda path: _tried(path, size, grey), paths), strict=True):
                if isinstance(image, str):
                    bad.append((path, image))
                else:
                    done.append(image)
                if on_progress and (len(done) + len(bad)) % 100 == 0:
                    on_progress(len(done) + len(bad), len(paths), phase=f"reading {root.name}")
        finally:
            pool.shutdown(cancel_futures=True)
    bits = _depth(done)
    if not bad and bits is not None and bits < 16:
        bad = [
            (path, f"has 16 bits a colour, of which the folder uses only {bits} (save it with 8)")
            for path, image in zip(paths, done, strict=True)
            if image.deep_colour
        ]
    if bad:
        raise DataMissing(cannot_be_read(root, bad))
    notes = []
    deep = [image for image in done if image.values.ndim == 2]
    if deep:
        notes.append(
            f"{count(deep, 'grey image')} of 16 bits with values up to {max(image.peak for image in deep):,}: "
            f"read as {bits} bits, white is {2 ** (bits or 16) - 1:,}."
        )
    if moving := [image for image in done if image.animated]:
        notes.append(f"{count(moving, 'image')} with several frames: only the first is read.")
    return np.stack([_in_eight_bits(image, bits or 16, grey) for image in done]), tuple(notes)


def _depth(images: Sequence[_Pixels]) -> int | None:
    """The fewest bits that hold every value of the images of more than 8 bits; None without such images."""
    peaks = [image.peak for image in images if image.peak or image.values.ndim == 2]
    return next(bits for bits in DEPTHS if max(peaks) < 2**bits) if peaks else None


def _in_eight_bits(image: _Pixels, bits: int, grey: bool) -> np.ndarray:
    if image.values.ndim == 3:
        return image.values
    values = np.rint(image.values * (255 / (2**bits - 1))).clip(0, 255).astype(np.uint8)
    return np.repeat(values[None], 1 if grey else 3, axis=0)


def _tried(path: Path, size: int, grey: bool) -> _Pixels | str:
    """The image, or what is wrong with it."""
    try:
        return _read(path, size, grey)
    except NotRead as error:
        return str(error)
    except OSError as error:
        return f"cannot be opened ({error.strerror})" if error.strerror else f"is damaged ({error})"
    except MemoryError:
        return "is too large for the memory"
    except Exception as error:  # decoders of damaged files raise whatever comes: SyntaxError, struct.error, …
        return f"is damaged ({error or type(error).__name__})"


def _read(path: Path, size: int, grey: bool) -> _Pixels:
    with opened(path) as image:
        return _pixels(image, size, grey)


def _pixels(image: Image.Image, size: int, grey: bool) -> _Pixels:
    animated = bool(getattr(image, "is_animated", False)) and image.format != "MPO"
    sixteen = ";16" in repr(image.tile)  # type: ignore[attr-defined]
    if image.format == "TIFF":
        _refuse_tiff(image, deep=image.mode.startswith("I"))
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise NotRead("has decimal numbers, whose range is not known (save it with 8 or 16 bits)")
    if image.mode.startswith("I"):
        if "transparency" in image.info:
            raise NotRead("has 16 bits and a transparent grey (save it with 8)")
        numbers = np.asarray(image)
        if numbers.min() < 0 or numbers.max() > 65535:
            raise NotRead(f"has values from {numbers.min():,} to {numbers.max():,} (expected 0 to 65,535)")
        image = Image.fromarray(numbers.astype(np.float32))
        return _Pixels(np.asarray(_square(image, size)), peak=int(numbers.max()), animated=animated)
    # of 16 bits a colour the decoder has cut off the low 8
    peak = 256 * int(np.asarray(image.convert("RGB")).max()) + 255 if sixteen else 0
    image = _on_white(image)
    array = np.asarray(_square(image.convert("L" if grey else "RGB"), size))
    return _Pixels(array[None] if grey else array.transpose(2, 0, 1), peak, deep_colour=sixteen, animated=animated)


def _refuse_tiff(image: Image.Image, *, deep: bool) -> None:
    """Kinds of TIFF that Pillow reads wrongly, without an error."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    if deep and tags.get(262) == 0:
        raise NotRead("is a TIFF of 16 bits in which 0 is white (save it with 0 as black)")
    if tags.get(274, 1) in (5, 6, 7, 8) and tags.get(256) != tags.get(257):
        raise NotRead("is a TIFF that lies on its side by its orientation tag (save it upright)")


def _on_white(image: Image.Image) -> Image.Image:
    """A transparent ground as white paper; other images as they are."""
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return image
    if image.mode == "La":
        image = image.convert("LA")
    drawn = image.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")
    if np.ptp(np.asarray(drawn)[..., 3]) and not np.ptp(np.asarray(flat), axis=(0, 1)).any():
        raise NotRead("is a white drawing on a transparent ground, which is read as white (give it a ground)")
    return flat


def _square(image: Image.Image, size: int) -> Image.Image:
    """The middle square, its side scaled to `size`."""
    longest = _LONGEST * min(image.size)
    if max(image.size) > longest:  # scaling all of a narrow strip could take more memory than there is
        image = _middle(image, min(image.width, longest), min(image.height, longest))
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    return _middle(image.resize((width, height)), size, size)


def _middle(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
