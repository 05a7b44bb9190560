"""The choice of a mask: eyeglasses or a patch where one puts them, or cells drawn by hand on the image."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from core import specs
from core.attacks.physical import mask_shapes
from core.figures.base import styled
from ui.form import bound, controls
from ui.form.select import select
from ui.show import gallery

SHAPES = {"eyeglasses": "Eyeglasses", "patch": "Patch", "cells": "Drawn by hand"}
MAX_CELLS = 32
"""Cells a side on the drawing board; a larger image is drawn on in blocks of pixels."""
INK = np.array([209, 98, 43])
"""Colour of the mask."""
BOARD = 360
"""Height of the drawing board, in CSS pixels."""


def shape(page: str) -> str:
    """Draw the choice of the kind of mask; returns its name."""
    return select(
        page,
        "shape",
        "Mask: what may change",
        list(SHAPES),
        text=SHAPES.__getitem__,
        kind="buttons",
        help="The attack leaves every pixel outside the mask as it is.",
    )


def settings(page: str, shape: str, height: int, width: int) -> specs.AnyMask | None:
    """Draw the size and the place of a ready shape for images of this size; None, said, where they are too small."""
    if min(height, width) < mask_shapes.MIN_SIDE:
        st.error(f"The shapes need images of at least {mask_shapes.MIN_SIDE} pixels a side.", icon=":material/error:")
        return None
    cls = specs.SHAPES[shape]
    names = [name for name in cls.model_fields if name != "shape"]
    columns = st.columns(len(names), vertical_alignment="bottom")
    values = {}
    for column, name in zip(columns, names, strict=True):
        with column:
            values[name] = controls.field(page, cls, name, key=f"{shape}_{name}")
    return controls.build(cls, **values)


def count(cells: np.ndarray) -> str:
    """How much of the image a mask (H, W) covers."""
    return f"{int(cells.sum())} of {cells.size} pixels may change ({cells.mean():.0%})."


def tint_of(mask: specs.AnyMask, image: np.ndarray) -> np.ndarray:
    """The image (C, H, W) with a mask that is not drawn yet laid over it: (H, W, 3) uint8."""
    return tinted(image, mask_shapes.draw(mask, *image.shape[1:]))


def tinted(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image (C, H, W) with the mask (H, W) laid over it in colour: (H, W, 3) uint8."""
    grey = np.repeat(image, 3, axis=0) if len(image) == 1 else image
    picture = np.clip(grey, 0, 1).transpose(1, 2, 0) * 255
    return np.rint(np.where(mask[:, :, None], 0.25 * picture + 0.75 * INK, picture)).astype(np.uint8)


