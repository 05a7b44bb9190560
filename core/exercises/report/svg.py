"""Charts as inline SVG, made from numbers by this module alone.

A report must open anywhere without a request: plotly's script would add 4 MB to every file and draw nothing without
JavaScript, and a printed page has no hover. An SVG of a dozen points is a few kilobytes, is sharp on paper, and its
text can be searched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape

from core.exercises.curves import Series
from core.figures.base import PALETTE

WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 56, 265, 14, 46
Place = Callable[[float], float]
LINE = 15
"""Pixels between two labels that stand at the ends of their curves."""


def chart(
    series: Sequence[Series],
    *,
    alt: str,
    x_title: str,
    y_title: str,
    percent: bool = True,
    x_ticks: Sequence[float] = (),
    level: tuple[float, str] | None = None,
) -> str:
    """Curves with their intervals as bands, each named at its right end.

    Args:
        series: at least one.
        alt: the chart in words.
        x_title: of the horizontal axis.
        y_title: of the vertical axis.
        percent: whether the values are shares: the axis then goes from 0 to 100 %.
        x_ticks: where the horizontal axis has numbers; else at the points of the first series.
        level: a horizontal dotted line and what it is.
    """
    xs = [x for one in series for x in one.x]
    ys = [y for one in series for y in (*one.y, *one.low, *one.high) if y is not None]
    bottom, top = (0.0, 1.0) if percent else (min(ys), max(ys))
    start, end = min(xs), max(xs)
    top, end = (top if top > bottom else bottom + 1), (end if end > start else start + 1)

    def right(x: float) -> float:
        return round(LEFT + (x - start) / (end - start) * (WIDTH - LEFT - RIGHT), 1)

    def down(y: float) -> float:
        return round(TOP + (top - y) / (top - bottom) * (HEIGHT - TOP - BOTTOM), 1)

    parts = [*_axes(x_ticks or series[0].x, (bottom, top), percent, right, down), *_titles(x_title, y_title)]
    if level is not None:
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(level[0])}" y2="{down(level[0])}" stroke="#888" '
            f'stroke-dasharray="2 3"/><text x="{LEFT + 6}" y="{down(level[0]) - 4}" class="s">{escape(level[1])}</text>'
        )
    for one in series:
        parts += _curve(one, right, down)
    parts += _labels(series, down)
    return (
        f'<svg role="img" aria-label="{escape(alt, quote=True)}" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escape(alt)}</title>{"".join(parts)}</svg>'
    )


def _axes(ticks: Sequence[float], ends: tuple[float, float], percent: bool, right: Place, down: Place) -> Iterator[str]:
    bottom, top = ends
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = bottom + share * (top - bottom)
        text = f"{100 * y:.0f} %" if percent else f"{y:.3g}"
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(y)}" y2="{down(y)}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 6}" y="{down(y) + 4}" text-anchor="end" class="s">{text}</text>'
    step = -(-len(ticks) // 12)
    for x in list(ticks)[::step]:
        text = f'<text x="{right(x)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle" class="s">{x:g}</text>'
        yield text


def _titles(x_title: str, y_title: str) -> list[str]:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return [
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_title)}</text>',
        f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{escape(y_title)}</text>',
    ]


def _curve(one: Series, right: Place, down: Place) -> Iterator[str]:
    colour = PALETTE[one.place % len(PALETTE)]
    points = [(right(x), down(y)) for x, y in zip(one.x, one.y, strict=True) if y is not None]
    if one.low and one.high:
        edge = [*zip(one.x, one.high, strict=True), *reversed(list(zip(one.x, one.low, strict=True)))]
        corners = " ".join(f"{right(x)},{down(y)}" for x, y in edge)
        yield f'<polygon points="{corners}" fill="{colour}" opacity="0.16"/>'
    dash = ' stroke-dasharray="6 4"' if one.hollow else ""
    path = " ".join(f"{x},{y}" for x, y in points)
    if one.joined:
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
    for x, y in points:
        if one.hollow:
            corner = f'x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"'
            yield f'<rect {corner} fill="#fff" stroke="{colour}" stroke-width="2"/>'
        else:
            yield f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>'


def _labels(series: Sequence[Series], down: Place) -> Iterator[str]:
    """A name beside the last point of each curve, moved apart so that none lies on another."""
    ends = []
    for one in series:
        last = [(x, y) for x, y in zip(one.x, one.y, strict=True) if y is not None][-1]
        ends.append((down(last[1]), one))
    ends.sort(key=lambda pair: pair[0])
    heights = [height for height, _ in ends]
    for place in range(1, len(heights)):
        heights[place] = max(heights[place], heights[place - 1] + LINE)
    over = heights[-1] - (HEIGHT - BOTTOM + 4)
    if over > 0:
        heights = [height - over for height in heights]
        for place in range(len(heights) - 1, 0, -1):
            heights[place - 1] = min(heights[place - 1], heights[place] - LINE)
    x = WIDTH - RIGHT + 10
    for height, (_, one) in zip(heights, ends, strict=True):
        stroke = f'stroke="{PALETTE[one.place % len(PALETTE)]}" stroke-width="2"'
        dash = ' stroke-dasharray="4 3"' if one.hollow else ""
        yield f'<line x1="{x}" x2="{x + 16}" y1="{height}" y2="{height}" {stroke}{dash}/>'
        yield f'<text x="{x + 21}" y="{height + 4}" class="s">{escape(one.name)}</text>'
