"""Elements that every page draws in the same way: a chart, the height of a table, an error with its details."""

from __future__ import annotations

import json
import re
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from core import access

_LINK = re.compile(r"<(?=\s*/?\s*a\b)", re.IGNORECASE)


def chart(figure: go.Figure, *, key: str, alt: str, tools: bool = True) -> None:
    """Draw a plotly figure.

    Args:
        figure: what is drawn.
        key: of the element.
        alt: the chart in words, for those who do not see it.
        tools: whether the buttons to zoom and to save stand over it.
    """
    _no_links(figure)
    config = {"displaylogo": False} | ({} if tools else {"displayModeBar": False})
    st.plotly_chart(figure, key=key, alt=alt, config=config)


def _no_links(figure: go.Figure) -> None:
    """Write what a name has of a link as text: plotly draws `<a href=…>` in a text as one."""
    if _LINK.search(repr(figure.to_dict())):
        mended = json.loads(figure.to_json() or "{}", object_hook=_without_links)
        figure.update(data=mended["data"], layout=mended["layout"], overwrite=True)


def _without_links(part: dict[str, Any]) -> dict[str, Any]:
    def write(value: Any) -> Any:
        if isinstance(value, list):
            return [write(one) for one in value]
        return _LINK.sub("&lt;", value) if isinstance(value, str) else value

    return {name: write(value) for name, value in part.items()}


def table_height(rows: int, most: int | None = None) -> int:
    """Height in CSS pixels of a table that shows this many rows without a scroll bar, `most` at the most."""
    height = 38 + 35 * rows
    return height if most is None else min(height, most)


def failed(text: str, error: Exception, *, details: str = "What went wrong") -> None:
    """Say in a sentence that something failed; the error's own text is folded under `details`."""
    st.error(text, icon=":material/error:")
    with st.expander(details):
        st.code(access.without_places(str(error)), language=None, wrap_lines=True)
