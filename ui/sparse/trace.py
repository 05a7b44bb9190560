"""The changes of one image in their order, and how many changes many images need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core.figures.base import ATTACKED, DASHES, UNKNOWN, colour, styled, traces
from ui.sparse.case import Case


@dataclass(frozen=True)
class Trace:
    """The changes of one image, in their order; everything that the scrubber shows is rebuilt from it."""

    x: np.ndarray
    order: np.ndarray
    value: np.ndarray
    margin: np.ndarray
    kept: np.ndarray
    linear: int
    x_adv: np.ndarray

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray], row: int = 0) -> Trace:
        """The trace in one row of a saved attack."""
        count = int(arrays["trace_greedy_count"][row])
        return cls(
            arrays["x"][row],
            arrays["trace_order"][row, :count],
            arrays["trace_value"][row, :count],
            arrays["trace_margin"][row, : count + 1],
            arrays["trace_kept"][row, :count],
            int(arrays["trace_linear_estimate"][row]),
            arrays["x_adv"][row],
        )

    @property
    def swapped(self) -> bool:
        """Whether swaps changed the result of pruning."""
        return not np.array_equal(self.image("pruned"), self.x_adv)

    def image(self, k: int | str) -> np.ndarray:
        """The image (C, H, W) after the first k changes, or after pruning (`pruned`), or the result (`swapped`)."""
        if k == "swapped":
            return self.x_adv
        chosen = self.kept if k == "pruned" else np.arange(len(self.order)) < int(k)
        image = self.x.copy()
        image.reshape(-1)[self.order[chosen]] = self.value[chosen]
        return image

    def table(self, case: Case) -> pd.DataFrame:
        """The list of changes: where, old and new grey level in [0, 1], and the score or margin after each."""
        final = (self.x_adv != self.x).reshape(-1)
        new = np.setdiff1d(np.flatnonzero(final), self.order[self.kept])  # what swaps brought in
        order = np.concatenate([self.order, new])
        channel, row, column = np.unravel_index(order, self.x.shape)
        needed = np.where(self.kept, np.where(final[self.order], "yes", "swapped out"), "put back")
        frame = pd.DataFrame(
            {
                "change": np.arange(1, len(order) + 1),
                "row": row,
                "column": column,
                "channel": channel,
                "old": self.x.reshape(-1)[order],
                "new": np.concatenate([self.value, self.x_adv.reshape(-1)[new]]),
                "after it": np.concatenate([case.shown(self.margin[1:]), np.full(len(new), np.nan)]),
                "needed": [*needed, *["swapped in"] * len(new)],
            }
        )
        frame = frame.rename(columns={"after it": f"{case.quantity.split(':')[0]} after it"})
        return frame if len(self.x) > 1 else frame.drop(columns="channel")


def changes(x: np.ndarray, x_adv: np.ndarray) -> pd.DataFrame:
    """The changed features of one image (C, H, W): where, old and new grey level in [0, 1]."""
    channel, row, column = np.nonzero(x_adv != x)
    where = (channel, row, column)
    frame = pd.DataFrame({"row": row, "column": column, "channel": channel, "old": x[where], "new": x_adv[where]})
    return frame if len(x) > 1 else frame.drop(columns="channel")


def trace_curve(case: Case, trace: Trace, k: int | str) -> go.Figure:
    """The score or margin after each change."""
    figure = traces(
        {"after each change": case.shown(trace.margin)},
        x_title="changes made",
        y_title=case.quantity,
        level=case.level,
        level_name="τ" if case.scalar else "fooled below",
        marked=None if isinstance(k, str) else float(k),
        height=250,
    )
    figure.update_xaxes(dtick=1 if len(trace.order) <= 20 else None)
    return figure.update_layout(margin={"t": 8}, showlegend=False)


def counts(
    arrays: dict[str, np.ndarray], table: pd.DataFrame, this: int | None = None
) -> tuple[go.Figure, pd.DataFrame]:
    """A histogram of the number of changes with its median, and a table with a row for each way of counting.

    `this` is the count of one image, marked by a line.
    """
    won = table["success"].to_numpy() & (table["pred_clean"] == table["y"]).to_numpy()
    kinds = {
        "swapped": table["l0"].to_numpy()[won],
        "pruned": arrays["trace_pruned_count"][won],
        "greedy": arrays["trace_greedy_count"][won],
        "linear estimate": arrays["trace_linear_estimate"][won & (arrays["trace_linear_estimate"] >= 0)],
    }
    top = max((int(values.max()) for values in kinds.values() if len(values)), default=1)
    figure = go.Figure()
    for place, (name, values) in enumerate(kinds.items()):
        if name == "pruned":
            continue  # nearly the same as the swapped ones: its row in the table says enough
        bins = np.bincount(values.astype(int), minlength=top + 1)
        hue = UNKNOWN if name == "linear estimate" else colour(place + 2)
        if place == 0:
            figure.add_bar(
                x=np.arange(top + 1),
                y=bins,
                name=name,
                marker_color=ATTACKED,
                hovertemplate="%{x} changes: %{y} images<extra>swapped</extra>",
            )
        else:
            figure.add_scatter(
                x=np.arange(top + 1),
                y=bins,
                name=name,
                mode="lines",
                line={"shape": "hvh", "color": hue, "dash": DASHES[place], "width": 2},
                hovertemplate=f"%{{x}} changes: %{{y}} images<extra>{name}</extra>",
            )
    if len(kinds["swapped"]):
        middle = float(np.median(kinds["swapped"]))
        figure.add_vline(
            x=middle,
            line={"color": colour(4), "width": 2, "dash": "dash"},
            annotation_text=f"median {middle:g}",
        )
    if this is not None:
        figure.add_vline(
            x=this,
            line={"color": "gray", "width": 2, "dash": "dot"},
            annotation_text="this image",
            annotation_position="top left",
        )
    unit = "pixels" if arrays["x"].shape[1] == 1 else "features"
    figure.update_xaxes(title_text=f"changed {unit}", rangemode="tozero")
    figure.update_yaxes(title_text="images")
    summary = pd.DataFrame(
        [
            {
                "count": name,
                "median": float(np.median(values)) if len(values) else np.nan,
                "least": int(values.min()) if len(values) else None,
                "most": int(values.max()) if len(values) else None,
                "images": len(values),
            }
            for name, values in kinds.items()
        ]
    )
    legend = {"orientation": "h", "yanchor": "top", "y": -0.22, "x": 0}
    return styled(figure, height=320, margin={"t": 24}, legend=legend), summary
