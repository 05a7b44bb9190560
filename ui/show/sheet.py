"""A grid of images with its labels: what `gallery.show` draws, and the same as one PNG file that can stand alone."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

FONT = Path(__file__).resolve().parents[1] / "assets" / "DejaVuSans.ttf"
MIN_TILE = 112
"""Least width of a tile in the file, in pixels, so that labels find room."""
MARGIN, SPACE = 16, 8
SMALL, LARGE = 13, 15
_INK, _GREY = (27, 36, 48), (90, 100, 115)


@dataclass(frozen=True)
class Picture:
    """A grid of images at native resolution, and what is written around it.

    Attributes:
        strips: a row of tiles each, (H, W, 4) uint8, or None for a row without any.
        tile: height and width of a tile in pixels.
        gap: transparent pixels between tiles.
        alt: what the grid shows, in a sentence: its title.
        columns: a label over each column.
        rows: a label beside each row.
        captions: a text under each tile, row by row.
        legend: a line under the grid.
    """

    strips: tuple[np.ndarray | None, ...]
    tile: tuple[int, int]
    gap: int
    alt: str
    columns: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    captions: tuple[tuple[str, ...], ...] = ()
    legend: str = ""


def png(picture: Picture, scale: int = 4, provenance: str = "") -> bytes:
    """The grid with title, labels, captions and legend as PNG bytes on white.

    Each pixel of an image becomes a square of `scale` × `scale` or more, unsmoothed; `provenance` goes into the file's
    metadata.
    """
    height, width = picture.tile
    scale = max(scale, -(-MIN_TILE // width))
    tile, step, gap = width * scale, (width + picture.gap) * scale, picture.gap * scale
    labels = max((_font(SMALL).getlength(line) for text in picture.rows for line in text.split("\n")), default=-SPACE)
    left = round(MARGIN + SPACE + labels)
    right = max(left + scale * max(strip.shape[1] for strip in picture.strips if strip is not None), MARGIN + 240)
    title, legend = (
        _wrapped(text, size, right - MARGIN) for text, size in ((picture.alt, LARGE), (picture.legend, SMALL))
    )
    heads = [_wrapped(text, SMALL, tile) for text in picture.columns]
    under = [[_wrapped(text, SMALL, tile) for text in row] for row in picture.captions]
    top = MARGIN + len(title) * _line(LARGE) + SPACE + max(map(len, heads), default=0) * _line(SMALL)
    tops = []
    for row in range(len(picture.strips)):
        tops.append(top)
        words = max(map(len, under[row]), default=0) if under else 0
        top += height * scale + (_line(SMALL) * words + SPACE if under else gap)
    page = Image.new("RGB", (right + MARGIN, top + SPACE + len(legend) * _line(SMALL) + MARGIN), "white")
    draw = ImageDraw.Draw(page)
    _write(draw, title, MARGIN, MARGIN, LARGE)
    _write(draw, legend, MARGIN, top + SPACE, SMALL, ink=_GREY)
    for c, lines in enumerate(heads):
        _write(draw, lines, left + c * step + tile // 2, tops[0] - len(lines) * _line(SMALL), SMALL, "ma")
    for r, strip in enumerate(picture.strips):
        if strip is not None:
            enlarged = Image.fromarray(strip.repeat(scale, axis=0).repeat(scale, axis=1))
            page.paste(enlarged, (left, tops[r]), enlarged)
        beside = picture.rows[r].split("\n") if picture.rows else []
        middle = tops[r] + (height * scale - len(beside) * _line(SMALL)) // 2
        _write(draw, beside, left - SPACE, middle, SMALL, "ra")
        for c, lines in enumerate(under[r] if under else ()):
            _write(draw, lines, left + c * step + tile // 2, tops[r] + height * scale + 2, SMALL, "ma")
    return encoded(page, provenance)


def _write(
    draw: ImageDraw.ImageDraw,
    lines: Sequence[str],
    x: int,
    y: int,
    size: int,
    anchor: str = "la",
    ink: tuple[int, int, int] = _INK,
) -> None:
    for k, text in enumerate(lines):
        draw.text((x, y + k * _line(size)), text, fill=ink, font=_font(size), anchor=anchor)


def _line(size: int) -> int:
    return round(1.3 * size)


def encoded(image: Image.Image, provenance: str = "") -> bytes:
    """PNG bytes, with `provenance` as the metadata's Description."""
    info = PngInfo()
    if provenance:
        info.add_itxt("Description", provenance)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


@functools.lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(FONT, size)


def _wrapped(text: str, size: int, width: int) -> list[str]:
    """The text in lines that are no wider; a word that is too long is cut."""
    font = _font(size)
    lines: list[str] = []
    for paragraph in text.split("\n") if text else ():
        current = ""
        for word in paragraph.split():
            while font.getlength(word) > width and len(word) > 1:
                fits = next(k for k in range(len(word) - 1, 0, -1) if k == 1 or font.getlength(word[:k]) <= width)
                lines += [current] if current else []
                current, lines, word = "", [*lines, word[:fits]], word[fits:]
            joined = f"{current} {word}".strip()
            if current and font.getlength(joined) > width:
                lines.append(current)
                joined = word
            current = joined
        lines.append(current)
    return lines
