"""Figures of the import of a model: the accuracy behind each preprocessing that was tried."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from core.figures.base import CLEAN, UNKNOWN, styled

TALL = 26
"""CSS pixels a bar."""


def candidates(
    names: Sequence[str], accuracies: Sequence[float], chosen: int, *, chance: float | None = None
) -> go.Figure:
    """A bar a candidate, in the order given, the chosen one marked by colour and by a sign.

    Args:
        names: what was tried.
        accuracies: of each, in [0, 1].
        chosen: place of the one that was taken; −1: none of them.
        chance: the accuracy of guessing, drawn as a line.
    """
    labels = [f"▶ {name}" if place == chosen else name for place, name in enumerate(names)]
    figure = go.Figure()
    figure.add_bar(
        y=labels,
        x=list(accuracies),
        orientation="h",
        marker={"color": [CLEAN if place == chosen else UNKNOWN for place in range(len(names))]},
        text=[f"{value:.1%}" for value in accuracies],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:.2%}<extra></extra>",
        showlegend=False,
    )
    if chance is not None:
        figure.add_vline(x=chance, line={"color": UNKNOWN, "dash": "dot", "width": 1})
        figure.add_annotation(x=chance, y=1, yref="paper", yanchor="bottom", text="chance", showarrow=False)
    figure.update_xaxes(range=[0, 1.12], tickformat=".0%", tickvals=[0, 0.5, 1])
    figure.update_yaxes(autorange="reversed")
    return styled(figure, height=70 + TALL * len(names), margin={"l": 8, "r": 8, "t": 24, "b": 8})
