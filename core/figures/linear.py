"""Linear models drawn: the toy's six bars, points with boundaries and a ball, exact against attacked accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from core.figures.base import ATTACKED, CLEAN, DASHES, PROVEN, colour, faint, styled

PLAIN = "trained at ε = 0"
"""The name of the boundary that is drawn in the colour of unchanged images."""


def features(before: np.ndarray, after: np.ndarray, other: np.ndarray, names: tuple[str, str, str]) -> go.Figure:
    """The features of a point as bars: where it began (outlined), where it is, and the other class's point (dashes)."""
    place = [f"x{k}" for k in range(1, len(before) + 1)]
    figure = go.Figure()
    figure.add_bar(
        x=place,
        y=after,
        name=names[1],
        marker_color=ATTACKED,
        width=0.62,
        hovertemplate="%{x} = %{y:.4f}<extra>" + names[1] + "</extra>",
    )
    for values, name, hue, symbol in (
        (before, names[0], CLEAN, "line-ew"),
        (other, names[2], colour(3), "diamond-open"),
    ):
        figure.add_scatter(
            x=place,
            y=values,
            name=name,
            mode="markers",
            marker={"symbol": symbol, "size": 22 if symbol == "line-ew" else 11, "color": hue},
            marker_line={"width": 3 if symbol == "line-ew" else 2, "color": hue},
            hovertemplate="%{x} = %{y:.4g}<extra>" + name + "</extra>",
        )
    low, high = min(-0.15, float(after.min()) - 0.1), max(1.15, float(after.max()) + 0.1)
    figure.update_yaxes(title_text="value", range=[low, high])
    return styled(figure, height=300)


def plane(
    x: np.ndarray,
    y: np.ndarray,
    lines: Mapping[str, tuple[np.ndarray, float]],
    *,
    tube: float = 0.0,
    ball: tuple[int, np.ndarray] | None = None,
    moves: Mapping[str, np.ndarray] | None = None,
    height: int = 470,
) -> go.Figure:
    """Points of two classes in the plane with boundaries w·x + b = 0.

    Args:
        x: (n, 2).
        y: (n,) of -1 and 1.
        lines: name → (w, b); one with w = 0 has no boundary and is left out.
        tube: half the width, along w in l2, of the band around the first line in which points can be carried across.
        ball: a point's row, and the corners (k, 2) of the ball around it.
        moves: name → where that point is carried.
        height: in CSS pixels.
    """
    figure = go.Figure()
    pad = 0.35
    low, high = x.min(axis=0) - pad, x.max(axis=0) + pad
    if ball is not None:
        low, high = np.minimum(low, ball[1].min(axis=0) - 0.1), np.maximum(high, ball[1].max(axis=0) + 0.1)
    for place, (name, (weight, bias)) in enumerate(lines.items()):
        if np.any(weight):
            _boundary(figure, place, name, weight, bias, (low, high), tube if place == 0 else 0.0)
    for label, name, hue, symbol in ((1, "class +1", 7, "circle"), (-1, "class −1", 8, "square")):
        rows = y == label
        figure.add_scatter(
            x=x[rows, 0],
            y=x[rows, 1],
            mode="markers",
            name=name,
            marker={"size": 8, "symbol": symbol, "color": colour(hue)},
            customdata=np.flatnonzero(rows)[:, None] + 1,
            hovertemplate="point %{customdata[0]}: (%{x:.3f}, %{y:.3f})<extra>" + name + "</extra>",
        )
    if ball is not None:
        _ball(figure, x[ball[0]], ball[1], moves or {})
    figure.update_xaxes(title_text="first feature", range=[low[0], high[0]])
    figure.update_yaxes(title_text="second feature", range=[low[1], high[1]], scaleanchor="x")
    return styled(
        figure, height=height, margin={"t": 8}, legend={"orientation": "h", "yanchor": "top", "y": -0.19, "x": 0}
    )


def told_apart(figure: go.Figure, hues: Sequence[str]) -> go.Figure:
    """Give the curves of a figure these colours, one each, and a line style of their own, in place. Returns it."""
    for place, (curve, hue) in enumerate(zip(figure.data, hues, strict=False)):
        curve.line.update(color=hue, dash=DASHES[place % len(DASHES)])
    return figure


