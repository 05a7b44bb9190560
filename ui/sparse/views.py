"""One image with its Jacobian, and figures of attacks on it: the dense formula, pixels changed one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core.figures.base import DASHES, colour, styled, traces
from core.storage import store
from ui.app import sources
from ui.show import gallery
from ui.show.sheet import Picture

STEPS = 60
"""Sizes tried for the curve over ε."""


@st.cache_data(max_entries=64, show_spinner="Differentiating …")
def look(model_id: str, root: Path, index: int) -> dict[str, np.ndarray]:
    """Image x (C, H, W), its logits (K,) and their Jacobian (K, C, H, W); a scalar network's logits are (0, N(x))."""
    import torch

    from core.attacks.sparse.jacobian import jacobian
    from core.data.sets import to_float

    saved = sources.saved_model(model_id, root)
    test = saved.data().test
    x = to_float(test.x[test.index == index])
    with torch.no_grad():
        logits = saved.model(x)
    return {"x": x[0].numpy(), "logits": logits[0].numpy(), "jacobian": jacobian(saved.model, x)[0].numpy()}


@st.cache_data(max_entries=64, show_spinner=False)
def logits_of(model_id: str, root: Path, images: np.ndarray) -> np.ndarray:
    """Logits (n, K) of images (n, C, H, W); a scalar network's are (0, N(x)), without its threshold."""
    import torch

    from core.networks import catalogue

    return catalogue.logits_of(sources.saved_model(model_id, root).model, torch.from_numpy(images)).numpy()


@dataclass(frozen=True)
class Case:
    """One image of one model with its Jacobian, and the target of the attack.

    `logits` of a scalar network are (0, N(x) - τ), so that the class is their argmax as for any other.
    """

    model: store.Artifact
    index: int
    label: int
    target: int | None
    threshold: float
    scalar: bool
    x: np.ndarray
    logits: np.ndarray
    jacobian: np.ndarray

    @property
    def names(self) -> Sequence[str]:
        """Class names."""
        return self.model.card["class_names"]

    def read(self, images: np.ndarray) -> np.ndarray:
        """Logits (n, K) of other images, the threshold taken off."""
        logits = logits_of(self.model.id, self.model.root, np.ascontiguousarray(images, dtype=np.float32))
        return logits - [0, self.threshold] if self.scalar else logits

    def margin(self, logits: np.ndarray) -> np.ndarray:
        """Margins (n,) that an attack brings below 0: own logit minus the best other, or best other minus target."""
        at = self.label if self.target is None else self.target
        rest = np.delete(logits, at, axis=1).max(axis=1)
        return logits[:, at] - rest if self.target is None else rest - logits[:, at]

    def shown(self, margin: Any) -> Any:
        """A margin as the page shows it: for a single-output network the score N(x)."""
        return self.threshold + (margin if self.label == 1 else -margin) if self.scalar else margin

    @property
    def quantity(self) -> str:
        """The name of what `shown` returns."""
        if self.scalar:
            return "score N(x)"
        return "margin: own logit − best other" if self.target is None else "margin: best other logit − target's"

    @property
    def level(self) -> float:
        """The value of `shown` at which the class changes."""
        return self.threshold if self.scalar else 0.0

    def slope(self, toward: int) -> np.ndarray:
        """Derivative (C, H, W) of the margin at x, against or towards the class `toward`."""
        if self.target is None:
            return self.jacobian[self.label] - self.jacobian[toward]
        rivals = np.where(np.arange(len(self.logits)) == self.target, -np.inf, self.logits)
        return self.jacobian[int(rivals.argmax())] - self.jacobian[self.target]


def flat(values: np.ndarray) -> np.ndarray:
    """(C, H, W) → (H, W): of several channels the value of largest magnitude."""
    return np.take_along_axis(values, np.abs(values).argmax(axis=0)[None], axis=0)[0]


def verdict(success: bool, before: str, after: str, how: str) -> None:
    """Draw whether one image is fooled: yes, no, or into another class than the target."""
    if success:
        st.success(f"Succeeded: {how}, and the {before} is read as {after}.", icon=":material/check_circle:")
    elif before != after:
        st.warning(f"Partly: {how}, and the {before} is read as {after}, not as asked.", icon=":material/contrast:")
    else:
        st.error(f"Failed: {how}, and the {before} is still read as {after}.", icon=":material/cancel:")


