"""Figures of attacks on one image: the verdict, the strip of pictures, the curve of the dense formula."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core.figures.base import colour, styled
from ui.show import gallery
from ui.show.sheet import Picture
from ui.sparse.case import Case, derivative, read_as, toward, with_article
from ui.text import counted, literal

STEPS = 60
"""Sizes tried for the curve over ε."""


def verdict(case: Case, found: pd.Series, enough: str, short: str) -> None:
    """Draw whether the image is fooled: yes, no, or into another class than the target.

    Args:
        case: the image.
        found: the attack's row of its table.
        enough: how a success begins, such as `7 pixels of 784 are enough`.
        short: what was not enough, such as `60 changed pixels of 784`.
    """
    own, after = literal(case.names[case.label]), literal(case.names[int(found["pred"])])
    if found["success"]:
        st.success(f"**{enough} to turn this {own} into {with_article(after)}.**", icon=":material/check_circle:")
    elif own != after:
        st.warning(
            f"**{short} turn this {own} into {with_article(after)}**, not into the target class.",
            icon=":material/contrast:",
        )
    else:
        st.error(f"**{short} are not enough: this {own} is still classified as {own}.**", icon=":material/cancel:")


def few_verdict(case: Case, found: pd.Series) -> None:
    """Draw the verdict on an attack that changes few pixels or features."""
    count, whole = int(found["l0"]), f"of {case.x.size:,}"
    unit = case.unit if count != 1 else case.unit[:-1]
    inside = f" ({counted(int(found['pixels']), 'pixel')})" if case.unit == "features" else ""
    verb = "is" if count == 1 else "are"
    verdict(case, found, f"{count} {unit} {whole}{inside} {verb} enough", f"{count} changed {unit} {whole}{inside}")


def strip(case: Case, x_adv: np.ndarray, after: np.ndarray, *, result: str) -> Picture:
    """Draw image, signed Jacobian, change and result with the class and its probability; returns the picture."""
    slope, name = derivative(case, toward(case, after))
    full = float(np.abs(slope).max()) or 1.0
    delta = x_adv - case.x
    texts = [read_as(case, case.logits), read_as(case, after)]
    changed = int((delta != 0).sum())
    raises = f"N, towards {case.names[1]}" if case.scalar else f"the logit of {case.names[toward(case, after)]}"
    return gallery.show(
        [[case.x, gallery.difference(slope, 1 / full), gallery.difference(delta, 1.0), x_adv]],
        columns=["original", "Jacobian", "change × 1", result],
        captions=[[texts[0], name, f"{changed} of {case.x.size:,} {case.unit}", texts[1]]],
        legend=f"Jacobian: a brighter pixel raises {raises} where it is red and lowers it where it is blue; full "
        f"colour is {full:.3g}. Change: red is brighter than before, blue is darker.",
        alt=f"The original, classified as {texts[0]}; the signed Jacobian; the change; the result, classified as "
        f"{texts[1]}",
        tile=196,
    )


def triptych(
    case: Case, x_adv: np.ndarray, after: np.ndarray, *, what: str, tile: int = 150, gain: float | None = None
) -> Picture:
    """Draw original | change | result with the class and its probability before and after; returns the picture."""
    delta = x_adv - case.x
    gain = gain or gallery.gain_for([delta])
    texts = [read_as(case, case.logits), read_as(case, after)]
    return gallery.show(
        [[case.x, gallery.difference(delta, gain), x_adv]],
        columns=["original", f"change × {gain:g}", what],
        captions=[[texts[0], f"ℓ∞ {np.abs(delta).max():.3g} · ℓ2 {np.linalg.norm(delta):.3g}", texts[1]]],
        legend="Change: blue is darker than before, red is brighter.",
        alt=f"The original, classified as {texts[0]}; the change; {what}, classified as {texts[1]}",
        tile=tile,
    )


def dense_curve(case: Case, toward: int, levels: dict[str, float], applied: float) -> go.Figure:
    """The score or margin against ε for x ± ε·sign(J): as the Jacobian predicts, and as it is, with and without box."""
    slope = case.slope(toward)
    finite = [level for level in levels.values() if np.isfinite(level)]
    eps = np.linspace(0, min(1.0, 1.6 * max([applied, *finite, 0.02])), STEPS)
    steps = -np.sign(slope)[None] * eps[:, None, None, None]
    moved = {"no box": case.x + steps, "in the box [0, 1]": np.clip(case.x + steps, 0, 1)}
    start = float(case.margin(case.logits[None])[0])
    figure = go.Figure()
    for place, (name, images) in enumerate(moved.items()):
        predicted = start + ((images - case.x) * slope).sum(axis=(1, 2, 3))
        actual = case.margin(case.read(images))
        for kind, values, dash in (("predicted", predicted, "dash"), ("actual", actual, "solid")):
            figure.add_scatter(
                x=eps,
                y=case.shown(values),
                name=f"{kind}, {name}",
                mode="lines",
                line={"color": colour(place), "width": 2, "dash": dash},
                hovertemplate=f"ε = %{{x:.4f}}: %{{y:.4g}}<extra>{kind}, {name}</extra>",
            )
    for place, (name, level) in enumerate(levels.items()):
        if np.isfinite(level):
            figure.add_scatter(
                x=[level],
                y=[case.level],
                name=f"ε*, {name}",
                mode="markers",
                marker={"size": 12, "symbol": ("circle-open", "diamond-open")[place], "line": {"width": 2.5}},
                marker_color=colour(place),
                hovertemplate=f"ε* = %{{x:.4f}}<extra>{name}</extra>",
            )
    figure.add_hline(
        y=case.level,
        line={"color": "gray", "width": 1, "dash": "dot"},
        annotation_text="τ" if case.scalar else "fooled below",
    )
    figure.update_xaxes(title_text="ε, change of every pixel, in [0, 1]", rangemode="tozero")
    figure.update_yaxes(title_text=case.quantity)
    return styled(figure, height=400, margin={"t": 8}, legend={"orientation": "h", "yanchor": "top", "y": -0.3, "x": 0})
