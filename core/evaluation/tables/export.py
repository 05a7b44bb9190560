"""Tables as files that the reader's own tools open: CSV for pandas, Markdown, LaTeX for pdflatex.

CSV holds the table and nothing else, so that `pandas.read_csv` needs no argument; where it comes from goes into a text
file beside it. Markdown has the provenance below the table, LaTeX as a comment above it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from tabulate import tabulate

from core import escaping
from core.checks import check_choice

FORMATS = ("csv", "md", "tex")


def to_text(frame: pd.DataFrame, ending: str, provenance: str, keep: Sequence[str] = ()) -> str:
    """A table as text; its index is left out.

    Args:
        frame: the table. What is not known (None, NaN) is empty in CSV and a dash for readers.
        ending: one of `FORMATS`.
        provenance: lines on where the table comes from; not in CSV.
        keep: columns that Markdown and LaTeX have even where nothing in them is known.

    Raises:
        ValueError: another ending.
    """
    check_choice("ending", ending, FORMATS)
    if ending == "csv":
        return in_cells(frame).to_csv(index=False, lineterminator="\n")
    empty = [name for name in frame.columns if frame[name].isna().all() and name not in keep]
    shown = frame.drop(columns=empty).astype(object)
    shown = shown.where(shown.notna(), None)
    return to_markdown(shown, provenance) if ending == "md" else to_latex(shown, provenance)


def to_markdown(frame: pd.DataFrame, provenance: str, *, as_text: bool = False) -> str:
    """GitHub's Markdown, the provenance below; `as_text` leaves numbers in text as they are written."""
    told = "\n".join(map(escaping.markdown, provenance.splitlines()))
    return f"{_printed(each_text(frame, escaping.markdown), 'pipe', as_text)}\n\n{told}\n"


def to_latex(frame: pd.DataFrame, provenance: str, *, as_text: bool = False) -> str:
    """A LaTeX table for the package booktabs, in plain ASCII: every other sign as its LaTeX command."""
    from pylatexenc.latexencode import UnicodeToLatexEncoder

    encoder = UnicodeToLatexEncoder(
        non_ascii_only=True,
        replacement_latex_protection="braces-all",
        unknown_char_policy="replace",
        unknown_char_warning=False,
    )
    body = encoder.unicode_to_latex(_printed(each_text(frame, escaping.line), "latex_booktabs", as_text))
    lines = [*provenance.splitlines(), "needs \\usepackage{booktabs}"]
    return "".join(f"% {line}\n" for line in lines).encode("ascii", "replace").decode() + body + "\n"


def in_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as a spreadsheet may open it: no text in it, and no heading, is worked out there."""
    return each_text(frame, escaping.cell)


def each_text(frame: pd.DataFrame, write: Callable[[str], str]) -> pd.DataFrame:
    """The table with every text in it, and every heading, written anew by `write`."""

    def written(value: object) -> object:
        return write(value) if isinstance(value, str) else value

    changed = frame.copy()
    for place, dtype in enumerate(frame.dtypes):
        if not pd.api.types.is_numeric_dtype(dtype):
            texts = np.empty(len(frame), dtype=object)  # a list of numbers and None would become numbers and NaN
            texts[:] = [written(value) for value in frame.iloc[:, place]]
            changed.isetitem(place, texts)
    return changed.set_axis([written(name) for name in frame.columns], axis=1)


def _printed(frame: pd.DataFrame, form: str, as_text: bool) -> str:
    return tabulate(frame, headers="keys", tablefmt=form, showindex=False, missingval="–", disable_numparse=as_text)
