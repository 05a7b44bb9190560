"""The reliability checks as figures: the strip of verdicts, loss surfaces, accuracy under attack. Pure functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from core.evaluation.trust.report import MARKS, Surface, Trust
from core.evaluation.trust.rules import Verdict
from core.figures.base import colour, styled
from core.figures.heat import DIVERGING
from core.specs.shared import NORM_SIGNS

SHADES: dict[Verdict, str] = {"fail": "#e9967a", "warn": "#f2d58a", "pass": "#b9d9c6", "skipped": "#d9dde3"}
"""Light enough for dark signs on them, whatever the page."""
_INK = "#1b2430"
STEP, NOISE = "along the gradient, in full steps", "at random, in full steps"


def strip(trust: Trust, *, height: int = 190) -> go.Figure:
    """One cell a check, coloured by its verdict and signed, so that colour is never alone; the rest on hover."""
    order: list[Verdict] = list(SHADES)
    names = [check.name.replace("_", " ") for check in trust.checks]
    shades = [shade for verdict in order for shade in [SHADES[verdict]] * 2]
    stops = [place / len(order) for k in range(len(order)) for place in (k, k + 1)]
    figure = go.Figure(
        go.Heatmap(
            z=[[order.index(check.verdict) for check in trust.checks]],
            x=names,
            y=[""],
            text=[[MARKS[check.verdict] for check in trust.checks]],
            texttemplate="%{text}",
            textfont={"color": _INK, "size": 16},
            customdata=[[(check.title, check.verdict, check.said, check.limits) for check in trust.checks]],
            hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[1]}: %{customdata[2]}<br>%{customdata[3]}"
            "<extra></extra>",
            colorscale=[list(stop) for stop in zip(stops, shades, strict=True)],
            zmin=-0.5,
            zmax=len(order) - 0.5,
            showscale=False,
            xgap=2,
        )
    )
    figure.update_xaxes(autotickangles=[-45, -90], tickmode="linear", showgrid=False, type="category")
    figure.update_yaxes(showgrid=False, showticklabels=False, ticks="")
    return styled(figure, height=height, margin={"t": 8})


def loss_surface(surface: Surface, *, height: int = 380) -> go.Figure:
    """The margin over the plane as a map: blue where the image is misclassified, a line where the class changes."""
    plane, limit = _plane(surface)
    values = plane["z"]
    figure = go.Figure(
        go.Heatmap(
            **plane,
            zmin=-limit,
            zmax=limit,
            colorbar={"thickness": 12, "outlinewidth": 0, "title": {"text": "margin"}},
        )
    )
    if values.min() < 0 < values.max():
        figure.add_contour(
            **{name: plane[name] for name in "xyz"},
            contours={"start": 0, "end": 0, "size": 1, "coloring": "none"},
            line={"color": _INK, "width": 2},
            showscale=False,
            showlegend=False,
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=[0],
        y=[0],
        mode="markers",
        marker={"symbol": "x", "size": 9, "color": _INK},
        hovertemplate="the image itself<extra></extra>",
        showlegend=False,
    )
    figure.update_xaxes(title_text=STEP, showgrid=False, constrain="domain")
    figure.update_yaxes(title_text=NOISE, showgrid=False, scaleanchor="x", constrain="domain")
    return styled(figure, height=height, margin={"t": 8})


def loss_landscape(surface: Surface, *, height: int = 420) -> go.Figure:
    """The same in three dimensions: smooth where gradients can be followed, a plain or a heap of needles where not."""
    plane, limit = _plane(surface)
    figure = go.Figure(
        go.Surface(
            **plane,
            cmin=-limit,
            cmax=limit,
            showscale=False,
            contours={"z": {"show": True, "start": 0, "end": 0.5, "size": 1, "color": _INK}},
        )
    )
    grey = {"gridcolor": "rgba(128,128,128,.4)", "zerolinecolor": "rgba(128,128,128,.6)", "showbackground": False}
    titles = {"xaxis": "gradient", "yaxis": "random", "zaxis": "margin"}
    figure.update_layout(scene={name: {"title": {"text": text}, **grey} for name, text in titles.items()})
    figure.update_scenes(camera_eye={"x": 1.5, "y": -1.5, "z": 0.9})
    return styled(figure, height=height, margin={"t": 8})


def _plane(surface: Surface) -> tuple[dict[str, Any], float]:
    """What both drawings of a surface share, and the largest margin on it, up or down."""
    values, axis = np.asarray(surface.margin), list(surface.axis)
    plane = {
        "z": values,
        "x": axis,
        "y": axis,
        "colorscale": [list(stop) for stop in DIVERGING],
        "hovertemplate": "gradient %{x:.2f}, random %{y:.2f}: margin %{z:.3g}<extra></extra>",
    }
    return plane, float(np.abs(values).max()) or 1.0


def attacks(trust: Trust, *, height: int = 320) -> go.Figure:
    """Left, the accuracy under each attack of the checks; right, that under the same attack at several ε."""
    names = list(trust.accuracy)
    figure = make_subplots(cols=2, horizontal_spacing=0.12, subplot_titles=("Accuracy under attack", "Against ε"))
    figure.add_bar(
        x=names,
        y=[trust.accuracy[name] for name in names],
        marker={"color": [colour(6), *[colour(0)] * (len(names) - 2), colour(1)]},
        text=[f"{trust.accuracy[name]:.0%}" for name in names],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{x}: %{y:.1%}<extra></extra>",
        showlegend=False,
        row=1,
        col=1,
    )
    figure.add_scatter(
        x=[eps for eps, _ in trust.ladder],
        y=[accuracy for _, accuracy in trust.ladder],
        mode="lines+markers",
        line={"color": colour(0), "width": 2},
        marker={"size": 7},
        hovertemplate="ε = %{x:.4g}: %{y:.1%}<extra></extra>",
        showlegend=False,
        row=1,
        col=2,
    )
    figure.add_vline(x=trust.eps, line={"color": colour(4), "width": 1.5, "dash": "dash"}, row=1, col=2)
    figure.update_xaxes(title_text=f"ε in {NORM_SIGNS[trust.norm]}", col=2)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.12])
    return styled(figure, height=height)
