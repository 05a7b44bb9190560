"""Pictures of a generator attack: the grid, one pair, its rounds, the matrix of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core.figures import heat
from core.figures.base import DASHES, PALETTE, colour, styled, traces
from core.jobs import queue
from core.storage import store
from ui.show import elements, gallery
from ui.show.sheet import Picture
from ui.text import interval, percent, say

DISTANCES = ("l0", "l1", "l2", "linf")
"""Norms in which the table of pairs gives the size of a change."""
POINTS = 400
"""Rounds drawn in a curve, at most."""


@dataclass(frozen=True)
class Pairs:
    """The pairs of image and target of an attack, ordered by image, then by target."""

    arrays: dict[str, np.ndarray]
    table: pd.DataFrame
    names: Sequence[str]

    @classmethod
    def of(cls, result: store.Artifact) -> Pairs:
        """The pairs of a saved attack."""
        return cls(result.arrays("images"), result.table("images"), result.card["class_names"])

    @property
    def targets(self) -> list[int]:
        """Target classes, in order."""
        return [int(target) for target in self.table["target"].unique()]

    @property
    def samples(self) -> list[int]:
        """The first row of each image, in order."""
        return [int(row) for row in self.table.drop_duplicates("index")["row"]]

    def row(self, sample: int, target: int) -> int:
        """The row of the image at this place with this target."""
        return self.samples[sample] + self.targets.index(target)


def counted(table: pd.DataFrame) -> pd.Series:
    """Which rows count: the image was classified correctly before, and the target is another class."""
    return (table["target"] != table["y"]) & (table["pred_clean"] == table["y"])


def verdict(won: int, of: int, what: str = "pairs") -> None:
    """Draw whether the attack succeeded, succeeded on some pairs, or failed."""
    if of == 0:
        st.info(f"No {what} to count: each target is the image's own class.", icon=":material/info:")
    elif won == of:
        st.success(f"Succeeded: all {of} {what} end up read as their target.", icon=":material/check_circle:")
    elif won:
        st.warning(f"Partly: {won} of {of} {what} end up read as their target.", icon=":material/contrast:")
    else:
        st.error(f"Failed: none of the {of} {what} ends up read as its target.", icon=":material/cancel:")


def metrics(result: store.Artifact) -> None:
    """The summary figures of a finished attack."""
    found, settings = result.card["metrics"], result.card["spec"]["attack"]
    with st.grid(5, min_column_width=150):
        st.metric(
            "Success rate",
            percent(found["success_rate"], 1),
            help=f"Of {found['n']} pairs; those whose target is the image's own class are left out.",
        )
        st.metric(
            "95 % interval",
            interval(found["low"], found["high"], 0),
            help="Clopper–Pearson: what this many pairs say of the rate for all such pairs.",
        )
        st.metric("Median ℓ2", _number(found["median_l2"], ".3g"), help="Distance of the successes from their image.")
        st.metric(
            "Median ℓ∞", _number(found["median_linf"], ".3g"), help="Largest change of one pixel, of the successes."
        )
        st.metric("Time", f"{found['seconds']:.1f} s", help=f"{settings['rounds']} rounds on {result.card['device']}.")


def grid(pairs: Pairs, kind: str) -> Picture:
    """Draw the originals, and a column for each target: results (`kind` image) or changes (`kind` change)."""
    arrays, table, names = pairs.arrays, pairs.table, pairs.names
    deltas = arrays["x_adv"] - arrays["x"]
    gain = gallery.gain_for(deltas)
    tiles: list[list[np.ndarray | None]] = []
    captions, labels = [], []
    for sample, first in enumerate(pairs.samples):
        rows = [pairs.row(sample, target) for target in pairs.targets]
        shown = [gallery.difference(deltas[r], gain) if kind == "change" else arrays["x_adv"][r] for r in rows]
        tiles.append([arrays["x"][first], *shown])
        start = table.iloc[first]
        captions.append(
            [f"{names[start['pred_clean']]} · {start['confidence_clean']:.0%}", *(_mark(pairs, r) for r in rows)]
        )
        labels.append(f"{names[start['y']]}\n#{start['index']}")
    legend = (
        "✓ read as the target, with this probability · ✗ still read as another class · own: the true class, not counted"
    )
    if kind == "change":
        legend = f"Change × {gain:g}: blue is darker than before, red is brighter. " + legend
    return gallery.show(
        tiles,
        columns=["original", *(f"→ {names[target]}" for target in pairs.targets)],
        rows=labels,
        captions=captions,
        legend=legend,
        alt=f"{len(tiles)} images in the first column; then, a column a target class, "
        + ("the changes made to them" if kind == "change" else "the images drawn to be read as it"),
    )


def live(job: queue.Job, x: np.ndarray, targets: Sequence[int], y: Sequence[int], names: Sequence[str]) -> None:
    """Draw the grid and the means of a running job. `x` holds the originals (n, C, H, W), `y` their classes."""
    snapshot = job.snapshot()
    drawn = None if snapshot is None else snapshot.get("x_adv")
    if drawn is not None and drawn.shape == (len(x) * len(targets), *x.shape[1:]):
        rows = drawn.reshape(len(x), len(targets), *x.shape[1:])
        gallery.show(
            [[image, *row] for image, row in zip(x, rows, strict=True)],
            columns=["original", *(f"→ {names[target]}" for target in targets)],
            rows=[names[label] for label in y],
            legend="The best of each generator so far.",
            alt="The images as they are drawn now, a column a target class",
        )
    history = [row for row in job.history if "l2" in row]
    if len(history) > 1:
        done = [row["done"] for row in history]
        for column, (name, key) in zip(
            st.columns(2), (("share of pairs fooled", "success"), ("mean ℓ2 distance", "l2")), strict=True
        ):
            figure = traces({name: [row[key] for row in history]}, x=done, x_title="round", height=200)
            figure.update_layout(title={"text": name, "font": {"size": 13}}, showlegend=False)
            with column:
                elements.chart(figure, key=f"live_{key}_{job.id}", alt=f"{name} by round")


def pair(pairs: Pairs, sample: int, target: int) -> None:
    """Draw one pair: original, change, result, and the probabilities before and after."""
    arrays, names, row = pairs.arrays, pairs.names, pairs.row(sample, target)
    found = pairs.table.iloc[row]
    delta = arrays["x_adv"][row] - arrays["x"][row]
    gain = gallery.gain_for([delta])
    left, middle, right = st.columns([5, 3, 3])
    with left:
        gallery.show(
            [[arrays["x"][row], gallery.difference(delta, gain), arrays["x_adv"][row]]],
            columns=["original", "change", "result"],
            captions=[[f"read {names[found['pred_clean']]}", f"× {gain:g}", f"read {names[found['pred']]}"]],
            legend=" · ".join(f"{say(norm)} {found[norm]:.4g}" for norm in DISTANCES),
            alt=f"A {names[found['y']]}, the change made to it, and the result, read as {names[found['pred']]}",
            tile=140,
        )
    for column, title, key in ((middle, "before", "probabilities_clean"), (right, "after", "probabilities")):
        with column:
            st.markdown(f"**Probabilities {title}**")
            gallery.probabilities(
                arrays[key][row], names, alt=f"Probabilities of the classes {title} the attack", marked=target
            )


def rounds(pairs: Pairs, sample: int, target: int, page: str) -> None:
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
            figure.add_scatter(
                x=shown + 1,
                y=values[shown, pairs.row(sample, other)],
                name=name,
                mode="lines",
                line={
                    "width": 3.5 if other == target else 1.2,
                    "color": colour(place := pairs.targets.index(other)),
                    "dash": DASHES[place // len(PALETTE) % len(DASHES)],
                },
                opacity=1.0 if other == target else 0.55,
                hovertemplate=f"round %{{x}}: %{{y:{'.1%' if is_share else '.4g'}}}<extra>{name}</extra>",
            )
        figure.update_xaxes(title_text="round")
        figure.update_yaxes(title_text=title, tickformat=".0%" if is_share else None, rangemode="tozero")
        styled(figure, height=300, margin={"t": 8}, legend={"orientation": "h", "y": -0.25, "x": 0})
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
            "read as": [names[k] for k in table["pred"]],
            "P(target)": target,
            "outcome": np.where(
                table["target"] == table["y"], "own class", np.where(table["success"], "fooled", "not fooled")
            ),
            **{say(name): table[name] for name in DISTANCES},
        }
    )


def _mark(pairs: Pairs, row: int) -> str:
    found = pairs.table.iloc[row]
    if found["target"] == found["y"]:
        return "own"
    if found["success"]:
        return f"✓ {pairs.arrays['probabilities'][row, found['target']]:.0%}"
    return f"✗ {pairs.names[found['pred']]}"


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "–"
