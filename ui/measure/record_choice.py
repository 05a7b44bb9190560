"""How records are looked at on the measuring pages: the norm, the number of images, and ε."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import streamlit as st

from core import specs
from core.epsilon import same
from core.evaluation.tables import records
from core.evaluation.tables.records import Record
from ui.form.select import KEEP, select
from ui.text import eps_text, say


def choose_norm(page: str, start: str = "linf") -> str:
    """Draw the choice of the norm of the records."""
    return select(
        page,
        "record_norm",
        "Norm",
        list(records.NORMS),
        text=say,
        default=start,
        help="What ε is measured in. ℓ∞: the largest change of a pixel; ℓ2: the length of the change; ℓ1: its sum; "
        "ℓ0: how many features change.",
    )


def choose_images(page: str, found: Mapping[str, Record]) -> dict[str, Record]:
    """Draw the choice of the first n images if evaluations used different n; returns the records of these images.

    At an ε that was evaluated on fewer images than another, nothing is known of all of them, but of the first ones.
    """
    most = max(len(record) for record in found.values())
    sizes = {len(look.index) for record in found.values() for look in record.looks if look.text}
    options = [str(n) for n in sorted({n for n in sizes if n < most} | {most}, reverse=True)]
    if len(options) < 2 or all(record.table["smallest"].all() for record in found.values()):
        return dict(found)
    with st.columns(3)[0]:
        n = int(select(page, "record_n", "Images", options, text=lambda size: f"the first {int(size):,}", kind="list"))
    return {model: record.take(record.table["index"].to_numpy()[:n]) for model, record in found.items()}


def farthest(found: Sequence[Record], norm: str) -> float:
    """The largest ε of the curves: beyond the distances of nearly all images and the ε of all evaluations."""
    uppers = np.concatenate([record.uppers[np.isfinite(record.uppers)] for record in found] or [np.zeros(0)])
    budgets = [eps for record in found for eps in record.budgets(hard=True)]
    tried = (record.table["proof_tried"].max() for record in found if len(record))
    budgets += [float(eps) for eps in tried if 0 < eps < np.inf]
    most = float(np.quantile(uppers, 0.98)) * 1.1 if len(uppers) else 0.0
    most = max(most, *(1.1 * eps for eps in budgets)) if budgets else most
    most = min(most, specs.MAX_EPS[norm]) or {"linf": 0.3, "l2": 3.0, "l1": 30.0, "l0": 20.0}[norm]
    digits = 0 if norm == "l0" else max(0, 1 - int(np.floor(np.log10(most))))
    return float(np.ceil(most * 10**digits) / 10**digits)


def eps_slider(page: str, found: Mapping[str, Record], norm: str) -> float:
    """Draw a slider over ε, and a button for each ε at which the records hold an evaluation.

    It starts at an ε that was searched.
    """
    most = farthest(list(found.values()), norm)
    key = f"{page}_record_at_{norm}"
    step = 1.0 if norm == "l0" else float(10.0 ** np.floor(np.log10(most / 100)))
    usual = {"linf": 0.1, "l2": 1.0, "l1": 10.0, "l0": 5.0}[norm]
    start = round(min(usual, most / 2) / step) * step
    searched = _searched(found, most)
    everywhere = all(record.table["smallest"].all() for record in found.values())
    if not everywhere:
        known = {eps: sum(record.known(eps) for record in found.values()) for eps in searched}
        start = max(searched, key=lambda eps: (known[eps], -abs(eps - start)), default=start)
    if key in st.session_state:
        st.session_state[key] = min(max(0.0, float(st.session_state[key])), most)
    eps = float(
        st.slider(
            "ε",
            0.0,
            most,
            start,
            step,
            format="%.4g",
            key=key,
            help="The perturbation budget. What is known of each image at this ε is looked up, nothing is computed; "
            "a figure that no search at this ε supports is shown as –.",
            **KEEP,
        )
    )
    if searched and not everywhere:
        _jumps(page, key, searched)
    return exactly(eps, searched)


JUMPS = 12
"""Buttons at most."""


def _searched(found: Mapping[str, Record], most: float) -> list[float]:
    """The ε of evaluations; if there are none, those of single attacks."""
    for hard in (True, False):
        made: list[float] = []
        for eps in sorted(eps for record in found.values() for eps in record.budgets(hard=hard)):
            if 0 < eps <= most and not (made and same(made[-1], eps)):
                made.append(eps)
        if made:
            return made[:JUMPS]
    return []


def _jumps(page: str, key: str, searched: Sequence[float]) -> None:
    """Draw buttons that move the slider to the ε that were searched, which may lie between its steps."""

    def jump(eps: float) -> None:
        st.session_state[key] = eps

    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Searched at", width="content")
        for eps in searched:
            st.button(
                f"ε = {eps_text(eps)}",
                key=f"{key}_jump_{eps:.12g}",
                type="tertiary",
                on_click=jump,
                args=(eps,),
            )


def exactly(eps: float, searched: Sequence[float]) -> float:
    """The searched ε that equals the slider's value, else that value rounded to 12 digits."""
    return next((value for value in searched if same(value, eps)), float(f"{eps:.12g}"))
