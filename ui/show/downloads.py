"""Download buttons for tables, pictures and arrays, which the reader's own tools open; each says where it comes from.

CSV: a text file beside it, so that `pandas.read_csv` needs no argument; Markdown: a line under the table; LaTeX: a
comment; Excel: the first sheet; PNG: its metadata; NPZ: an entry `provenance`.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import streamlit as st

from core.evaluation.tables import export
from ui.show import sheet
from ui.show.sheet import Picture

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
    if frame.empty:
        return  # nothing but a header is no table
    with st.container(horizontal=True, width="content"):
        for ending in formats:
            st.download_button(
                f"{label} ({_TITLES[ending]})" if label else _TITLES[ending],
                functools.partial(_workbook, frame, name, provenance)
                if ending == "xlsx"
                else export.to_text(frame, ending, provenance, keep),
                file_name=f"{name}.{ending}",
                mime=_TYPES[ending],
                icon=":material/download:",
                key=f"{page}_download_{name}_{ending}",
                on_click="ignore",
            )
        if "csv" in formats:
            st.download_button(
                f"{label} (provenance)" if label else "Provenance",
                f"{provenance}\n",
                file_name=f"{name}.provenance.txt",
                mime="text/plain",
                icon=":material/description:",
                help="Where the table comes from: model, data, attack, seed. The CSV file holds the table only.",
                key=f"{page}_download_{name}_provenance",
                on_click="ignore",
                type="tertiary",
            )


def _workbook(frame: pd.DataFrame, name: str, provenance: str) -> bytes:
    from core.evaluation.tables import workbook

    return workbook.to_excel({name: frame}, provenance.splitlines())


def picture(page: str, picture: Picture, *, name: str, provenance: str, scale: int = 4, label: str = "PNG") -> None:
    """A button that downloads a grid as it is shown, with its labels; each pixel is `scale` × `scale` or larger."""
    st.download_button(
        label,
        functools.partial(sheet.png, picture, scale, provenance),
        file_name=f"{name}.png",
        mime="image/png",
        icon=":material/image:",
        key=f"{page}_download_{name}_png",
        on_click="ignore",
    )


def arrays(
    page: str,
    contents: Mapping[str, np.ndarray],
    *,
    name: str,
    provenance: str,
    label: str = "NPZ",
    images: pd.DataFrame | None = None,
) -> None:
    """A button that downloads arrays; read them with `numpy.load`.

    `images` has a row an image: its columns (index, y, target, success, …) become arrays beside the others.
    """
    columns = {} if images is None else {title: column(images[title]) for title in images.columns}
    st.download_button(
        label,
        functools.partial(npz, {**columns, **contents}, provenance),
        file_name=f"{name}.npz",
        mime="application/octet-stream",
        icon=":material/dataset:",
        key=f"{page}_download_{name}_npz",
        on_click="ignore",
    )


def column(values: pd.Series) -> np.ndarray:
    """A column without Python objects, which `numpy.load` refuses: text, or numbers with NaN for what is missing."""
    plain = values.to_numpy()
    if plain.dtype != object:
        return plain
    kinds = {type(value) for value in plain if value is not None and value == value}
    if kinds <= {bool, int, float, np.bool_, np.int64, np.float64}:
        return values.astype(float).to_numpy()
    return np.array(["" if value is None or value != value else str(value) for value in plain])


def npz(contents: Mapping[str, np.ndarray], provenance: str) -> bytes:
    """Arrays as NPZ bytes, with an entry `provenance`."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, provenance=np.array(provenance), **contents)
    return buffer.getvalue()
