"""Tables as one Excel file, a sheet each, the first of them the provenance.

Written with openpyxl: it also reads, so that what is written can be checked, and pandas reads Excel by it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence

import pandas as pd

from core import escaping
from core.evaluation.tables import export


def to_excel(sheets: Mapping[str, pd.DataFrame], provenance: Sequence[str]) -> bytes:
    """An Excel workbook.

    Args:
        sheets: name → table; its index is left out. Infinity is written as "inf", as Excel has no such number, NaN as
            an empty cell, and what begins with "=" as the text that it is.
        provenance: lines of the first sheet, `provenance`.

    Raises:
        ValueError: no table, or two whose names are the same in Excel (31 characters, some signs not allowed).
    """
    if not sheets:
        raise ValueError("sheets: expected at least one table, got none")
    titles = [re.sub(r"[\[\]:*?/\\]", " ", escaping.line(name))[:31] for name in sheets]
    if len({title.lower() for title in (*titles, "provenance")}) <= len(titles):
        raise ValueError(f"sheets: expected names that differ in their first 31 letters, got {', '.join(sheets)}")
    buffer = io.BytesIO()
    with pd.ExcelWriter(buffer, engine="openpyxl") as writer:
        first = pd.DataFrame({"provenance": list(provenance)})
        for title, table in zip(("provenance", *titles), (first, *sheets.values()), strict=True):
            export.each_text(table, escaping.line).to_excel(writer, sheet_name=title, index=False)
            sheet = writer.sheets[title]
            sheet.freeze_panes = "A2"
            for column in sheet.columns:
                width = max(len(str(cell.value)) for cell in column if cell.value is not None or cell.row == 1)
                sheet.column_dimensions[column[0].column_letter].width = min(60, width + 2)
                for cell in column:
                    if cell.data_type == "f":
                        cell.data_type = "s"  # a formula would be worked out by whoever opens it
    return buffer.getvalue()
