"""Images as the browser is sent them: bytes in base64, drawn there on a canvas. Forty PNGs would take longer."""

from __future__ import annotations

import base64

import numpy as np

from ui.show import gallery


def levels(x: np.ndarray) -> str:
    """(C, H, W) in [0, 1] → grey levels or RGB, row by row, in base64."""
    raw = np.rint(np.clip(np.nan_to_num(x), 0, 1) * 255).astype(np.uint8)
    return base64.b64encode(np.ascontiguousarray(raw.transpose(1, 2, 0)).tobytes()).decode()


def gain_for(delta: np.ndarray) -> float:
    """The largest round gain at which no change is clipped."""
    return gallery.gain_for(delta)


def signed(delta: np.ndarray, gain: float) -> str:
    """A signed change (C, H, W) times its gain → one signed byte a pixel, ±127 for ±1, in base64.

    Of several channels, a pixel shows the one that changed most.
    """
    strongest = np.take_along_axis(delta, np.abs(delta).argmax(axis=0)[None], axis=0)[0]
    raw = np.rint(np.clip(strongest * gain, -1, 1) * 127).astype(np.int8)
    return base64.b64encode(raw.tobytes()).decode()
