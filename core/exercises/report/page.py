"""The parts of a report as HTML: texts, tables, pictures. Everything that comes from outside is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from core.figures import pixels

STYLE = """
body{font:15px/1.5 system-ui,"Segoe UI",Roboto,Arial,sans-serif;color:#1c2430;background:#fff;max-width:60rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.8rem;margin:0 0 .3rem}h2{margin:2.2rem 0 .4rem;border-bottom:2px solid #3b6fb6;padding-bottom:.2rem}
h3{margin:1.6rem 0 .3rem}h4{margin:1rem 0 .2rem}
p{margin:.4rem 0}
table{border-collapse:collapse;margin:.6rem 0;font-size:.9rem}
caption{text-align:left;white-space:nowrap;font-weight:600;padding-bottom:.2rem}
th,td{padding:.2rem .6rem;border-bottom:1px solid #d5dbe3;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.images td,.images th{text-align:center;border:0;padding:.15rem .3rem}
img{image-rendering:pixelated;display:block;margin:0 auto}
svg{max-width:100%;height:auto;font:13px system-ui,Arial,sans-serif;fill:#1c2430}svg .s{font-size:12px}
.state{border:1px solid currentColor;border-radius:.8rem;padding:0 .6rem;font-size:.85rem;font-weight:400;color:#4b5563}
.state.done{color:#1f6b4d}.state.bundled{color:#2f5b98}
.from{font-size:.8rem;color:#55606e;overflow-wrap:anywhere}
.answer{border:1px solid #97a3b3;border-radius:.3rem;min-height:4.5rem;padding:.5rem .7rem;white-space:pre-wrap}
.scroll{overflow-x:auto}
@page{margin:16mm}
@media print{body{margin:0;max-width:none;font-size:11pt}h2{break-before:page}h2:first-of-type{break-before:auto}
h3,h4,caption{break-after:avoid}tr,svg,figure,.answer{break-inside:avoid}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""


def text(words: str) -> str:
    """A paragraph."""
    return f"<p>{escape(words)}</p>"


def source(words: str) -> str:
    """Where figures come from, in small letters."""
    return f'<p class="from">{escape(words)}</p>'


def bullets(lines: Iterable[str]) -> str:
    """A list."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def answer(words: str, name: str) -> str:
    """A box with an answer, which the reader of the file can still edit before it is printed or saved."""
    label = escape(f"Your answer, {name}", quote=True)
    return (
        f'<div class="answer" contenteditable="true" role="textbox" aria-multiline="true" aria-label="{label}" '
        f'spellcheck="true">{escape(words)}</div>'
    )


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str, numbers: Iterable[int] = ()) -> str:
    """A table; a missing value is a dash. `numbers`: the columns that are set right."""
    wide = set(numbers)

    def cell(tag: str, place: int, value: object) -> str:
        kind = ' class="n"' if place in wide else ""
        return f"<{tag}{kind}>{'–' if value is None or value == '' else escape(str(value))}</{tag}>"

    top = "".join(cell("th", place, value) for place, value in enumerate(head))
    body = "".join("<tr>" + "".join(cell("td", k, v) for k, v in enumerate(row)) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def images(
    pictures: Sequence[Sequence[np.ndarray | None]],
    *,
    alt: str,
    rows: Sequence[str],
    columns: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    wide: int = 56,
) -> str:
    """Pictures in rows and columns, each a PNG inside the page.

    Args:
        pictures: images (C, H, W) in [0, 1] or pictures (H, W, 3) uint8; None leaves a gap.
        alt: what they show; each picture's own words follow it.
        rows: a label beside each row.
        columns: a label over each column.
        captions: a text under each picture.
        wide: width of a picture in CSS pixels.
    """
    lines = []
    if columns:
        lines.append("<tr><th></th>" + "".join(f"<th>{escape(name)}</th>" for name in columns) + "</tr>")
    for r, row in enumerate(pictures):
        cells = [f"<th>{escape(rows[r])}</th>"]
        for c, picture in enumerate(row):
            words = captions[r][c] if captions else ""
            named = " ".join(part for part in (alt, rows[r], columns[c] if columns else "", words) if part)
            shown = "" if picture is None else _img(picture, named, wide)
            cells.append(f"<td>{shown}{escape(words)}</td>")
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return f'<div class="scroll"><table class="images">{"".join(lines)}</table></div>'


def _img(picture: np.ndarray, alt: str, wide: int) -> str:
    drawn = picture if picture.dtype == np.uint8 and picture.shape[-1] == 3 else pixels.rgb(picture)
    url = pixels.data_url(pixels.png(drawn))
    return f'<img src="{url}" width="{wide}" alt="{escape(alt, quote=True)}">'


def document(title: str, body: Iterable[str]) -> str:
    """A whole page that needs nothing but itself."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>"
        + "\n".join(body)
        + "</main></body></html>\n"
    )
