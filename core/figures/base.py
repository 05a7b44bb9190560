"""Artifact or table → plotly figure: pure functions with one look that works on light and dark paper.

Backgrounds are transparent and text takes the colour of the page. Nothing here imports torch or Streamlit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

PALETTE = ("#3b6fb6", "#d1622b", "#2f8f6b", "#8a5fb0", "#b8912b", "#b8436d", "#5b7a8c", "#1f8fa6", "#8c6b4f")
"""Colours of series, in order; they repeat. Told apart on white and on near-black."""
CLEAN, ATTACKED, PROVEN, UNKNOWN = "#3b6fb6", "#d1622b", "#2f8f6b", "#7b8794"
"""What colours mean, in every chart and picture: unchanged images; adversarial examples and what withstood
an attack; what is proven; what is not known. Never by colour alone: see `DASHES`."""
DASHES = ("solid", "dash", "dot", "dashdot")
"""Line styles that a second, independent distinction takes, so that colour is never alone."""
_MARKED = "marked"
_GRID = "rgba(128,140,160,0.22)"


def colour(place: int) -> str:
    """The colour of the series at this place."""
    return PALETTE[place % len(PALETTE)]


def model_colour(place: int) -> str:
    """The colour of the model at this place, where a colour tells models apart: none that means something else first.

    See `CLEAN`, `ATTACKED` and `PROVEN`, which begin the palette.
    """
    return colour((3, 4, 5, 7, 8, 6, 0, 1, 2)[place % len(PALETTE)])


def faint(hexadecimal: str, alpha: float = 0.16) -> str:
    """The same colour, nearly transparent, for bands."""
    red, green, blue = (int(hexadecimal[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def styled(figure: go.Figure, *, height: int = 320, **layout: Any) -> go.Figure:
    """Give a figure the common look, in place; `layout` is passed on to plotly. Returns it."""
    settings: dict[str, Any] = {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 36, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "title": {"text": ""}},
        "hovermode": "closest",
        "barmode": "overlay",
    }
    figure.update_layout(**{**settings, **layout})
    figure.update_xaxes(gridcolor=_GRID, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=_GRID, zeroline=False, automargin=True)
    return figure


def training_curves(history: Sequence[Mapping[str, Any]], best_epoch: int | None = None) -> go.Figure:
    """Loss and accuracy by epoch, training dashed and validation solid.

    Args:
        history: rows with epoch, loss, train_accuracy, validation_loss, validation_accuracy; others are left out. Where
            they have robust_accuracy, fgsm_accuracy, certified_accuracy or noise_accuracy, these are drawn as well, and
            epochs that are overfitted to a single step are crossed.
        best_epoch: the epoch whose weights were kept, marked by a ring.
    """
    rows = [row for row in history if "epoch" in row and "validation_accuracy" in row]
    figure = make_subplots(rows=1, cols=2, subplot_titles=("Loss", "Accuracy"), horizontal_spacing=0.2)
    epochs = [row["epoch"] for row in rows]
    for column, (train, validation) in enumerate(
        (("loss", "validation_loss"), ("train_accuracy", "validation_accuracy")), start=1
    ):
        for name, key, is_training in (("training", train, True), ("validation", validation, False)):
            figure.add_scatter(
                x=epochs,
                y=[row.get(key) for row in rows],
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                mode="lines+markers",
                line={"color": CLEAN, "dash": "dash" if is_training else "solid", "width": 2},
                opacity=0.55 if is_training else 1,
                marker={"size": 5},
                hovertemplate="epoch %{x}: %{y:.4f}<extra>" + name + "</extra>",
                row=1,
                col=column,
            )
    attacked = [row for row in rows if "robust_accuracy" in row or "noise_accuracy" in row]
    watched = (
        ("under PGD", "robust_accuracy", ATTACKED),
        ("under FGSM", "fgsm_accuracy", ATTACKED),
        ("proven", "certified_accuracy", PROVEN),
        ("under noise", "noise_accuracy", colour(3)),
    )
    for name, key, hue in watched:
        if any(key in row for row in attacked):
            figure.add_scatter(
                x=[row["epoch"] for row in attacked],
                y=[row.get(key) for row in attacked],
                name=name,
                mode="lines+markers",
                line={"color": hue, "dash": "dot" if key == "fgsm_accuracy" else "solid", "width": 2},
                marker={"size": 5},
                customdata=[row.get("eps", row.get("sigma")) for row in attacked],
                hovertemplate=f"epoch %{{x}}, {'σ' if key == 'noise_accuracy' else 'ε'} %{{customdata:.3g}}: %{{y:.4f}}"
                + f"<extra>{name}</extra>",
                row=1,
                col=2,
            )
    marked = [row for row in attacked if row.get("overfitted")]
    if marked:
        figure.add_scatter(
            x=[row["epoch"] for row in marked],
            y=[row["robust_accuracy"] for row in marked],
            name="overfitted to one step",
            mode="markers",
            marker={"symbol": "x", "size": 11, "color": ATTACKED},
            customdata=["; went back to the best weights" * bool(row.get("rolled_back")) for row in marked],
            hovertemplate="epoch %{x}: robust against a single step only%{customdata}<extra></extra>",
            row=1,
            col=2,
        )
    kept = next((row for row in rows if row["epoch"] == best_epoch), None)
    if kept is not None:
        figure.add_scatter(
            x=[kept["epoch"]],
            y=[kept["validation_accuracy"]],
            name="kept",
            mode="markers",
            marker={"symbol": "circle-open", "size": 14, "color": CLEAN, "line": {"width": 2}},
            hovertemplate="epoch %{x} is kept<extra></extra>",
            row=1,
            col=2,
        )
    figure.update_xaxes(title_text="epoch", dtick=1 if len(rows) <= 12 else None)
    figure.update_yaxes(tickformat=".1%", col=2)
    return styled(figure, height=300, legend={"orientation": "h", "yanchor": "top", "y": -0.25, "x": 0})


def running_loss(history: Sequence[Mapping[str, Any]]) -> go.Figure:
    """The loss of the batches reported while a training runs, in the order that they came."""
    values = [row["loss"] for row in history if row.get("loss") is not None]
    figure = go.Figure(
        go.Scatter(y=values, mode="lines", line={"color": CLEAN, "width": 1.5}, hovertemplate="%{y:.4f}<extra></extra>")
    )
    figure.update_xaxes(title_text="report", showticklabels=False)
    figure.update_yaxes(title_text="loss", type="log" if values and min(values) > 0 else "linear")
    return styled(figure, height=220, margin={"l": 8, "r": 8, "t": 8, "b": 8})


def accuracy_by_epoch(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> go.Figure:
    """Clean and adversarial validation accuracy by epoch of several models, side by side; the first is drawn boldly.

    Adversarial is the accuracy under PGD at the ε of that epoch, else under FGSM; a model whose history has neither is
    left out of the right half.
    """
    figure = make_subplots(rows=1, cols=2, subplot_titles=("Clean", "Under attack"), horizontal_spacing=0.12)
    for place, (name, history) in enumerate(histories.items()):
        under = "robust_accuracy" if any("robust_accuracy" in row for row in history) else "fgsm_accuracy"
        for column, key in ((1, "validation_accuracy"), (2, under)):
            rows = [row for row in history if key in row]
            attack = "" if column == 1 else ", " + ("PGD" if key == "robust_accuracy" else "FGSM") + ", ε %{customdata}"
            figure.add_scatter(
                x=[row["epoch"] for row in rows],
                y=[row[key] for row in rows],
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                mode="lines+markers",
                line={
                    "color": colour(place),
                    "width": 3 if place == 0 else 1.5,
                    "dash": DASHES[place % len(DASHES)],
                },
                marker={"size": 5, "symbol": place % 8},
                customdata=[f"{row.get('eps', math.nan):.3g}" for row in rows],
                hovertemplate=f"epoch %{{x}}{attack}: %{{y:.2%}}<extra>{name}</extra>",
                row=1,
                col=column,
            )
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(tickformat=".0%")
    figure.update_yaxes(title_text="validation accuracy", col=1)
    return styled(figure, height=340, legend={"orientation": "h", "yanchor": "top", "y": -0.25, "x": 0})


def score_histogram(
    scores: np.ndarray, y: np.ndarray, class_names: Sequence[str], threshold: float, bins: int = 60
) -> go.Figure:
    """Histogram of the raw scores N(x) of two classes, with the threshold τ as a line.

    Args:
        scores: N(x) (n,).
        y: true classes (n,), 0 or 1.
        class_names: of class 0 and class 1.
        threshold: τ, in the units of the score.
        bins: bars from the smallest to the largest score.
    """
    edges = np.linspace(float(np.min(scores)), float(np.max(scores)) + 1e-9, bins + 1)
    figure = go.Figure()
    for label, name in enumerate(class_names[:2]):
        counts, _ = np.histogram(scores[y == label], edges)
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts,
            width=np.diff(edges),
            name=f"true {name}",
            marker={"color": colour(label), "opacity": 0.65, "pattern": {"shape": ("", "/")[label]}},
            hovertemplate="N(x) ≈ %{x:.3g}: %{y} images<extra>true " + name + "</extra>",
        )
    figure.add_vline(
        x=threshold, line={"color": colour(4), "width": 2, "dash": "dash"}, annotation_text=f"τ = {threshold:.3g}"
    )
    figure.update_xaxes(title_text=f"score N(x): below τ classified as {class_names[0]}, above as {class_names[1]}")
    figure.update_yaxes(title_text="test images")
    return styled(figure, bargap=0)


def against_eps(
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    value: str = "accuracy",
    band: tuple[str, str] | None = ("low", "high"),
    chance: float | None = None,
    marked: float | None = None,
    title: str | None = None,
    looks: Mapping[str, tuple[int, int]] | None = None,
    legend: bool = True,
    height: int = 400,
) -> go.Figure:
    """A metric against ε, one curve a name, with its interval as a band.

    Args:
        curves: name → rows with `eps`, the metric, and the band's two ends (as in a sweep's card).
        value: the metric drawn.
        band: the interval's two columns, or None.
        chance: accuracy of guessing, drawn as a dotted line.
        marked: an ε marked by a vertical line, where a slider stands; `mark` moves it.
        title: of the vertical axis, if not the metric's name.
        looks: name → place of its model, for the colour, and of its attack, for the dash.
        legend: whether the curves are named beside the figure.
        height: in CSS pixels.

    Every point carries (curve, ε) as customdata, for selections.
    """
    figure = go.Figure()
    for place, (name, rows) in enumerate(curves.items()):
        number, dash = looks[name] if looks else (place, place // len(PALETTE))
        hue = model_colour(number) if looks else colour(number)
        eps = [row["eps"] for row in rows]
        if band is not None:
            low, high = ([row[end] for row in rows] for end in band)
            figure.add_scatter(
                x=[*eps, *reversed(eps)],
                y=[*high, *reversed(low)],
                fill="toself",
                fillcolor=faint(hue),
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                legendgroup=name,
                mode="lines",
            )
        figure.add_scatter(
            x=eps,
            y=[row[value] for row in rows],
            name=name,
            legendgroup=name,
            mode="lines+markers",
            line={"color": hue, "width": 2, "dash": DASHES[dash % len(DASHES)]},
            marker={"size": 7, "symbol": place % 8},
            customdata=[[name, e] for e in eps],
            hovertemplate="ε = %{x:.4g} (%{text}/255): %{y:.2%}<extra>" + name + "</extra>",
            text=[f"{255 * e:.4g}" for e in eps],
        )
    if chance is not None:
        figure.add_hline(y=chance, line={"color": "gray", "width": 1, "dash": "dot"}, annotation_text="chance")
    if marked is not None:
        figure.add_vline(x=marked, line={"color": colour(4), "width": 1.5, "dash": "dash"}, name=_MARKED)
    figure.update_xaxes(title_text="ε, in units of a pixel's range [0, 1]", rangemode="tozero")
    figure.update_yaxes(title_text=title or value.replace("_", " "), tickformat=".0%", range=[-0.02, 1.02])
    return styled(figure, height=height, showlegend=legend)


def mark(figure: go.Figure, x: float) -> go.Figure:
    """Move the vertical line of a figure that was made with `marked`, in place: far cheaper than making it again."""
    return figure.update_shapes({"x0": x, "x1": x}, selector={"name": _MARKED})


def traces(
    series: Mapping[str, Sequence[float] | np.ndarray],
    *,
    x: Sequence[float] | None = None,
    x_title: str = "step",
    y_title: str = "",
    level: float | None = None,
    level_name: str = "",
    marked: float | None = None,
    log: bool = False,
    height: int = 300,
) -> go.Figure:
    """Several series over the steps of a run, such as distance and confidence by round.

    Args:
        series: name → values, one a step.
        x: the steps' positions, if not 0, 1, 2, ….
        x_title: of the horizontal axis.
        y_title: of the vertical axis.
        level: a horizontal line, such as a threshold.
        level_name: what that line is.
        marked: a step marked by a vertical line, where a slider stands.
        log: logarithmic vertical axis.
        height: in CSS pixels.
    """
    figure = go.Figure()
    for place, (name, values) in enumerate(series.items()):
        figure.add_scatter(
            x=list(range(len(values))) if x is None else list(x),
            y=np.asarray(values, dtype=float),
            name=name,
            mode="lines+markers" if len(values) <= 40 else "lines",
            marker={"size": 5},
            line={"color": colour(place), "width": 2, "dash": DASHES[(place // len(PALETTE)) % len(DASHES)]},
            hovertemplate="%{x}: %{y:.4g}<extra>" + name + "</extra>",
        )
    if level is not None:
        figure.add_hline(y=level, line={"color": "gray", "width": 1, "dash": "dot"}, annotation_text=level_name)
    if marked is not None:
        figure.add_vline(x=marked, line={"color": colour(4), "width": 1.5, "dash": "dash"})
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(title_text=y_title, type="log" if log else "linear")
    return styled(figure, height=height)
