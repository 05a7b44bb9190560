"""Figures of records: success within a distance, and who fools whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from core.figures.base import DASHES, colour, styled
from core.figures.heat import write_cells


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
