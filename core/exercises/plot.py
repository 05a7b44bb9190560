"""The curves of the exercises as plotly figures: filled marks from the store, open squares as published."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from core.exercises.curves import Cost, Series
from core.figures.base import CLEAN, DASHES, UNKNOWN, colour, faint, styled


def curves(
    series: Sequence[Series],
    *,
    x_title: str,
    y_title: str,
    level: tuple[float, str] | None = None,
    eps: bool = False,
    height: int = 360,
) -> go.Figure:
    """Curves with their intervals as bands; published ones are dashed, with open squares, and named once.

    Args:
        series: at least one.
        x_title: of the horizontal axis.
        y_title: of the vertical axis.
        level: a horizontal dotted line and what it is.
        eps: whether x is ε in units of the pixel range: the hover then has its grey levels too.
        height: in CSS pixels.
    """
    figure = go.Figure()
    for one in series:
        hue = colour(one.place)
        if one.low and one.high:
            figure.add_scatter(
                x=[*one.x, *reversed(one.x)],
                y=[*one.high, *reversed(one.low)],
                fill="toself",
                fillcolor=faint(hue),
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                showlegend=False,
            )
        figure.add_scatter(
            x=one.x,
            y=one.y,
            name=one.name,
            mode="lines+markers" if one.joined else "markers",
            showlegend=not one.hollow,
            line={"color": hue, "width": 2, "dash": "dot" if one.hollow else DASHES[one.place % len(DASHES)]},
            marker={
                "size": 9 if one.hollow else 7,
                "symbol": "square-open" if one.hollow else ("circle", "diamond", "triangle-up", "x")[one.place % 4],
                "line": {"width": 2 if one.hollow else 0, "color": hue},
            },
            text=[f" ({255 * x:.4g}/255)" if eps else "" for x in one.x],
            customdata=[_about(one, place) for place in range(len(one.x))],
            hovertemplate=("ε = %{x:.3g}" if eps else "%{x}")
            + "%{text}: %{y:.1%}%{customdata}<extra>"
            + one.name
            + "</extra>",
        )
    if any(one.hollow for one in series):
        figure.add_scatter(
            x=[None],
            y=[None],
            name="published (MNIST)",
            mode="lines+markers",
            line={"color": UNKNOWN, "dash": "dot"},
            marker={"symbol": "square-open", "size": 9, "line": {"width": 2}},
        )
    if level is not None:
        figure.add_hline(
            y=level[0],
            line={"color": "gray", "width": 1, "dash": "dot"},
            annotation_text=level[1],
            annotation_position="bottom left",
        )
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(title_text=y_title, tickformat=".0%", range=[-0.02, 1.02])
    below = {"orientation": "h", "yanchor": "top", "y": -0.26, "x": 0}
    return styled(figure, height=height, legend=below, margin={"l": 8, "r": 8, "t": 12, "b": 8})


def _about(one: Series, place: int) -> str:
    """What the hover says after the value."""
    if one.found is None:
        return ""
    between = f" [{one.low[place]:.1%}, {one.high[place]:.1%}]" if one.low else ""
    return f"{between}, {'bundled' if one.found.bundled else 'yours'}"


def bars(
    names: Sequence[str], values: Sequence[float], *, x_title: str, hover: Sequence[str] | None = None
) -> go.Figure:
    """A horizontal bar a name, with its number at the end; `hover` says what each means."""
    figure = go.Figure(
        go.Bar(
            x=list(values),
            y=list(names),
            orientation="h",
            marker={"color": CLEAN},
            text=[f"{value:.2f}".replace("-", "−") for value in values],
            textposition="outside",
            cliponaxis=False,
            hovertext=list(hover or names),
            hoverinfo="text",
        )
    )
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(autorange="reversed")
    return styled(figure, height=90 + 26 * len(names), margin={"l": 8, "r": 40, "t": 8, "b": 8})


def clean_costs(costs: Sequence[Cost]) -> go.Figure:
    """Points of clean accuracy that each defended model has less than its undefended twin; negative: more."""
    return bars(
        [cost.model.name() for cost in costs],
        [100 * cost.lost for cost in costs],
        x_title="points of clean accuracy lost",
        hover=[f"{cost.model.name()}: {cost.before:.2%} undefended, {cost.after:.2%} defended" for cost in costs],
    )
