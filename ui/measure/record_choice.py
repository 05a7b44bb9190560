"""Of which images records are read, and at which ε their curves are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import streamlit as st

from core.epsilon import same, within
from core.evaluation.tables.records import Record
from ui.form.select import select

POINTS = 101
"""ε on a curve."""


def choose_images(page: str, found: Mapping[str, Record]) -> dict[str, Record]:
    """Draw the choice of the first n images if evaluations used different n; returns the records of these images.

    At an ε that was evaluated on fewer images than another, nothing is known of all of them, but of the first ones.
    """
    if not found:
        return {}
    most = max(len(record) for record in found.values())
    sizes = {len(look.index) for record in found.values() for look in record.looks if look.text}
    options = [str(n) for n in sorted({n for n in sizes if n < most} | {most}, reverse=True)]
    if len(options) < 2 or all(record.table["smallest"].all() for record in found.values()):
        return dict(found)
    n = int(
        select(
            page,
            "record_n",
            "Images of evaluations and proofs",
            options,
            text=lambda size: f"the first {int(size):,}",
            kind="list",
            help="Evaluations of these models looked at different numbers of images.",
        )
    )
    st.caption("Fewer images: more ε at which all of them were searched.")
    return {model: record.take(record.table["index"].to_numpy()[:n]) for model, record in found.items()}


def grid(found: Sequence[Record], most: float) -> np.ndarray:
    """The ε of a curve up to `most`: evenly spaced, and in addition every ε that was searched."""
    budgets = [eps for record in found for eps in record.budgets() if within(eps, most)]
    every = np.sort(np.concatenate([np.linspace(0, most, POINTS), budgets]))
    return every[np.append(True, ~same(every[:-1], every[1:]))]
