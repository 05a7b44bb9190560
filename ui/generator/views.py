"""Pictures of a generator attack: the grid, one pair, its rounds, the matrix of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core.figures import heat
from core.figures.base import DASHES, PALETTE, colour, styled, traces
from core.jobs import queue
from ui.generator.pairs import Pairs, counted
from ui.show import elements, gallery
from ui.show.sheet import Picture
from ui.text import both, literal, say

DISTANCES = ("l0", "l1", "l2", "linf")
"""Norms in which the table of pairs gives the size of a change."""
POINTS = 400
"""Rounds drawn in a curve, at most."""
TILE = {1: 112, 3: 128}
"""Wished width of a tile in CSS pixels, by the number of channels."""
ALONE = 6
"""Tiles a row where there is a single sample: the original, and its targets on as many rows as they need."""


def verdict(pairs: Pairs, target: int | None = None) -> str:
    """Sentences: how many wrong-class targets succeed, the median distances, and those of one target class."""
    found = pairs.summary()
    if not found.n:
        return ":material/info: No pair counts: each target is the own class of the image."
    if found.won == found.n:
        text = f":material/check_circle: **All {found.n} wrong-class targets succeed.**"
    elif found.won:
        text = f":material/contrast: **{found.won} of the {found.n} wrong-class targets succeed.**"
    else:
        text = f":material/cancel: **None of the {found.n} wrong-class targets succeeds.**"
    if found.won:
        text += f" Median change: ℓ2 {found.l2:.3g}, ℓ∞ {both(found.linf)}."
    if target is not None:
        text += f" {_towards(pairs, target)}"
    return text


def _towards(pairs: Pairs, target: int) -> str:
    name = literal(pairs.names[target])
    if target not in pairs.targets:
        return f"Towards **{name}**: – (not drawn yet)."
    one = pairs.summary(target)
    if not one.n:
        return f"Towards **{name}**: no pair counts."
    far = f", ℓ2 {one.l2:.3g}" if one.won else ""
    return f"Towards **{name}**: {one.won} of {one.n}{far}."


def shown_targets(pairs: Pairs, most: int) -> list[int]:
    """The columns of the grid: all classes, known or not; where there are more than `most`, only the known ones."""
    return list(range(len(pairs.names))) if len(pairs.names) <= most else pairs.targets


class _Grid(NamedTuple):
    """Tiles of a grid with their words."""

    tiles: list[list[np.ndarray | None]]
    columns: list[str]
    rows: list[str]
    captions: list[list[str]]
    legend: str
    alt: str


def _laid_out(pairs: Pairs, kind: str, targets: Sequence[int]) -> _Grid:
    """The originals, and a column for each target: results (`kind` image) or changes (`kind` change)."""
    arrays, table, names = pairs.arrays, pairs.table, pairs.names
    deltas = arrays["x_adv"] - arrays["x"]
    gain = gallery.gain_for(deltas)
    tiles: list[list[np.ndarray | None]] = []
    captions, labels = [], []
    for sample, first in enumerate(pairs.samples):
        rows = [pairs.row(sample, target) for target in targets]
        shown = [None if r is None else gallery.difference(deltas[r], gain) for r in rows]
        if kind == "image":
            shown = [None if r is None else arrays["x_adv"][r] for r in rows]
        start = table.iloc[first]
        tiles.append([arrays["x"][first], *shown])
        captions.append([f"{start['confidence_clean']:.0%}", *(_mark(pairs, r) for r in rows)])
        labels.append(f"{names[start['y']]}\n#{start['index']}")
    legend = "✓ classified as the target, with this probability · ✗ classified as another class · own: not counted"
    if kind == "change":
        legend = f"Change × {gain:g}: blue is darker than before, red is brighter. " + legend
    columns = ["original", *(f"→ {names[target]}" for target in targets)]
    what = "the changes made to them" if kind == "change" else "the images drawn to be classified as it"
    alt = f"{len(tiles)} images in the first column; then, a column a target class, {what}"
    return _Grid(tiles, columns, labels, captions, legend, alt)


def grid(pairs: Pairs, kind: str, targets: Sequence[int], marked: int | None = None) -> None:
    """Draw the originals, and a column for each target: results (`kind` image) or changes (`kind` change).

    A pair that is not known is blank. `marked` is a target whose column is framed.
    """
    found = _laid_out(pairs, kind, targets)
    place = None if marked is None or marked not in targets else 1 + list(targets).index(marked)
    tile = TILE[pairs.arrays["x"].shape[1]]
    if len(found.tiles) == 1:
        alt = f"{found.rows[0]}: {found.alt}"
        _alone(found.tiles[0], found.columns, found.captions[0], place, legend=found.legend, tile=tile, alt=alt)
        return
    gallery.show(
        found.tiles,
        columns=found.columns,
        rows=found.rows,
        captions=found.captions,
        legend=found.legend,
        tile=tile,
        marked=place,
        alt=found.alt,
    )


def picture(pairs: Pairs, kind: str, targets: Sequence[int]) -> Picture:
    """The grid with its words, as a file shows it."""
    found = _laid_out(pairs, kind, targets)
    title = "Generator attack: " + ("changes" if kind == "change" else "images") + ", a column a target class"
    return gallery.picture(
        found.tiles,
        alt=title,
        columns=found.columns,
        rows=found.rows,
        captions=found.captions,
        legend=found.legend,
    )


def _alone(
    tiles: Sequence[np.ndarray | None],
    columns: Sequence[str],
    captions: Sequence[str],
    marked: int | None,
    *,
    legend: str,
    tile: int,
    alt: str,
) -> None:
    """The grid of a single sample, broken into rows, so that its tiles can be large; labels stand in the captions."""
    heads = [f"▾ {text}" if place == marked else text for place, text in enumerate(columns)]
    texts = [f"{head}\n{text}" for head, text in zip(heads, captions, strict=True)]
    blank = -len(tiles) % ALONE
    every = [*tiles, *[None] * blank]
    words = [*texts, *[""] * blank]
    starts = range(0, len(every), ALONE)
    gallery.show(
        [every[start : start + ALONE] for start in starts],
        captions=[words[start : start + ALONE] for start in starts],
        legend=legend,
        tile=tile + 32,
        alt=alt,
    )


def live(job: queue.Job, x: np.ndarray, targets: Sequence[int], y: Sequence[int], names: Sequence[str]) -> None:
    """Draw the grid and the means of a running job. `x` holds the originals (n, C, H, W), `y` their classes."""
    snapshot = job.snapshot()
    drawn = None if snapshot is None else snapshot.get("x_adv")
    history = [row for row in job.history if "l2" in row]
    if history:
        share, far = history[-1]["success"], history[-1]["l2"]
        st.markdown(f"**So far {share:.0%} of the wrong-class targets succeed**; mean distance ℓ2 {far:.3g}.")
    if drawn is not None and drawn.shape == (len(x) * len(targets), *x.shape[1:]):
        rows = drawn.reshape(len(x), len(targets), *x.shape[1:])
        originals(x, y, names, targets, rows, legend="The best image of each generator so far.")
    if len(history) > 1:
        done = [row["done"] for row in history]
        for column, (name, key) in zip(
            st.columns(2), (("share of targets that succeed", "success"), ("mean ℓ2 distance", "l2")), strict=True
        ):
            figure = traces({name: [row[key] for row in history]}, x=done, x_title="round", height=200)
            figure.update_layout(title={"text": name, "font": {"size": 13}}, showlegend=False)
            with column:
                elements.chart(figure, key=f"live_{key}_{job.id}", alt=f"{name} by round")


def originals(
    x: np.ndarray,
    y: Sequence[int],
    names: Sequence[str],
    targets: Sequence[int],
    drawn: np.ndarray | None = None,
    *,
    legend: str,
) -> None:
    """Draw the samples with a column for each target: `drawn` (n, targets, C, H, W), or blanks where nothing is yet."""
    rows: list[list[np.ndarray | None]] = [
        [image, *(drawn[place] if drawn is not None else [None] * len(targets))] for place, image in enumerate(x)
    ]
    columns, tile = ["original", *(f"→ {names[target]}" for target in targets)], TILE[x.shape[1]]
    captions = ["" if drawn is not None else "–"] * len(targets)
    alt = "The samples, and the images drawn so far, a column a target class"
    if len(rows) == 1:
        _alone(rows[0], columns, ["", *captions], None, legend=legend, tile=tile, alt=alt)
        return
    gallery.show(
        rows,
        columns=columns,
        rows=[names[label] for label in y],
        captions=None if drawn is not None else [["", *captions] for _ in rows],
        legend=legend,
        tile=tile,
        alt=alt,
    )


def pair(pairs: Pairs, row: int) -> None:
    """Draw the pair of one row: original, change, result, and the probabilities before and after."""
    arrays, names, found = pairs.arrays, pairs.names, pairs.table.iloc[row]
    delta = arrays["x_adv"][row] - arrays["x"][row]
    gain = gallery.gain_for([delta])
    left, middle, right = st.columns([5, 3, 3])
    with left:
        gallery.show(
            [[arrays["x"][row], gallery.difference(delta, gain), arrays["x_adv"][row]]],
            columns=["original", "change", "result"],
            captions=[[f"classified as {names[found['pred_clean']]}", f"× {gain:g}", f"as {names[found['pred']]}"]],
            legend=" · ".join(f"{say(norm)} {found[norm]:.4g}" for norm in DISTANCES),
            alt=f"A {names[found['y']]}, the change made to it, and the result, classified as {names[found['pred']]}",
            tile=140,
        )
    for column, title, key in ((middle, "before", "probabilities_clean"), (right, "after", "probabilities")):
        with column:
            st.markdown(f"**Probabilities {title}**")
            gallery.probabilities(
                arrays[key][row],
                names,
                alt=f"Probabilities of the classes {title} the attack",
                marked=int(found["target"]),
            )


def rounds(pairs: Pairs, sample: int, target: int | None, page: str) -> None:
    """Draw the target's probability and the distance by round, with a line for each target; the chosen one is bold."""
    for column, (key, title, is_share) in zip(
        st.columns(2),
        (("trace_confidence", "Probability of the target", True), ("trace_l2", "ℓ2 distance from the original", False)),
        strict=True,
    ):
        values = pairs.arrays[key]
        shown = np.unique(np.linspace(0, len(values) - 1, min(POINTS, len(values))).round().astype(int))
        figure = go.Figure()
        # the chosen one last, so that it lies on top
        for other in sorted(pairs.targets, key=lambda t: t == target):
            name = f"→ {pairs.names[other]}"
            bold = other == target or target is None
            figure.add_scatter(
                x=shown + 1,
                y=values[shown, pairs.row(sample, other)],
                name=name,
                mode="lines",
                line={
                    "width": 3.5 if other == target else 1.6,
                    "color": colour(place := pairs.targets.index(other)),
                    "dash": DASHES[place // len(PALETTE) % len(DASHES)],
                },
                opacity=1.0 if bold else 0.5,
                hovertemplate=f"round %{{x}}: %{{y:{'.1%' if is_share else '.4g'}}}<extra>{name}</extra>",
            )
        figure.update_xaxes(title_text="round")
        figure.update_yaxes(title_text=title, tickformat=".0%" if is_share else None, rangemode="tozero")
        styled(figure, height=330, margin={"t": 8}, legend={"orientation": "h", "y": -0.25, "x": 0})
        with column:
            elements.chart(figure, key=f"{page}_{key}", alt=f"{title} by round, for each target of the chosen image")


def matrix(pairs: Pairs) -> go.Figure:
    """A heat map of true class (row) and target (column): how many pairs were fooled, coloured by median distance."""
    table, names = pairs.table, pairs.names
    sources, targets = sorted(table["y"].unique()), pairs.targets
    medians = np.full((len(sources), len(targets)), np.nan)
    text = [["own" for _ in targets] for _ in sources]
    hover = [["the class itself, not counted" for _ in targets] for _ in sources]
    for a, source in enumerate(sources):
        for b, target in enumerate(targets):
            cell = table[(table["y"] == source) & (table["target"] == target) & counted(table)]
            if not len(cell):
                continue
            won = cell[cell["success"]]
            single = len(cell) == 1
            text[a][b] = f"{len(won)}/{len(cell)}" if not single else ("✓" if len(won) else "✗")
            hover[a][b] = f"{len(won)} of {len(cell)} fooled"
            if len(won):
                medians[a, b] = won["l2"].median()
                text[a][b] += f" {won['l2'].median():.1f}"
                hover[a][b] += f", median ℓ2 {won['l2'].median():.3g}, ℓ∞ {won['linf'].median():.3g}"
    figure = go.Figure(
        go.Heatmap(
            z=medians,
            x=[f"{names[target]} " for target in targets],  # the space keeps plotly from reading digits as numbers
            y=[f"{names[source]} " for source in sources],
            customdata=hover,
            colorscale=[[0, "#c9daf0"], [1, "#1f4f93"]],
            colorbar={"title": {"text": "median ℓ2", "side": "right"}, "thickness": 12, "outlinewidth": 0},
            xgap=2,
            ygap=2,
            hoverongaps=True,
            hovertemplate="true %{y}to %{x}: %{customdata}<extra></extra>",
        )
    )
    low, high = (np.nanmin(medians), np.nanmax(medians)) if np.isfinite(medians).any() else (0.0, 0.0)
    heat.write_cells(figure, np.array(text), medians > (low + high) / 2)
    figure.update_xaxes(title_text="target class", type="category", showgrid=False)
    figure.update_yaxes(title_text="true class", type="category", autorange="reversed", showgrid=False)
    return styled(figure, height=110 + 36 * len(sources), margin={"t": 8})


def distances(pairs: Pairs) -> pd.DataFrame:
    """A table with a row for each pair: its target, the outcome, and the distance from the original."""
    table, names = pairs.table, pairs.names
    target = pairs.arrays["probabilities"][np.arange(len(table)), table["target"]]
    return pd.DataFrame(
        {
            "image": table["index"],
            "true class": [names[k] for k in table["y"]],
            "target": [names[k] for k in table["target"]],
            "classified as": [names[k] for k in table["pred"]],
            "P(target)": target,
            "outcome": np.where(
                table["target"] == table["y"], "own class", np.where(table["success"], "fooled", "not fooled")
            ),
            **{say(name): table[name] for name in DISTANCES},
        }
    )


def _mark(pairs: Pairs, row: int | None) -> str:
    if row is None:
        return "–"
    found = pairs.table.iloc[row]
    if found["target"] == found["y"]:
        return "own"
    if found["success"]:
        return f"✓ {pairs.arrays['probabilities'][row, found['target']]:.0%}"
    return f"✗ {pairs.names[found['pred']]}"
