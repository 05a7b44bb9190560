"""Images as pictures: grey levels, signed changes in diverging colours, mosaics, PNG. NumPy and Pillow only.

Images are arrays (C, H, W) with values in [0, 1], C of 1 or 3. Pictures are (H, W, 3) or (H, W, 4) uint8.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

import numpy as np
from PIL import Image

_BLUE, _WHITE, _RED = np.array([33, 102, 172]), np.array([247, 247, 247]), np.array([178, 24, 43])


def rgb(image: np.ndarray) -> np.ndarray:
    """(C, H, W) in [0, 1] → (H, W, 3) uint8."""
    levels = np.rint(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    return np.repeat(levels[0][:, :, None], 3, axis=2) if levels.shape[0] == 1 else levels.transpose(1, 2, 0)


def gain_for(deltas: Iterable[np.ndarray]) -> float:
    """The largest round gain (1, 2, 5, 10, …) at which no change in `deltas` is clipped."""
    largest = max((float(np.max(np.abs(delta))) for delta in deltas), default=0.0)
    if largest <= 0:
        return 1.0
    exponent = np.floor(np.log10(1 / largest))
    lead = 1 / largest / 10**exponent
    return float(max(1.0, (5 if lead >= 5 else 2 if lead >= 2 else 1) * 10**exponent))


def difference(delta: np.ndarray, gain: float) -> np.ndarray:
    """A signed change (C, H, W) in [-1, 1] → (H, W, 3) uint8: blue for less, white for none, red for more.

    Of several channels, a pixel shows the one that changed most.
    """
    strongest = np.take_along_axis(delta, np.abs(delta).argmax(axis=0)[None], axis=0)[0]
    share = np.clip(strongest * gain, -1, 1)[:, :, None]
    colour = np.where(share < 0, _WHITE + (_BLUE - _WHITE) * -share, _WHITE + (_RED - _WHITE) * share)
    return np.rint(colour).astype(np.uint8)


def png(picture: np.ndarray, scale: int = 1) -> bytes:
    """A picture as PNG bytes, each pixel enlarged to `scale` × `scale`."""
    buffer = io.BytesIO()
    Image.fromarray(picture.repeat(scale, axis=0).repeat(scale, axis=1)).save(buffer, "PNG")
    return buffer.getvalue()


def data_url(data: bytes) -> str:
    """PNG bytes as an address that holds them."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