def triptych(
    case: Case, x_adv: np.ndarray, after: np.ndarray, *, what: str, tile: int = 150, gain: float | None = None
) -> Picture:
    """Draw original | change | result with the class and its probability before and after; returns the picture."""
    delta = x_adv - case.x
    gain = gain or gallery.gain_for([delta])
    texts = [
        f"{case.names[int(p.argmax())]} · {p.max():.1%}" for p in (gallery.softmax(case.logits), gallery.softmax(after))
    ]
    return gallery.show(
        [[case.x, gallery.difference(delta, gain), x_adv]],
        columns=["original", f"change × {gain:g}", what],
        captions=[[texts[0], f"ℓ∞ {np.abs(delta).max():.3g} · ℓ2 {np.linalg.norm(delta):.3g}", texts[1]]],
        legend="Change: blue is darker than before, red is brighter.",
        alt=f"The original, read {texts[0]}; the change; {what}, read {texts[1]}",
        tile=tile,
    )


def dense_curve(case: Case, toward: int, levels: dict[str, float], applied: float) -> go.Figure:
    """The score or margin against ε for x ± ε·sign(J): as the Jacobian predicts, and as it is, with and without box."""
    slope = case.slope(toward)
    finite = [level for level in levels.values() if np.isfinite(level)]
    eps = np.linspace(0, min(1.0, 1.6 * max([applied, *finite, 0.02])), STEPS)
    steps = -np.sign(slope)[None] * eps[:, None, None, None]
    moved = {"no box": case.x + steps, "in the box [0, 1]": np.clip(case.x + steps, 0, 1)}
    start = float(case.margin(case.logits[None])[0])
    figure = go.Figure()
    for place, (name, images) in enumerate(moved.items()):
        predicted = start + ((images - case.x) * slope).sum(axis=(1, 2, 3))
        actual = case.margin(case.read(images))
        for kind, values, dash in (("predicted", predicted, "dash"), ("actual", actual, "solid")):
            figure.add_scatter(
                x=eps,
                y=case.shown(values),
                name=f"{kind}, {name}",
                mode="lines",
                line={"color": colour(place), "width": 2, "dash": dash},
                hovertemplate=f"ε = %{{x:.4f}}: %{{y:.4g}}<extra>{kind}, {name}</extra>",
            )
    for place, (name, level) in enumerate(levels.items()):
        if np.isfinite(level):
            figure.add_scatter(
                x=[level],
                y=[case.level],
                name=f"ε*, {name}",
                mode="markers",
                marker={"size": 12, "symbol": ("circle-open", "diamond-open")[place], "line": {"width": 2.5}},
                marker_color=colour(place),
                hovertemplate=f"ε* = %{{x:.4f}}<extra>{name}</extra>",
            )
    figure.add_hline(
        y=case.level,
        line={"color": "gray", "width": 1, "dash": "dot"},
        annotation_text="τ" if case.scalar else "fooled below",
    )
    figure.update_xaxes(title_text="ε, change of every pixel, in [0, 1]", rangemode="tozero")
    figure.update_yaxes(title_text=case.quantity)
    return styled(figure, height=400, margin={"t": 8}, legend={"orientation": "h", "yanchor": "top", "y": -0.3, "x": 0})


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
        height=290,
    )
    figure.update_xaxes(dtick=1 if len(trace.order) <= 20 else None)
    return figure.update_layout(margin={"t": 8}, showlegend=False)


def counts(arrays: dict[str, np.ndarray], table: pd.DataFrame) -> tuple[go.Figure, pd.DataFrame]:
    """A histogram of the number of changes with its median, and a table with a row for each way of counting."""
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
        bins = np.bincount(values.astype(int), minlength=top + 1)
        if place == 0:
            figure.add_bar(
                x=np.arange(top + 1),
                y=bins,
                name=name,
                marker_color=colour(0),
                hovertemplate="%{x} changes: %{y} images<extra>swapped</extra>",
            )
        else:
            figure.add_scatter(
                x=np.arange(top + 1),
                y=bins,
                name=name,
                mode="lines",
                line={"shape": "hvh", "color": colour(place), "dash": DASHES[place], "width": 2},
                hovertemplate=f"%{{x}} changes: %{{y}} images<extra>{name}</extra>",
            )
    if len(kinds["swapped"]):
        middle = float(np.median(kinds["swapped"]))
        figure.add_vline(
            x=middle,
            line={"color": colour(4), "width": 2, "dash": "dash"},
            annotation_text=f"median {middle:g}",
        )
    figure.update_xaxes(title_text="changed features (pixels, in grey images)", rangemode="tozero")
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
    return styled(figure, height=340), summary
