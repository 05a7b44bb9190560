"""Names in exported tables: a spreadsheet works nothing out, and a reader of Markdown calls no host."""

from __future__ import annotations

import csv
import io
import re

import openpyxl
import pandas as pd
import pytest

from core import escaping
from core.evaluation.tables import export, workbook

NAMES = (
    *("=1+1", "=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1+1", "\r=1+1", " =1+1", "=1\n=2"),
    *("![x](http://evil.example/a.png)", "[in](http://evil.example)", "<img src=x>", "a|b", "`c`", "**d**", "$x$"),
    *("50 % & more_than {that} \\ #1 ~ ^", "bell\x07", "null\x00", "\u202eback"),
)
FRAME = pd.DataFrame({"class": NAMES, "n": [-1] * len(NAMES), "share": [-0.5] * len(NAMES)})
FRAME = FRAME.assign(**{"=head|er": NAMES[::-1]})


def test_a_spreadsheet_works_nothing_out_of_a_csv() -> None:
    """No text begins as a formula does; numbers stay numbers."""
    rows = list(csv.reader(io.StringIO(export.to_text(FRAME, "csv", ""))))
    assert len(rows) == len(FRAME) + 1
    for row in rows:
        for text in (row[0], row[3]):
            assert not text.lstrip().startswith(("=", "+", "-", "@")), text
            assert not escaping.CONTROL.search(text)
    assert [row[1] for row in rows[1:]] == ["-1"] * len(FRAME)


@pytest.mark.parametrize("value", ["-0.5", "+3", "-1e-3", "-12 %", "4", "cat", "≥ 1", "–", "a=b"])
def test_numbers_and_ordinary_words_stay_as_they_are(value: str) -> None:
    """Also numbers in a text."""
    assert escaping.cell(value) == value


def test_markdown_shows_names_as_they_are() -> None:
    """As many cells in every row, and nothing that means something."""
    lines = export.to_text(FRAME, "md", "=1 ![x](http://evil.example/a.png)").splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == len(FRAME) + 2
    assert {len(re.findall(r"(?<!\\\\)(?<!\\)\|", line)) for line in table} == {FRAME.shape[1] + 1}
    for line in (*table[2:], lines[-1]):
        assert not re.search(r"(?<!\\)[\[\]<>`*$]|https?:", line), line


def test_latex_has_no_name_that_is_a_command() -> None:
    """Each sign that means something is written by its command; every row is one line."""
    lines = export.to_text(FRAME, "tex", "first\nsecond").splitlines()
    rows = [line for line in lines if line.endswith("\\\\") and "&" in line]
    assert len(rows) == len(FRAME) + 1
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {FRAME.shape[1] - 1}
    assert not any(re.search(r"(?<!\\)[%#_]", row) for row in rows)
    assert "\n".join(lines).isascii()


def test_excel_takes_every_name_as_text() -> None:
    """Also characters that its format has not."""
    content = workbook.to_excel({"a\x00": FRAME}, ["=1+1", "\x07"])
    book = openpyxl.load_workbook(io.BytesIO(content))
    kinds = {cell.data_type for sheet in book for row in sheet.iter_rows() for cell in row}
    assert "f" not in kinds
    assert [cell.value for cell in book.worksheets[1]["B"]][1:] == [-1] * len(FRAME)
