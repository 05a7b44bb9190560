"""Figures of cells: heat maps with words in them, confusion matrices, signed images. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from core.figures.base import styled

DIVERGING = ((0.0, "#2166ac"), (0.5, "#f7f7f7"), (1.0, "#b2182b"))
"""Signed values: blue is negative, near-white is none, red is positive."""


def write_cells(figure: go.Figure, text: np.ndarray, dark: np.ndarray) -> go.Figure:
    """Write into the cells of a figure's heatmap, in place. Returns it.

    Plotly's own texts in cells without a value are black, whatever the page; here they have the page's colour.

    Args:
        figure: its first trace is the heatmap, with names along both sides.
        text: (R, C), empty where nothing is written.
        dark: (R, C), whether the cell's colour is dark, so that white is written on it.
    """
    cells = figure.data[0]
    bare = np.isnan(np.asarray(cells.z, float))
    for among, ink in ((~bare & dark, "#ffffff"), (~bare & ~dark, "#1b2430"), (bare, None)):
        rows, columns = np.nonzero(among & (text != ""))
        if len(rows):
            figure.add_scatter(
                x=[cells.x[c] for c in columns],
                y=[cells.y[r] for r in rows],
                text=text[rows, columns].tolist(),
                mode="text",
                textfont={"color": ink, "size": 12},
                hoverinfo="skip",
                showlegend=False,
            )
    return figure


def confusion(y: np.ndarray, pred: np.ndarray, class_names: Sequence[str]) -> go.Figure:
    """Confusion matrix, a row a true class; blue is the share classified correctly, orange the errors.

    Args:
        y: true classes (n,), numbers below the number of names.
        pred: predicted classes (n,).
        class_names: names by number.
    """
    k = len(class_names)
    counts = np.zeros((k, k), np.int64)
    np.add.at(counts, (np.asarray(y), np.asarray(pred)), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right = np.eye(k, dtype=bool)
    # errors have a scale of their own (below zero, orange): on one scale with the diagonal a good model's would vanish
    worst = max(float(share[~right].max()), 1e-12)
    z = np.where(counts > 0, np.where(right, share, -share / worst), np.nan)
    labels = [f"{name} " for name in class_names]  # a trailing space keeps plotly from reading digits as numbers
    figure = go.Figure(
        go.Heatmap(
            z=z,
            x=labels,
            y=labels,
            customdata=np.dstack((counts, share)),
            # opaque, so that dark or white figures are legible on them whatever the paper; empty cells show it
            colorscale=[[0, "#d1622b"], [0.4999, "#faeae1"], [0.5001, "#dbe5f4"], [1, "#2b5ea7"]],
            zmin=-1,
            zmax=1,
            showscale=False,
            xgap=1,
            ygap=1,
            hovertemplate=(
                "true %{y}classified as %{x}: %{customdata[0]:d} images, "
                "%{customdata[1]:.1%} of the class<extra></extra>"
            ),
        )
    )
    write_cells(figure, np.where(counts > 0, counts.astype(str), ""), np.abs(z) > 0.7)
    figure.update_xaxes(title_text="classified as", type="category", showgrid=False)
    figure.update_yaxes(title_text="true class", type="category", autorange="reversed", showgrid=False)
    return styled(figure, height=max(260, min(560, 120 + 34 * k)), margin={"t": 8})


def signed_heatmap(
    values: np.ndarray, *, limit: float | None = None, name: str = "∂N/∂x", ticks: bool = False, height: int = 380
) -> go.Figure:
    """A signed image (H, W), such as a Jacobian: blue negative, red positive, each pixel's value on hover.

    Args:
        values: (H, W).
        limit: the value of full colour; by default the largest magnitude.
        name: what the values are.
        ticks: whether pixel numbers are written along the sides.
        height: in CSS pixels.
    """
    limit = limit or float(np.max(np.abs(values))) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=values,
            zmin=-limit,
            zmax=limit,
            colorscale=[list(stop) for stop in DIVERGING],
            colorbar={"thickness": 12, "outlinewidth": 0, "tickformat": ".2~g"},
            hovertemplate="row %{y}, column %{x}: %{z:.4g}<extra>" + name + "</extra>",
        )
    )
    sides = {"showgrid": False, "showticklabels": ticks, "ticks": None if ticks else "", "constrain": "domain"}
    figure.update_xaxes(**sides)
    figure.update_yaxes(**sides, autorange="reversed", scaleanchor="x")
    return styled(figure, height=height, margin={"t": 8})
