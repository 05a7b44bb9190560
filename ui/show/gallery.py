"""Many images as one mosaic: one PNG at native resolution, enlarged by the browser without smoothing.

Images are arrays (C, H, W) with values in [0, 1], C of 1 or 3. Differences are signed and drawn in diverging colours:
blue is darker than before, red is brighter, and the gain is written beside them.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np
import streamlit as st

from core.figures.base import ATTACKED
from core.figures.pixels import data_url, difference, gain_for, png, rgb
from ui.show.sheet import Picture

__all__ = ["data_url", "difference", "gain_for", "mosaic", "picture", "png", "probabilities", "rgb", "show", "softmax"]

LEAST = 40
"""CSS pixels that a tile keeps where the page is narrow; wished smaller ones stay as wished."""
LETTER = 6.9
"""CSS pixels that a letter of a column's label takes at most, on average over a word."""


def gap_for(width: int) -> int:
    """Transparent pixels between tiles of this native width."""
    return max(1, width // 14)


def mosaic(tiles: Sequence[Sequence[np.ndarray | None]]) -> np.ndarray:
    """Rows of tiles → one (H, W, 4) uint8 picture; gaps and tiles that are None are transparent.

    A tile is an image (C, H, W) in [0, 1], or an (H, W, 3) uint8 picture such as `difference` makes; all of one size.

    Raises:
        ValueError: no tile at all, or tiles of different sizes.
    """
    drawn = [[None if tile is None else _drawn(tile) for tile in row] for row in tiles]
    sizes = {tile.shape[:2] for row in drawn for tile in row if tile is not None}
    if len(sizes) != 1:
        raise ValueError(f"tiles: expected tiles of one size, got {sorted(sizes) or 'none'}")
    height, width = sizes.pop()
    gap, columns = gap_for(width), max(len(row) for row in drawn)
    picture = np.zeros((len(drawn) * (height + gap) - gap, columns * (width + gap) - gap, 4), np.uint8)
    for r, row in enumerate(drawn):
        for c, tile in enumerate(row):
            if tile is not None:
                top, left = r * (height + gap), c * (width + gap)
                picture[top : top + height, left : left + width, :3] = tile
                picture[top : top + height, left : left + width, 3] = 255
    return picture


def _drawn(tile: np.ndarray) -> np.ndarray:
    return tile if tile.dtype == np.uint8 and tile.shape[-1] == 3 else rgb(tile)


def picture(
    tiles: Sequence[Sequence[np.ndarray | None]],
    *,
    alt: str,
    columns: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    captions: Sequence[Sequence[str]] | None = None,
    legend: str = "",
) -> Picture:
    """Rows of tiles with their labels, as `show` draws them, for a file. The arguments are those of `show`."""
    drawn = [[None if tile is None else _drawn(tile) for tile in row] for row in tiles]
    height, width = next(tile.shape[:2] for row in drawn for tile in row if tile is not None)
    return Picture(
        tuple(mosaic([row]) if any(tile is not None for tile in row) else None for row in drawn),
        (height, width),
        gap_for(width),
        alt,
        tuple(columns or ()),
        tuple(rows or ()),
        tuple(map(tuple, captions or ())),
        legend,
    )


def show(
    tiles: Sequence[Sequence[np.ndarray | None]],
    *,
    alt: str,
    columns: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    captions: Sequence[Sequence[str]] | None = None,
    legend: str = "",
    tile: int = 72,
    marked: int | None = None,
) -> Picture:
    """Draw rows of tiles as one sharp picture with labels that stay aligned at every width.

    Each pixel is drawn as a whole number of CSS pixels: the largest that the room has, up to the wished one. Where the
    room is less than `LEAST` a tile, the picture scrolls.

    Args:
        tiles: as in `mosaic`.
        alt: what the picture shows, in a sentence.
        columns: a short label over each column. Its words stay whole: where the page is too narrow, one scrolls.
        rows: a short label beside each row.
        captions: a short text under each tile, row by row (such as `4→9`); lines are split at a newline.
        legend: a line under the picture: what colours mean, the gain, the order.
        tile: wished width of a tile on the page, in CSS pixels; rounded to a whole multiple of the native width.
        marked: a column that is framed and whose label is marked, or None.

    Returns:
        The grid with its labels, for `downloads.picture`.
    """
    made = picture(tiles, alt=alt, columns=columns, rows=rows, captions=captions, legend=legend)
    pixels, native = mosaic(tiles), made.tile[1]
    count = max(len(row) for row in tiles)
    width, scale = pixels.shape[1], max(1, round(tile / native))
    least, most = width * min(scale, math.ceil(LEAST / native)), width * scale
    fitted = f"width:min({most}px,max(round(down,100%,{width}px),{least}px));max-width:{most}px"
    gap = f"{100 * gap_for(native) / width:.3f}%"
    frame = "" if marked is None else _frame(marked * (native + gap_for(native)) / width, native / width)
    strips = made.strips if captions else (pixels,)
    parts = []
    if columns:
        headed = [f"▾ {text}" if c == marked else text for c, text in enumerate(columns)]
        parts.append("<div></div>" * bool(rows) + _labels(headed, count, gap, "600", fitted))
    for r, strip in enumerate(strips):
        if rows and captions:
            parts.append(_row_label(rows[r]))
        elif rows:
            parts.append('<div style="display:grid;grid-auto-rows:1fr">' + "".join(map(_row_label, rows)) + "</div>")
        image = "" if strip is None else _image(strip, alt if r == 0 else "") + frame
        parts.append(f'<div style="position:relative;{fitted}">{image}</div>')
        if captions:
            parts.append("<div></div>" * bool(rows) + _labels(captions[r], count, gap, "400", fitted))
    longest = max((len(word) for text in columns or () for word in text.split()), default=0)
    wished = max(least, min(count * longest * LETTER, most))
    template = f"{'max-content ' if rows else ''}minmax({wished:.0f}px,{most}px)"
    st.html(
        '<figure tabindex="0" style="margin:0;overflow-x:auto">'
        f'<div style="display:grid;grid-template-columns:{template};gap:3px 8px;'
        f'line-height:1.25;font-size:0.8rem">{"".join(parts)}</div>'
        f'<figcaption style="font-size:0.8rem;opacity:0.75;margin-top:4px">{html.escape(legend)}</figcaption></figure>'
    )
    return made


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def probabilities(
    values: np.ndarray, class_names: Sequence[str], *, alt: str, marked: int | None = None, width: int = 220
) -> None:
    """Draw class probabilities (K,) as small bars with their numbers; `marked` (a class) is set in bold."""
    lines = []
    for k, (name, value) in enumerate(zip(class_names, values, strict=True)):
        weight, colour = (700, "#d1622b") if k == marked else (400, "#3b6fb6")
        lines.append(
            f'<div style="font-weight:{weight};text-align:right;white-space:nowrap">{html.escape(name)}</div>'
            '<div style="background:rgba(128,140,160,.18);height:0.7em;align-self:center">'
            f'<div style="background:{colour};height:100%;width:{100 * float(value):.1f}%"></div></div>'
            f'<div style="font-weight:{weight};font-variant-numeric:tabular-nums">{float(value):.3f}</div>'
        )
    st.html(
        f'<div role="img" aria-label="{html.escape(alt, quote=True)}" style="display:grid;max-width:{width}px;'
        f'grid-template-columns:max-content 1fr max-content;gap:1px 6px;font-size:0.75rem;line-height:1.3">'
        f"{''.join(lines)}</div>"
    )


def _image(picture: np.ndarray, alt: str) -> str:
    style = "image-rendering:pixelated;width:100%;height:auto;display:block"
    return f'<img src="{data_url(png(picture))}" alt="{html.escape(alt, quote=True)}" style="{style}">'


def _frame(left: float, width: float) -> str:
    """An outline over a column of a strip; both numbers are shares of the strip's width."""
    place = f"left:{100 * left:.3f}%;width:{100 * width:.3f}%;top:0;bottom:0"
    return f'<div style="position:absolute;{place};outline:3px solid {ATTACKED};border-radius:1px"></div>'


def _labels(texts: Sequence[str], count: int, gap: str, weight: str, fitted: str) -> str:
    cells = "".join(
        f'<div style="text-align:center;overflow:hidden;overflow-wrap:anywhere">{_lines(text)}</div>' for text in texts
    )
    columns = f"grid-template-columns:repeat({count},minmax(0,1fr));column-gap:{gap}"
    style = f"display:grid;{columns};font-weight:{weight};{fitted}"
    return f'<div style="{style}">{cells}</div>'


def _row_label(text: str) -> str:
    return f'<div style="align-self:center;text-align:right;font-weight:600">{_lines(text)}</div>'


def _lines(text: str) -> str:
    return "<br>".join(html.escape(line) for line in text.split("\n"))
