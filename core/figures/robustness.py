"""Robust accuracy against ε of several models: what attacks left, what is proven, and where nothing is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from core.figures.base import ATTACKED, CLEAN, PROVEN, UNKNOWN, faint, model_colour, styled

MEASURED_DASHES = ("solid", "dash", "dashdot", "longdash", "longdashdot")
"""Line styles of attacks. Dotted is not among them: it means proven."""
SYMBOLS = ("circle", "square", "diamond-tall", "cross", "x", "star")
_MARKED = "marked"
"""As in `core.figures.base`, whose `mark` moves the line."""
_LETTER, _TALL = 0.0145, 0.06
"""Width of a letter as a part of the axis, and height of a line of text, on a chart of usual size."""


@dataclass(frozen=True)
class Line:
    """One line of the figure.

    Attributes:
        model: what the model is called.
        kind: `measured` (an attack at several ε: joined by straight lines), `found` (no search at this ε fooled these
            images: exact between the points too, drawn as steps) or `proven` (steps, too).
        eps: (k,) rising.
        share: (k,) of the images; NaN where it is not known, drawn as a gap.
        n: images.
        place: of the model, for its colour.
        low, high: (k,) ends of the interval of a measured share.
        attack: what the attack is called, for a measured line.
        style: of the attack, for its dash and its markers.
    """

    model: str
    kind: Literal["measured", "found", "proven"]
    eps: np.ndarray
    share: np.ndarray
    n: int
    place: int = 0
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    attack: str = ""
    style: int = 0

    @property
    def name(self) -> str:
        """Such as `LeNet, PGD` or `LeNet, proven`."""
        words = {"measured": self.attack, "found": "all attacks", "proven": "proven"}
        return f"{self.model}, {words[self.kind]}"


def robustness(
    lines: Sequence[Line],
    *,
    clean: Mapping[str, tuple[int, float]] | None = None,
    value: Literal["accuracy", "success"] = "accuracy",
    chance: float | None = None,
    marked: float | None = None,
    unit: str = "units of a pixel's range [0, 1]",
    ticks: Sequence[float] | None = None,
    grey: bool = True,
    height: int = 380,
) -> go.Figure:
    """Draw the lines with their labels, both scales of ε on the axis, and a sentence at each point.

    With one model the colours are those of what is attacked and proven; with several, a colour is a model. The dash
    says it in both cases: solid or dashed for an attack (with its interval as a band), dotted for what is proven.

    Args:
        lines: at least one point in all.
        clean: model → place, and its share of correctly classified unchanged images: a diamond at ε = 0.
        value: accuracy, or the success rate of an attack.
        chance: accuracy of guessing, drawn as a thin line.
        marked: an ε marked by a vertical line; `core.figures.base.mark` moves it.
        unit: what ε is counted in, unless it is in both scales.
        ticks: the ε written on the axis; plotly's choice where it is None.
        grey: ε is a part of a pixel's range [0, 1], so it counts in grey levels, too.
        height: in CSS pixels.
    """
    alone = len({line.model for line in lines} | set(clean or ())) == 1
    figure = go.Figure()
    for line in lines:
        hue = _hue(line, alone)
        if line.kind == "measured" and line.low is not None and line.high is not None:
            _band(figure, line, hue)
        figure.add_scatter(**_trace(line, hue, value, grey))
    for model, (place, share) in (clean or {}).items():
        hue = CLEAN if alone else model_colour(place)
        figure.add_scatter(
            x=[0],
            y=[share],
            name=f"{model}, clean",
            mode="markers",
            marker={"symbol": "diamond-open", "size": 11, "color": hue, "line": {"width": 2}},
            showlegend=False,
            legendgroup=model,
            hovertemplate=f"Unchanged images: {model} classifies {_share(share)} correctly<extra></extra>",
        )
    most = max([float(line.eps.max()) for line in lines if len(line.eps)] + [*(ticks or ()), 0.0])
    if chance is not None and value == "accuracy":
        figure.add_hline(
            y=chance,
            line={"color": "gray", "width": 1, "dash": "dot"},
            annotation={"text": f"chance ({chance:.0%})", "font": {"size": 11}, "xanchor": "right"},
        )
    if marked is not None:
        figure.add_vline(x=marked, line={"color": "gray", "width": 1.5, "dash": "dash"}, name=_MARKED)
    labelled = _label(figure, lines, alone, most)
    if labelled and not alone:
        _styles(figure, lines)
    _axes(figure, value, unit, ticks, most, grey)
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0, "title": {"text": ""}}
    return styled(
        figure, height=height, legend=legend, showlegend=not labelled, margin={"l": 8, "r": 8, "t": 8, "b": 8}
    )


def _styles(figure: go.Figure, lines: Sequence[Line]) -> None:
    """Let the legend say which dash is which attack; the models are named beside their lines."""
    figure.update_traces(showlegend=False)
    for attack, style in {line.attack: line.style for line in lines if line.kind == "measured"}.items():
        figure.add_scatter(
            x=[None],
            y=[None],
            name=attack,
            mode="lines+markers",
            line={"color": "gray", "width": 2.5, "dash": MEASURED_DASHES[style % len(MEASURED_DASHES)]},
            marker={"size": 7, "symbol": SYMBOLS[style % len(SYMBOLS)], "color": "gray"},
        )


def _hue(line: Line, alone: bool) -> str:
    if alone:
        return PROVEN if line.kind == "proven" else ATTACKED
    return model_colour(line.place)


def _trace(line: Line, hue: str, value: str, grey: bool) -> dict[str, object]:
    shares = np.asarray(line.share, dtype=np.float64)
    measured = line.kind == "measured"
    known = np.pad(np.isfinite(shares), 1)
    lone = known[1:-1] & ~known[:-2] & ~known[2:]
    dash = (
        MEASURED_DASHES[line.style % len(MEASURED_DASHES)] if measured else "dot" if line.kind == "proven" else "solid"
    )
    sizes = np.full(len(shares), 7.0) if measured else np.where(lone, 8.0, 0.0)
    symbol = {"measured": SYMBOLS[line.style % len(SYMBOLS)], "proven": "triangle-up-open", "found": "circle-open"}
    return {
        "x": line.eps,
        "y": shares,
        "name": line.name,
        "legendgroup": line.model,
        "showlegend": line.kind != "proven",
        "mode": "lines+markers" if measured or lone.any() else "lines",
        "line": {
            "color": hue,
            "width": {"measured": 2.5, "found": 1.2, "proven": 2}[line.kind],
            "dash": dash,
            "shape": "linear" if measured else "hv",
        },
        "marker": {"size": sizes, "symbol": symbol[line.kind], "color": hue},
        "connectgaps": False,
        "hovertext": _sentences(line, value, grey),
        "hoverinfo": "text",
    }


def _sentences(line: Line, value: str, grey: bool) -> list[str]:
    """What each point means."""
    found = []
    for place, (eps, share) in enumerate(zip(line.eps, line.share, strict=True)):
        if not np.isfinite(share):
            found.append("")
            continue
        at = f"{eps:.4g}" + (f" ({255 * eps:.4g}/255)" if grey else "")
        if line.kind == "proven":
            text = f"No change up to ε = {at} can fool {line.model}<br>on {_share(share)} of {line.n:,} images: proven"
        elif line.kind == "found":
            text = f"ε = {at}: nothing that was run fools {line.model}<br>on {_share(share)} of {line.n:,} images"
        elif value == "success":
            text = f"ε = {at}: {line.attack} succeeds on {_share(share)} of the images<br>that {line.model} gets right"
        else:
            text = f"ε = {at}: under {line.attack}, {line.model}<br>gets {_share(share)} of {line.n:,} images right"
        if line.low is not None and line.high is not None:
            text += f"<br>95 % interval {100 * line.low[place]:.1f} to {100 * line.high[place]:.1f} %"
        found.append(text)
    return found


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"


def _band(figure: go.Figure, line: Line, hue: str) -> None:
    assert line.low is not None
    assert line.high is not None
    known = np.isfinite(line.share)
    figure.add_scatter(
        x=[*line.eps[known], *line.eps[known][::-1]],
        y=[*line.high[known], *line.low[known][::-1]],
        fill="toself",
        fillcolor=faint(hue),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        legendgroup=line.model,
        name=f"{line.name}, interval",
    )


def _label(figure: go.Figure, lines: Sequence[Line], alone: bool, most: float) -> bool:
    """Write names beside the lines where there is room; returns whether every model, or attack, has its own."""
    drawn = [line for line in lines if line.kind != "proven"]
    # one label a model, on whichever of its lines has most room; with one model, one a line
    groups: dict[str, list[Line]] = {}
    for line in [*drawn, *((line for line in lines if line.kind == "proven") if alone else ())]:
        text = ("proven" if line.kind == "proven" else f"under {line.attack or 'all attacks'}") if alone else line.model
        groups.setdefault(text, []).append(line)
    taken: list[_Box] = []
    missed = False
    for text, group in groups.items():
        found = [(room, line) for line in group if (room := _room(line, text, lines, taken, most)) is not None]
        if not found:
            missed |= text != "proven"
            continue
        (_, box, x, y), line = max(found, key=lambda pair: pair[0][0])
        taken.append(box)
        figure.add_annotation(
            x=x,
            y=y,
            text=text,
            showarrow=False,
            xanchor="left" if box.right > x else "right",
            yanchor="bottom" if box.top > y else "top",
            xshift=6 if box.right > x else -6,
            font={"color": _hue(line, alone), "size": 13},
        )
    return not missed and bool(drawn)


@dataclass(frozen=True)
class _Box:
    """The rectangle that a label takes, in the units of the axes."""

    left: float
    right: float
    bottom: float
    top: float

    def overlaps(self, other: _Box) -> bool:
        beside = self.right < other.left or other.right < self.left
        return not (beside or self.top < other.bottom or other.top < self.bottom)


def _room(
    line: Line, text: str, lines: Sequence[Line], taken: Sequence[_Box], most: float
) -> tuple[float, _Box, float, float] | None:
    """The best place for a label at one of the line's points: how far it is from all lines, its box, and the point."""
    best: tuple[float, _Box, float, float] | None = None
    known = np.isfinite(line.share)
    width = _LETTER * len(text) * most
    step = max(1, int(known.sum()) // 12)
    for eps, share in zip(line.eps[known][::step], line.share[known][::step], strict=True):
        for right, above in ((True, True), (True, False), (False, False), (False, True)):
            left = eps + 0.01 * most if right else eps - 0.01 * most - width
            bottom = share if above else share - _TALL
            box = _Box(left, left + width, bottom, bottom + _TALL)
            if box.left < 0 or box.right > 1.01 * most or box.bottom < 0 or box.top > 1.05:
                continue
            gap = min([_clearance(box, other) for other in lines] + [0.15])
            if gap > 0 and not any(box.overlaps(other) for other in taken) and (best is None or gap > best[0] + 0.01):
                best = (gap, box, float(eps), float(share))
    return best


def _clearance(box: _Box, line: Line) -> float:
    """How far a line passes from a box, vertically; 0 where it crosses it."""
    known = np.isfinite(line.share)
    if not known.any():
        return 1.0
    eps, share = line.eps[known], line.share[known]
    across = np.linspace(box.left, box.right, 9)
    across = across[(across >= eps[0]) & (across <= eps[-1])]
    heights = np.interp(across, eps, share)
    apart = np.maximum(heights - box.top, box.bottom - heights)
    return max(0.0, float(apart.min())) if len(apart) else 1.0


def _axes(figure: go.Figure, value: str, unit: str, ticks: Sequence[float] | None, most: float, grey: bool) -> None:
    title = "ε as a part of a pixel's range; below: in 255ths" if grey else f"ε, in {unit}"
    figure.update_xaxes(title_text=title, range=[-0.015 * most, 1.015 * most] if most else None)
    if ticks is not None:
        text = [f"{eps:.3g}" + (f"<br><i>{255 * eps:.3g}</i>" if grey else "") for eps in ticks]
        figure.update_xaxes(tickvals=list(ticks), ticktext=text)
    titles = {"accuracy": "correctly classified", "success": "success rate of the attack"}
    figure.update_yaxes(title_text=titles[value], tickformat=".0%", range=[-0.02, 1.04])


def from_clean_to_proven(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """A line for each model from clean accuracy down to what an attack leaves, and to what is proven.

    Args:
        rows: name, eps (the budget that both others are at, as text), clean, attacked and proven: shares, or None
            where nothing was measured, which draws nothing.
    """
    figure = go.Figure()
    names = [str(row["name"]) for row in rows]
    for row in rows:
        known = [row[key] for key in ("proven", "attacked", "clean") if row[key] is not None]
        figure.add_scatter(
            x=[min(known), max(known)] if known else [],
            y=[row["name"]] * (2 if known else 0),
            mode="lines",
            line={"color": UNKNOWN, "width": 2},
            showlegend=False,
            hoverinfo="skip",
        )
    for key, title, hue, symbol in (
        ("clean", "clean", CLEAN, "circle"),
        ("attacked", "not fooled by PGD at its ε", ATTACKED, "x"),
        ("proven", "proven at its ε", PROVEN, "diamond"),
    ):
        figure.add_scatter(
            x=[row[key] for row in rows],
            y=names,
            name=title,
            mode="markers",
            marker={"color": hue, "size": 11, "symbol": symbol},
            customdata=[row["eps"] for row in rows],
            hovertemplate="%{y}: %{x:.2%}"
            + ("" if key == "clean" else ", at ε = %{customdata}")
            + f"<extra>{title}</extra>",
        )
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%", title_text="accuracy on the test set")
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=names)
    return styled(figure, height=90 + 26 * len(rows))
