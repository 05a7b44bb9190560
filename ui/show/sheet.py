"""A grid of images as a picture file that explains itself: title, labels, captions and a line of provenance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ui.show import gallery

SIZE, MARGIN = 14, 12
"""Height of the letters and width of the margin, in pixels."""
_PLAIN = str.maketrans({"→": "to", "✓": "", "✗": "not,", "ℓ": "L", "∞": "inf", "·": "-", "ε": "eps", "–": "-"})
"""Signs that the font inside Pillow lacks, and what stands for them."""


def labelled(
    tiles: Sequence[Sequence[np.ndarray | None]],
    *,
    title: str,
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    foot: str = "",
    tile: int = 84,
) -> np.ndarray:
    """Rows of tiles with words around them → a picture (H, W, 3) uint8 on white, for `downloads.picture`.

    Args:
        tiles: as in `gallery.mosaic`.
        title: written over the grid.
        columns: a label over each column.
        rows: a label beside each row.
        captions: a short text under each tile, row by row.
        foot: written below, such as the provenance; broken into lines.
        tile: least width of a tile in pixels; the next whole multiple of its own is taken.

    Raises:
        ValueError: as `gallery.mosaic`.
    """
    font = ImageFont.load_default(SIZE)
    drawn = gallery.mosaic(tiles)
    count = max(len(row) for row in tiles)
    native = next(t for row in tiles for t in row if t is not None)
    native_width = native.shape[1] if native.dtype == np.uint8 and native.shape[-1] == 3 else native.shape[-1]
    scale = -(-tile // native_width)
    side, gap = native_width * scale, gallery.gap_for(native_width) * scale
    line = SIZE + 4
    left = MARGIN + max((_width(font, part) for text in rows for part in _plain(text).split("\n")), default=0) + 8
    top = MARGIN + 2 * line + (line if columns else 0)
    under = line if captions else 0
    width = max(left + drawn.shape[1] * scale + MARGIN, MARGIN * 2 + _width(font, _plain(title)))
    foot_lines = _broken(_plain(foot), font, width - 2 * MARGIN)
    strips = [gallery.mosaic([row]) if any(t is not None for t in row) else None for row in tiles]
    height_of = next(strip.shape[0] for strip in strips if strip is not None) * scale
    step = height_of + under + gap
    height = top + len(tiles) * step + (len(foot_lines) + 1) * line + MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), _plain(title), fill="black", font=ImageFont.load_default(SIZE + 2))

    def centred(text: str, column: int, y: int) -> None:
        pen.text((left + column * (side + gap) + side / 2, y), _plain(text), fill="black", font=font, anchor="ma")

    for column, text in enumerate(columns[:count]):
        centred(text, column, top - line)
    for r, strip in enumerate(strips):
        y = top + r * step
        if rows:
            pen.multiline_text((MARGIN, y + height_of / 2 - line / 2), _plain(rows[r]), fill="black", font=font)
        if strip is not None:
            image = Image.fromarray(strip.repeat(scale, axis=0).repeat(scale, axis=1))
            sheet.paste(image, (left, y), image)
        for column, text in enumerate(captions[r] if captions else ()):
            centred(text, column, y + height_of + 2)
    for place, text in enumerate(foot_lines):
        pen.text((MARGIN, top + len(tiles) * step + (place + 0.5) * line), text, fill="#444444", font=font)
    return np.asarray(sheet)


def _plain(text: str) -> str:
    return text.translate(_PLAIN)


def _width(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> int:
    return int(font.getlength(text)) + 1


def _broken(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """The words of a text in lines that are no wider than `width` pixels, where no single word is."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _width(font, longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
