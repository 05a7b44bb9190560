"""An uploaded picture, brought into the form of a data set's images."""

from __future__ import annotations

import numpy as np
import streamlit as st
from PIL import Image, ImageOps

from core.data.image_file import NotRead, opened
from core.storage import store
from ui.playground.address import PAGE
from ui.playground.picture import Picture
from ui.text import literal

MOST_BYTES = 10_000_000


class Refused(ValueError):
    """An upload that cannot be used; the text says why in a sentence."""


def choose(model: store.Artifact, shape: tuple[int, int, int]) -> Picture | None:
    """Draw the choice of a file; None, with the reason on the page, where there is none that can be used."""
    kept = f"{PAGE}_kept_upload"
    file = st.file_uploader(
        "A PNG or JPEG", type=["png", "jpg", "jpeg"], key=f"{PAGE}_upload", max_upload_size=MOST_BYTES // 1_000_000
    )
    if file is not None:
        st.session_state[kept] = (file.name, file.getvalue())
    if kept not in st.session_state:
        st.info("Choose a picture: a photograph of a handwritten digit, for example.", icon=":material/upload:")
        return None
    name, raw = st.session_state[kept]
    try:
        x = framed(raw, shape, digits=is_digits(model))
    except Refused as error:
        st.error(f"{literal(name)}: {literal(error)}", icon=":material/error:")
        return None
    st.caption(f"{literal(name)}. An upload is too large for the address: a link to this page does not carry it.")
    return Picture(x, None, f"your picture {name}")


def is_digits(model: store.Artifact) -> bool:
    """Whether a model's images are handwritten digits in MNIST's frame."""
    return list(model.card["shape"]) == [1, 28, 28] and all(name.isdigit() for name in model.card["class_names"])


def framed(raw: bytes, shape: tuple[int, int, int], *, digits: bool) -> np.ndarray:
    """A picture in the form of a data set's images.

    A bright background becomes dark where images have one channel. A digit is cropped to its ink and centred by its
    mass, as MNIST's are; other pictures are cropped to a square and made smaller.

    Args:
        raw: a PNG or JPEG.
        shape: channels, height and width.
        digits: whether the images are digits in MNIST's frame.

    Returns:
        (C, H, W) float32 in [0, 1].

    Raises:
        Refused: no picture, one that is too large, or an empty one.
    """
    if len(raw) > MOST_BYTES:
        raise Refused(f"this file is larger than {MOST_BYTES // 1_000_000} MB.")
    try:
        with opened(raw, ("PNG", "JPEG", "MPO")) as image:
            upright = ImageOps.exif_transpose(image) or image
            whole = upright.convert("RGBA")
    except NotRead as error:
        raise Refused(f"this file {error}; expected a PNG or a JPEG.") from None
    except MemoryError:
        raise Refused("this picture is too large for the memory.") from None
    except Exception as error:  # decoders of damaged files raise whatever comes: SyntaxError, struct.error, …
        raise Refused("this file is damaged, and cannot be read as a PNG or JPEG.") from error
    ground = Image.new("RGBA", whole.size, "white")
    flat = Image.alpha_composite(ground, whole).convert("L" if shape[0] == 1 else "RGB")
    if digits:
        return _digit(np.asarray(flat, dtype=np.float64))
    square = ImageOps.fit(flat, (shape[2], shape[1]), Image.Resampling.LANCZOS)
    pixels = np.asarray(square, dtype=np.float32) / 255
    if shape[0] == 3:
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return np.ascontiguousarray((1 - pixels if _border(pixels) > 0.5 else pixels)[None])


def _border(pixels: np.ndarray) -> float:
    """The median along the edge of a picture: its background."""
    return float(np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])))


def _digit(grey: np.ndarray) -> np.ndarray:
    """Grey levels 0…255 of a drawing or photograph → a digit in MNIST's frame, bright on dark."""
    from core.data.framing import framed as in_frame

    step = max(1, int(np.ceil(max(grey.shape) / 400)))
    grey = grey[::step, ::step]
    ground = _border(grey)
    apart = np.abs(grey - ground)
    full = float(np.quantile(apart, 0.999))
    if full < 25:
        raise Refused("nothing is to be seen on it: the digit has to differ clearly from the background.")
    # paper is never even: what differs by less than a third of full ink is background
    ink = np.clip((apart / full - 0.35) / 0.45, 0, 1)
    return in_frame(np.rint(ink * 255).astype(np.int64), 255).astype(np.float32)[None] / 255