def _boundary(
    figure: go.Figure,
    place: int,
    name: str,
    weight: np.ndarray,
    bias: float,
    corners: tuple[np.ndarray, np.ndarray],
    tube: float,
) -> None:
    """The line w·x + b = 0 across the plane between two corners, with a band of half the width `tube` around it."""
    (low, high), size = corners, float(np.linalg.norm(weight))
    middle, along = (low + high) / 2, np.array([-weight[1], weight[0]]) / size
    foot = middle - (weight @ middle + bias) / size**2 * weight
    reach = np.linalg.norm(high - low) * 2
    ends = np.stack([foot - reach * along, foot + reach * along])
    if tube > 0:
        across = tube * weight / size
        band = np.concatenate([ends + across, (ends - across)[::-1]])
        figure.add_scatter(
            x=band[:, 0],
            y=band[:, 1],
            fill="toself",
            fillcolor=faint(colour(3), 0.12),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            name="within ε of the boundary",
        )
    figure.add_scatter(
        x=ends[:, 0],
        y=ends[:, 1],
        mode="lines",
        name=name,
        line={
            "color": CLEAN if name == PLAIN else colour((3, 4)[place % 2]),
            "width": 2.5,
            "dash": DASHES[place % len(DASHES)],
        },
        hoverinfo="name",
    )


def _ball(figure: go.Figure, point: np.ndarray, corners: np.ndarray, moves: Mapping[str, np.ndarray]) -> None:
    """The ball around a point, and the places where that point is carried."""
    corners = np.concatenate([corners, corners[:1]])
    figure.add_scatter(
        x=corners[:, 0],
        y=corners[:, 1],
        mode="lines",
        fill="toself",
        fillcolor=faint(ATTACKED, 0.15),
        line={"color": ATTACKED, "width": 1.5},
        name="ε-ball",
        hoverinfo="skip",
    )
    for place, (name, end) in enumerate(moves.items()):
        figure.add_scatter(
            x=[point[0], end[0]],
            y=[point[1], end[1]],
            mode="lines+markers",
            name=name,
            line={"color": (ATTACKED, colour(5))[place % 2], "width": 2.5, "dash": DASHES[2 * place % len(DASHES)]},
            marker={"size": [0, 13 - 3 * place], "symbol": ["circle", ("star", "x")[place % 2]]},
            hovertemplate="(%{x:.3f}, %{y:.3f})<extra>" + name + "</extra>",
        )


def exact_against_attacks(
    eps: Sequence[float],
    exact: Sequence[float],
    attacked: Mapping[str, Sequence[float]],
    *,
    unboxed: Sequence[float],
    x_title: str,
    chance: float | None = None,
    height: int = 420,
) -> go.Figure:
    """Exact robust accuracy against ε, accuracy under attacks above it, and between them, shaded, what these miss.

    The shade reaches from the exact curve to the lowest attacked one.
    """
    figure = go.Figure()
    if attacked:
        lowest = np.min([list(values) for values in attacked.values()], axis=0)
        figure.add_scatter(
            x=[*eps, *reversed(list(eps))],
            y=[*lowest, *reversed(list(exact))],
            fill="toself",
            fillcolor=faint(ATTACKED, 0.3),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            name="missed by the best attack",
        )
    curves = {"exact": exact, **attacked, "exact, pixels may leave [0, 1]": unboxed}
    hues = [PROVEN, *(ATTACKED if place == 0 else colour(4) for place in range(len(attacked))), colour(3)]
    for place, (name, values) in enumerate(curves.items()):
        figure.add_scatter(
            x=list(eps),
            y=list(values),
            name=name,
            mode="lines+markers",
            line={"color": hues[place], "width": 3 if place == 0 else 2, "dash": DASHES[place % len(DASHES)]},
            marker={"size": 6, "symbol": place % 8},
            hovertemplate="ε = %{x:.4g}: %{y:.2%}<extra>" + name + "</extra>",
        )
    if chance is not None:
        figure.add_hline(y=chance, line={"color": "gray", "width": 1, "dash": "dot"}, annotation_text="chance")
    figure.update_xaxes(title_text=x_title, rangemode="tozero")
    figure.update_yaxes(title_text="robust accuracy", tickformat=".0%", range=[-0.02, 1.02])
    return styled(
        figure, height=height, margin={"t": 8}, legend={"orientation": "h", "yanchor": "top", "y": -0.2, "x": 0}
    )
