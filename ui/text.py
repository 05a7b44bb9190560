"""Shares in tables as per cent, all with the same number of digits."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd

FORMAT = "%.2f%%"
"""Of a column of what `of` returns. Streamlit's own "percent" drops the last zeros: 97.1% stands under 97.76%."""


def of(frame: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """The table with these shares times 100; those that it has not are passed over, None becomes NaN."""
    return frame.assign(**{name: 100 * frame[name].astype(float) for name in names if name in frame})


def text(share: float | None, digits: int = 2) -> str:
    """A share in words, such as `97.10%`; a dash where it is not known."""
    return "–" if share is None or math.isnan(share) else f"{share:.{digits}%}"
