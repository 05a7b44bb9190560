"""A table with a row for each model, of which one can be chosen, and its downloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from core.storage import store
from ui.show import downloads, elements
from ui.text import in_percent


def choose(
    page: str,
    frame: pd.DataFrame,
    models: Sequence[store.Artifact],
    *,
    key: str,
    columns: dict[str, Any],
    shares: Sequence[str],
    height: int,
    alt: str,
    name: str,
    provenance: str,
    opens: str,
) -> store.Artifact | None:
    """Draw the table and return the model of the chosen row, or None.

    Args:
        page: first half of the keys of the downloads.
        frame: a row a model.
        models: in the order of the rows.
        key: of the table.
        columns: how columns are written.
        shares: columns of shares, shown as per cent.
        height: in CSS pixels, at most.
        alt: the table in words.
        name: of the files, without ending.
        provenance: written into them.
        opens: what a chosen row shows, such as `report`.
    """
    picked = st.dataframe(
        in_percent(frame, shares),
        column_config=columns,
        hide_index=True,
        placeholder="–",
        height=elements.table_height(len(frame), height),
        on_select="rerun",
        selection_mode="single-row",
        key=key,
        alt=alt,
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        downloads.table(page, frame, name=name, provenance=provenance)
        st.caption(f"Choose a row to see that model's {opens}.")
    rows = picked["selection"]["rows"]
    return models[rows[0]] if rows and rows[0] < len(models) else None
