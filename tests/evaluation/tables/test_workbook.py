"""Excel exports read back as they were written, and run nothing."""

from __future__ import annotations

import io

import numpy as np
import openpyxl
import pandas as pd
import pytest

from core.evaluation.tables.workbook import to_excel


def test_workbook_reads_back() -> None:
    """Every sheet, full precision, infinity as a word, NaN as an empty cell; the provenance is the first sheet."""
    table = pd.DataFrame({"model": ["a", "b", "c"], "accuracy": [1 / 3, 0.5, np.nan], "median": [0.1, np.inf, 0.3]})
    content = to_excel({"figures": table, "pairs": table[:1]}, ["model a", "seed 0"])
    back = pd.read_excel(io.BytesIO(content), sheet_name=None)
    assert list(back) == ["provenance", "figures", "pairs"]
    assert back["provenance"]["provenance"].tolist() == ["model a", "seed 0"]
    assert back["figures"]["accuracy"].tolist()[:2] == [1 / 3, 0.5]
    assert np.isnan(back["figures"]["accuracy"][2])
    assert back["figures"]["median"].tolist() == [0.1, np.inf, 0.3]


def test_text_is_never_a_formula() -> None:
    """A folder's name may begin with an equals sign; who opens the file must not run it."""
    content = to_excel({"t": pd.DataFrame({"name": ["=1+1"]})}, ["=2+2"])
    book = openpyxl.load_workbook(io.BytesIO(content))
    assert [(sheet["A2"].value, sheet["A2"].data_type) for sheet in book] == [("=2+2", "s"), ("=1+1", "s")]


def test_names_that_clash_are_refused() -> None:
    """Excel cuts names at 31 letters and does not tell capitals apart."""
    table = pd.DataFrame({"a": [1]})
    with pytest.raises(ValueError, match="expected at least one table"):
        to_excel({}, [])
    with pytest.raises(ValueError, match="differ in their first 31 letters"):
        to_excel({"x" * 31 + "a": table, "x" * 31 + "b": table}, [])
