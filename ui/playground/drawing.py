"""A digit drawn by hand: a component of our own, and the drawing in the address."""

from __future__ import annotations

import base64
import binascii
import zlib
from pathlib import Path

import numpy as np
import streamlit as st

from core.storage import store
from ui.playground import address, uploads
from ui.playground.address import PAGE
from ui.playground.picture import Picture

SIDE = 56
"""Squares of the drawing a side, each with or without ink."""
_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "adversarial_lab_drawing",
    html=(_HERE / "drawing.html").read_text(encoding="utf-8"),
    css=(_HERE / "drawing.css").read_text(encoding="utf-8"),
    js=(_HERE / "drawing.js").read_text(encoding="utf-8"),
)


def choose(model: store.Artifact, shape: tuple[int, int, int]) -> Picture | None:
    """Draw the field to draw on; None, with the reason on the page, where nothing is drawn yet."""
    if not uploads.is_digits(model):
        st.info(
            "Drawing works for models of digits with 28×28 pixels. Choose another model, or upload a picture.",
            icon=":material/info:",
        )
        return None
    given = st.query_params.get(f"{PAGE}_drawing")
    packed = address.value("drawing", _readable, str, "")
    if given and not packed:
        st.info("The drawing in this address cannot be read; draw a new one.", icon=":material/info:")
    cells = unpacked(packed) if packed else None

    def drawn() -> None:
        found = _from_browser(st.session_state[f"{PAGE}_canvas"].get("cells"))
        address.put("drawing", "" if found is None or not found.any() else pack(found))

    _component(
        key=f"{PAGE}_canvas",
        data={"side": SIDE, "cells": "" if cells is None else _to_browser(cells)},
        on_cells_change=drawn,
    )
    if cells is None:
        return None
    from core.data.framing import framed

    x = framed(cells.astype(np.int64), 1).astype(np.float32)[None] / 255
    return Picture(np.ascontiguousarray(x), None, "your drawing")


def pack(cells: np.ndarray) -> str:
    """A drawing (SIDE, SIDE) of 0 and 1 as a short text for an address."""
    raw = zlib.compress(np.packbits(cells.astype(bool)).tobytes(), 9)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def unpacked(text: str) -> np.ndarray | None:
    """The drawing that a text stands for; None where it stands for none, or for an empty one."""
    wanted = SIDE * SIDE // 8
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        unpack = zlib.decompressobj()
        raw = unpack.decompress(packed, wanted + 1)  # whatever an address says: no more memory than a drawing takes
    except (binascii.Error, ValueError, zlib.error):
        return None
    if len(raw) != wanted:
        return None
    cells = np.unpackbits(np.frombuffer(raw, dtype=np.uint8)).reshape(SIDE, SIDE)
    return cells if cells.any() else None


def _readable(text: str) -> str | None:
    return text if not text or unpacked(text) is not None else None


def _to_browser(cells: np.ndarray) -> str:
    return base64.b64encode(np.packbits(cells.astype(bool)).tobytes()).decode()


def _from_browser(text: object) -> np.ndarray | None:
    try:
        raw = base64.b64decode(str(text or ""), validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(raw) != SIDE * SIDE // 8:
        return None
    return np.unpackbits(np.frombuffer(raw, dtype=np.uint8)).reshape(SIDE, SIDE)
