"""Figures of records: accuracy between what is proven and what was attacked, and who fools whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from core.figures.base import DASHES, colour, faint, styled
from core.figures.heat import write_cells

_MARKED = "marked"
"""As in `core.figures.base`, whose `mark` moves the line."""


def between(
    curves: Mapping[str, Mapping[str, np.ndarray]],
    *,
    single: Mapping[str, tuple[int, Sequence[Mapping[str, Any]]]] | None = None,
    marked: float | None = None,
    chance: float | None = None,
    unit: str = "units of a pixel's range [0, 1]",
    height: int = 400,
) -> go.Figure:
    """Robust accuracy against ε of several models, each as a band from what is proven to what was attacked.

    The legend has one entry a model, for its colour; the dash says which line it is. Where a share is not known there
    is a gap, and a single ε between two gaps is a point.

    Args:
        curves: name → arrays `eps`, `proven`, `attacked` (as in `evaluation.tables.records.curve`), NaN for unknown.
        single: name → place of the model's colour, and rows with eps and accuracy: single-step curves laid over.
        marked: an ε marked by a vertical line; `core.figures.base.mark` moves it.
        chance: accuracy of guessing, drawn as a dotted line.
        unit: what ε is counted in.
        height: in CSS pixels.
    """
    figure = go.Figure()
    for place, (name, rows) in enumerate(curves.items()):
        eps, hue = np.asarray(rows["eps"]), colour(place)
        both = np.isfinite(rows["proven"]) & np.isfinite(rows["attacked"])
        for key, dash, symbol in (("proven", "dot", "triangle-up-open"), ("attacked", "solid", "circle")):
            shares = np.asarray(rows[key], dtype=np.float64)
            lone = _alone(shares)
            figure.add_scatter(
                x=eps,
                y=shares,
                name=name,
                legendgroup=name,
                showlegend=key == "attacked",
                mode="lines+markers" if lone.any() else "lines",
                marker={"size": np.where(lone, 9, 0), "symbol": symbol, "color": hue},
                line={"color": hue, "width": 2 if key == "attacked" else 1.5, "dash": dash},
                fill="tonexty" if key == "attacked" and both.all() else None,
                fillcolor=faint(hue),
                connectgaps=False,
                hovertemplate="ε = %{x:.4g}: %{y:.2%}<extra>" + f"{name}, {key}" + "</extra>",
            )
        if not both.all():
            _band(figure, eps, rows, both, name, hue)
    for name, (place, points) in (single or {}).items():
        figure.add_scatter(
            x=[row["eps"] for row in points],
            y=[row["accuracy"] for row in points],
            name=name,
            legendgroup=list(curves)[place],
            showlegend=False,
            mode="lines+markers",
            line={"color": colour(place), "width": 1, "dash": "dashdot"},
            marker={"size": 6, "symbol": "x-thin-open"},
            hovertemplate="ε = %{x:.4g}: %{y:.2%}<extra>" + name + "</extra>",
        )
    if chance is not None:
        figure.add_hline(y=chance, line={"color": "gray", "width": 1, "dash": "dot"}, annotation_text="chance")
    if marked is not None:
        figure.add_vline(x=marked, line={"color": colour(4), "width": 1.5, "dash": "dash"}, name=_MARKED)
    figure.update_xaxes(title_text=f"ε, in {unit}", rangemode="tozero")
    figure.update_yaxes(title_text="robust accuracy", tickformat=".0%", range=[-0.02, 1.02])
    legend = {"orientation": "h", "yanchor": "top", "y": -0.3, "x": 0, "title": {"text": ""}}
    return styled(figure, height=height, legend=legend, margin={"l": 8, "r": 8, "t": 12, "b": 8})


def _alone(shares: np.ndarray) -> np.ndarray:
    """Which values are known and have no known neighbour: a line does not show them."""
    known = np.pad(np.isfinite(shares), 1)
    return known[1:-1] & ~known[:-2] & ~known[2:]


def _band(
    figure: go.Figure, eps: np.ndarray, rows: Mapping[str, np.ndarray], both: np.ndarray, name: str, hue: str
) -> None:
    """The band between proven and attacked where both are known, a piece for each stretch of ε."""
    edges = np.flatnonzero(np.diff(np.pad(both.astype(int), 1)))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        if last - first > 1:
            there = slice(first, last)
            figure.add_scatter(
                x=[*eps[there], *eps[there][::-1]],
                y=[*rows["attacked"][there], *rows["proven"][there][::-1]],
                fill="toself",
                fillcolor=faint(hue),
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                legendgroup=name,
                name=name,
                mode="lines",
            )


def within(distances: Mapping[str, np.ndarray], *, norm: str, height: int = 320) -> go.Figure:
    """Success against a cap on the distortion: the share of images that an attack has fooled within each distance.

    Args:
        distances: name → (n,), each image's distance, infinite where it was not fooled.
        norm: what the distances are, as the axis says it.
        height: in CSS pixels.
    """
    figure = go.Figure()
    farthest = max((float(d[np.isfinite(d)].max(initial=0)) for d in distances.values()), default=0.0)
    for place, (name, values) in enumerate(distances.items()):
        steps = np.sort(values[np.isfinite(values)])
        n = max(1, len(values))
        figure.add_scatter(
            x=[0.0, *steps, 1.05 * farthest],
            y=[0.0, *(np.arange(1, len(steps) + 1) / n), len(steps) / n],
            name=name,
            mode="lines",
            line={"color": colour(place), "width": 2, "shape": "hv", "dash": DASHES[place % len(DASHES)]},
            hovertemplate=f"within {norm} %{{x:.3g}}: %{{y:.0%}} of {len(values)}<extra>{name}</extra>",
        )
    figure.update_xaxes(title_text=f"largest distance allowed ({norm})", rangemode="tozero")
    figure.update_yaxes(title_text="fooled", tickformat=".0%", range=[-0.02, 1.02])
    legend = {"orientation": "h", "yanchor": "top", "y": -0.3, "x": 0, "title": {"text": ""}}
    return styled(figure, height=height, legend=legend)


def transfer_matrix(
    rates: np.ndarray, counted: np.ndarray, names: Sequence[str], *, height: int | None = None
) -> go.Figure:
    """Share of images made on each surrogate (row) that fool each victim (column), with the number in each cell.

    Args:
        rates: (M, M) in [0, 1]; NaN where no image counts.
        counted: (M, M) images that each rate is a share of; shown on hover.
        names: of the models, in this order.
        height: in CSS pixels; by default from the number of models.
    """
    labels = [f"{name} " for name in names]  # a trailing space keeps plotly from reading digits as numbers
    figure = go.Figure(
        go.Heatmap(
            z=rates,
            x=labels,
            y=labels,
            zmin=0,
            zmax=1,
            colorscale=[[0, "#f4f6fa"], [1, "#8c2f0f"]],
            xgap=2,
            ygap=2,
            colorbar={"tickformat": ".0%", "thickness": 10},
            customdata=counted,
            hovertemplate="made on %{y}, shown to %{x}: %{z:.1%} of %{customdata:,} fooled<extra></extra>",
        )
    )
    shown = [["" if np.isnan(rate) else f"{rate:.0%}" for rate in row] for row in rates]
    write_cells(figure, np.array(shown), rates > 0.55)
    figure.update_xaxes(title_text="victim", type="category", showgrid=False, autotickangles=[0, -90])
    figure.update_yaxes(title_text="made on", type="category", autorange="reversed", showgrid=False)
    return styled(figure, height=height or max(240, 120 + 48 * len(names)), margin={"l": 8, "r": 8, "t": 8, "b": 8})
