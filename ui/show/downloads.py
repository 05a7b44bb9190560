"""Download buttons for tables, pictures and arrays, with the provenance inside each file.

CSV: comment lines that begin with `#` (`pandas.read_csv(..., comment="#")` skips them); Markdown: a line under the
table; LaTeX: a comment; Excel: the first sheet; PNG: its metadata; NPZ: an entry `provenance`.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import streamlit as st

from ui.show import gallery

_TITLES = {"csv": "CSV", "md": "Markdown", "tex": "LaTeX", "xlsx": "Excel"}
EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_TYPES = {"csv": "text/csv", "md": "text/markdown", "tex": "application/x-tex", "xlsx": EXCEL}


def table(
    page: str,
    frame: pd.DataFrame,
    *,
    name: str,
    provenance: str,
    formats: Sequence[str] = ("csv", "md", "tex"),
    label: str = "",
    keep: Sequence[str] = (),
) -> None:
    """Buttons that download a table.

    Args:
        page: url path of the page.
        frame: the table; its index is left out.
        name: the file's name, without ending.
        provenance: written into every file.
        formats: some of csv, md, tex and xlsx.
        label: written before the format on the buttons, where it is not clear which table is meant.
        keep: columns that Markdown and LaTeX have even where nothing in them is known.
    """
    with st.container(horizontal=True, width="content"):
        for ending in formats:
            st.download_button(
                f"{label} ({_TITLES[ending]})" if label else _TITLES[ending],
                functools.partial(_workbook, frame, name, provenance)
                if ending == "xlsx"
                else text(frame, ending, provenance, keep),
                file_name=f"{name}.{ending}",
                mime=_TYPES[ending],
                icon=":material/download:",
                key=f"{page}_download_{name}_{ending}",
                on_click="ignore",
            )


def _workbook(frame: pd.DataFrame, name: str, provenance: str) -> bytes:
    from core.evaluation.tables import workbook

    return workbook.to_excel({name: frame}, provenance.splitlines())


def text(frame: pd.DataFrame, ending: str, provenance: str, keep: Sequence[str] = ()) -> str:
    """A table as text. Raises ValueError for an ending that is none of csv, md, tex."""
    if ending == "csv":
        return "".join(f"# {line}\n" for line in provenance.splitlines()) + frame.to_csv(index=False)
    if ending == "md":
        return _printed(frame, "pipe", keep) + f"\n\n{provenance}\n"
    if ending == "tex":
        comment = "".join(f"% {line}\n" for line in (*provenance.splitlines(), "needs the package booktabs"))
        body = _printed(frame, "latex_booktabs", keep).replace("–", "--").replace("ε", r"$\varepsilon$")
        return comment + body + "\n"
    raise ValueError(f"ending: expected csv, md or tex, got {ending!r}")


def _printed(frame: pd.DataFrame, form: str, keep: Sequence[str] = ()) -> str:
    """The table for readers: a dash for missing values; empty columns are dropped unless they are in `keep`."""
    from tabulate import tabulate

    empty = [name for name in frame.columns if frame[name].isna().all() and name not in keep]
    shown = frame.drop(columns=empty).astype(object)
    return tabulate(shown.where(shown.notna(), None), headers="keys", tablefmt=form, showindex=False, missingval="–")


def picture(page: str, picture: np.ndarray, *, name: str, provenance: str, scale: int = 4, label: str = "PNG") -> None:
    """A button that downloads a mosaic, each pixel enlarged to `scale` × `scale`."""
    st.download_button(
        label,
        gallery.png(picture, scale, provenance),
        file_name=f"{name}.png",
        mime="image/png",
        icon=":material/image:",
        key=f"{page}_download_{name}_png",
        on_click="ignore",
    )


def arrays(page: str, contents: Mapping[str, np.ndarray], *, name: str, provenance: str, label: str = "NPZ") -> None:
    """A button that downloads arrays; read them with `numpy.load`."""
    st.download_button(
        label,
        npz(contents, provenance),
        file_name=f"{name}.npz",
        mime="application/octet-stream",
        icon=":material/dataset:",
        key=f"{page}_download_{name}_npz",
        on_click="ignore",
    )


def npz(contents: Mapping[str, np.ndarray], provenance: str) -> bytes:
    """Arrays as NPZ bytes, with an entry `provenance`."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, provenance=np.array(provenance), **contents)
    return buffer.getvalue()