def board_size(height: int, width: int) -> tuple[int, int, int]:
    """Rows and columns of the drawing board, and the side of one of its cells in pixels."""
    block = -(-max(height, width) // MAX_CELLS)
    return -(-height // block), -(-width // block), block


def painted(cells: np.ndarray, chosen: Sequence[int], brush: str) -> np.ndarray:
    """The cells (rows, columns) bool after a stroke over some of them, given by their positions row by row."""
    after = cells.copy().ravel()
    after[np.asarray(chosen, dtype=int)] = brush == "paint"
    return after.reshape(cells.shape)


def to_text(cells: np.ndarray) -> str:
    """The cells as hexadecimal digits; `0` if no cell is drawn."""
    return np.packbits(cells.ravel()).tobytes().hex() if cells.any() else "0"


def from_text(text: str, height: int, width: int) -> np.ndarray:
    """The cells of a text; eyeglasses if it is empty or was drawn for images of another size."""
    rows, columns, block = board_size(height, width)
    if text == "0":
        return np.zeros((rows, columns), dtype=bool)
    if text:
        with contextlib.suppress(ValueError):
            return mask_shapes.draw(specs.Cells(height=rows, width=columns, bits=text), rows, columns)
    if min(height, width) >= mask_shapes.MIN_SIDE:
        mask = mask_shapes.eyeglasses(height, width)
        return mask[block // 2 :: block, block // 2 :: block][:rows, :columns]
    return np.zeros((rows, columns), dtype=bool)


def draw(page: str, image: np.ndarray) -> specs.Cells | None:
    """The drawing board; the drawing is kept in the address, as text."""
    height, width = image.shape[1:]
    key, board = f"{page}_cells", f"{page}_board"
    cells = from_text(str(st.session_state.get(key, st.query_params.get(key, ""))), height, width)
    turn = st.session_state.setdefault(f"{page}_turn", 0)
    left, right = st.columns([3, 2])
    with right:
        brush = select(page, "brush", "Brush", ["paint", "erase"], help="What dragging over cells does.")
        with st.container(horizontal=True):
            st.button("Clear", icon=":material/delete:", key=f"{page}_clear", on_click=_keep, args=(page, "0"))
            st.button("Eyeglasses", icon=":material/eyeglasses:", key=f"{page}_ready", on_click=_keep, args=(page, ""))
        bound.text_input(
            "The drawing as text",
            key=key,
            help="Copy it to keep a drawing; paste one to have it back. Empty: the eyeglasses.",
        )
    with left:
        name = f"{board}_{turn}"

        def stroke() -> None:
            chosen = st.session_state[name]["selection"]["point_indices"]
            if chosen:
                _keep(page, to_text(painted(cells, chosen, brush)))

        st.plotly_chart(
            _board(image, cells),
            key=name,
            on_select=stroke,
            selection_mode=("box", "lasso"),
            config={"displaylogo": False, "modeBarButtonsToRemove": ["zoom2d", "pan2d", "autoScale2d", "resetScale2d"]},
            alt=f"Drawing board of {cells.shape[0]} by {cells.shape[1]} cells; {int(cells.sum())} are in the mask",
        )
    st.caption(
        "Drag a box over cells to paint or erase them; for other shapes the lasso is at the top right of the board."
    )
    if not cells.any():
        st.info("Draw at least one cell.", icon=":material/draw:")
        return None
    block = board_size(height, width)[2]
    drawn = np.kron(cells, np.ones((block, block)))[:height, :width]
    st.caption(count(drawn))
    return mask_shapes.from_array(drawn)


def _keep(page: str, text: str) -> None:
    """Replace the drawing; the board gets a new key, so that the last selection is forgotten."""
    st.session_state[f"{page}_cells"] = text
    st.session_state[f"{page}_turn"] += 1


def _board(image: np.ndarray, cells: np.ndarray) -> go.Figure:
    """The image, and over it a square for each cell, filled where it is in the mask."""
    rows, columns = cells.shape
    block = board_size(*image.shape[1:])[2]
    down, right = np.divmod(np.arange(cells.size), columns)
    size = 0.82 * (BOARD - 20) / max(rows, columns)
    figure = go.Figure()
    figure.add_layout_image(
        source=gallery.data_url(gallery.png(gallery.rgb(image), 8)),
        xref="x",
        yref="y",
        x=-0.5,
        y=-0.5,
        sizex=image.shape[2] / block,
        sizey=image.shape[1] / block,
        sizing="stretch",
        layer="below",
    )
    ink = f"rgb({INK[0]},{INK[1]},{INK[2]})"
    figure.add_trace(
        go.Scatter(
            x=right,
            y=down,
            mode="markers",
            marker={
                "symbol": "square",
                "size": size,
                "color": [ink if cell else "rgba(128,140,160,0.25)" for cell in cells.ravel()],
                "line": {"width": 0},
            },
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"opacity": 1}},
            hovertemplate="row %{y}, column %{x}<extra></extra>",
        )
    )
    axis: dict[str, Any] = {"visible": False, "fixedrange": True, "constrain": "domain"}
    figure.update_xaxes(**axis, range=[-0.5, columns - 0.5])
    figure.update_yaxes(**axis, range=[rows - 0.5, -0.5], scaleanchor="x")
    return styled(
        figure,
        height=BOARD,
        dragmode="select",
        showlegend=False,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
    )
