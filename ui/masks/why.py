"""The tab that explains why a few pixels are enough, and why averaging over transformations matters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core import specs
from core.attacks.physical import mask_shapes
from core.figures.base import ATTACKED, CLEAN, UNKNOWN, styled
from core.storage import store
from ui.app import jobs, sources
from ui.masks.choice import PAGE, Chosen
from ui.show import at_once, elements, lessons
from ui.text import literal, percent


def show(chosen: Chosen) -> None:
    """Draw what the pixels under the mask can do, the comparison with no averaging, and the explanation."""
    left, right = st.columns(2)
    with left:
        st.markdown("**What the pixels under the mask can do**")
        room(chosen)
    with right:
        st.markdown("**Does averaging over transformations matter?**")
        averaging(chosen)
    lessons.masks(expanded=True)


@st.cache_data(max_entries=64, show_spinner="Differentiating …")
def reach(model_id: str, root: Path, x: np.ndarray, label: int, mask: np.ndarray) -> tuple[float, float, float, int]:
    """The margin of an image x (C, H, W), and how much of it all pixels, and those in the mask (H, W), can take away.

    To first order, towards the class that the pixels in the mask can reach most easily, which is returned as well.
    """
    import torch

    from core.attacks.sparse.jacobian import jacobian

    saved = sources.saved_model(model_id, root)
    images = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))[None]
    with torch.no_grad():
        logits = saved.model(images)[0].numpy()
    slope = jacobian(saved.model, images)[0].numpy()
    rises = slope - slope[label]
    gains = np.where(rises > 0, rises * (1 - x), -rises * x)  # the room of each pixel, the way that helps
    inside = (gains * mask).sum(axis=(1, 2, 3))
    gap = logits[label] - logits
    lead = np.where(np.arange(len(logits)) == label, -np.inf, inside - gap)
    best = int(lead.argmax())
    return float(gap[best]), float(inside[best]), float(gains[best].sum()), best


def room(chosen: Chosen) -> None:
    """Draw the margin beside what the pixels in the mask, and all pixels, can do to it, to first order."""
    cells = mask_shapes.draw(chosen.mask, *chosen.x.shape[2:])
    gap, inside, every, aim = reach(chosen.model.id, chosen.model.root, chosen.x[0], chosen.label, cells)
    bars = [
        ("margin to overcome", gap, CLEAN, ""),
        (f"{int(cells.sum())} pixels in the mask", inside, ATTACKED, "/"),
        ("all pixels", every, UNKNOWN, "x"),
    ]
    figure = go.Figure(
        go.Bar(
            y=[name for name, *_ in bars],
            x=[value for _, value, *_ in bars],
            orientation="h",
            marker={"color": [hue for _, _, hue, _ in bars], "pattern": {"shape": [shape for *_, shape in bars]}},
            text=[f"{value:.3g}" for _, value, *_ in bars],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.4g}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title_text="change of the logit margin, to first order")
    elements.chart(
        styled(figure, height=260, margin={"t": 8, "r": 40}),
        key=f"{PAGE}_room",
        alt="The margin of the image beside what the pixels in the mask, and all pixels, can do to it",
    )
    own, other = literal(chosen.names[chosen.label]), literal(chosen.names[aim])
    enough = "more than" if inside > gap else "less than"
    st.caption(
        f"Test image {chosen.indices[0]}: class {own} leads class {other} by {gap:.3g}. By the Jacobian the pixels in "
        f"the mask, each changed as far as the box [0, 1] allows, can change that by {inside:.3g}: {enough} needed."
    )


def averaging(chosen: Chosen) -> None:
    """Draw the share of new transformations that succeed, with and without averaging over transformations."""
    attack = chosen.spec.attack
    if not isinstance(attack, specs.Physical):
        st.write("This attack looks at the still image only. Choose “Glasses or patch (EOT)” to compare.")
        return
    still = chosen.spec.model_copy(update={"attack": attack.model_copy(update={"scenes": 0})})
    tasks = {"averaged over transformations": chosen.spec, "still image only": still}
    results: dict[str, store.Artifact] = {}
    for name, task in tasks.items():
        one = len(chosen.indices) == 1
        result = at_once.result(PAGE, task, name=f"why_{len(results)}") if one else sources.artifact(task)
        if result is None:
            if not one:
                jobs.offer(PAGE, task, f"Attack: {name}", name=f"compare_{len(results)}")
            return
        results[name] = result
    compare(results, attack.least)


def compare(results: dict[str, store.Artifact], least: float) -> None:
    """Draw for each image the share of new transformations that succeed, by the way that the pattern was made."""
    figure = go.Figure()
    for (name, result), hue, shape in zip(results.items(), (ATTACKED, UNKNOWN), ("", "/"), strict=True):
        share = result.arrays("images")["trace_share"]
        figure.add_bar(
            x=[f"#{k}" for k in result.table("images")["index"]],
            y=share,
            name=f"{name}: {percent(pd.Series(share).mean(), 0)}",
            marker={"color": hue, "pattern": {"shape": shape}},
            hovertemplate="%{x}: %{y:.0%} of the new transformations<extra></extra>",
        )
    figure.add_hline(y=least, line={"dash": "dot", "color": "rgba(128,140,160,.9)"})
    figure.update_yaxes(title_text="share that succeeds", tickformat=".0%", range=[0, 1.05])
    figure.update_xaxes(title_text="test image", type="category")
    legend = {"orientation": "h", "yanchor": "top", "y": -0.25, "x": 0}
    elements.chart(
        styled(figure, height=260, barmode="group", margin={"t": 8}, legend=legend),
        key=f"{PAGE}_compare_chart",
        alt="For each image the share of new transformations that succeed, with and without averaging",
    )
    st.caption(
        f"Share of the new transformations that succeed. Dotted line: the share that counts as a success ({least:.0%})."
    )
