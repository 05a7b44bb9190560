"""The tab on the linear programme: the smallest ε for a set of images, its lower bound, or why there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core import specs
from core.figures.base import ATTACKED, PROVEN, UNKNOWN, styled
from core.storage import store
from ui.app import jobs, sources
from ui.form import controls
from ui.show import elements, gallery, provenance
from ui.text import both, literal
from ui.universal import views
from ui.universal.choice import PAGE, Chosen

NAMED = 6
"""Images that an explanation names."""


def show(chosen: Chosen) -> None:
    """Draw what the programme found and proved, or the button that solves it."""
    spec = programme(chosen)
    if spec is None:
        return
    st.write(
        "The question of the linear programme: what is the smallest ε with which *one* perturbation fools every image "
        "of a set S? It gives the perturbation and a lower bound, or the images that contradict each other."
    )
    result = sources.artifact(spec)
    if result is None:
        if jobs.idle(PAGE, spec):
            text = f"Solve it for {spec.n} images"
            if st.button(text, type="primary", icon=":material/play_arrow:", key=f"{PAGE}_solve"):
                jobs.start(spec)
        return
    made, pictures = result.table("made_from"), result.arrays("made_from")
    views.headline(result.card, spec, chosen.names, made)
    left, right = st.columns([2, 5])
    with left:
        views.perturbation(result)
    with right:
        elements.chart(
            interval(result, views.linear(chosen.model, chosen.names, spec)),
            key=f"{PAGE}_bound",
            alt="The smallest ε: the lower bound and the perturbation that was found",
        )
        exact = views.linear(chosen.model, chosen.names, spec)
        for sentence in explain(result.card, made, chosen.names, exact=exact):
            st.markdown(f"- {sentence}")
    witnesses(result.card, made, pictures, chosen.names)
    views.before_and_after(result, "made_from", chosen.names)
    provenance.show(views.source_line(result, chosen.model))


def programme(chosen: Chosen) -> specs.UniversalSpec | None:
    """The task of the programme: the chosen one, or for another method that of the same classes and target."""
    if chosen.spec.method.name == "lp":
        return chosen.spec
    known = chosen.spec
    return controls.build(
        specs.UniversalSpec,
        model=known.model,
        data=known.data,
        method="lp",
        held_out=known.held_out,
        source=known.source,
        target=known.target,
        mask=known.mask,
        seed=known.seed,
    )


def interval(result: store.Artifact, exact: bool) -> go.Figure:
    """The lower bound and the size of what was found, as two bars on the same scale; a dash where there is none."""
    lp, size = result.card["lp"], float(result.card["metrics"]["linf"])
    table = result.table("made_from")
    every = bool(table["success"].all())
    bound = None if lp["contradiction"] or lp["bound"] is None else float(lp["bound"])
    rows = [
        ("lower bound, proven" if exact else "lower bound, to first order", bound, PROVEN if exact else UNKNOWN, "x"),
        ("found, fools all" if every else f"found, fools {int(table['success'].sum())}", size, ATTACKED, ""),
    ]
    figure = go.Figure(
        go.Bar(
            y=[name for name, *_ in rows],
            x=[np.nan if value is None else value for _, value, *_ in rows],
            orientation="h",
            marker={"color": [hue for _, _, hue, _ in rows], "pattern": {"shape": [shape for *_, shape in rows]}},
            text=["" if value is None else both(value) for _, value, *_ in rows],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.4g}<extra></extra>",
        )
    )
    if bound is None:
        figure.add_annotation(x=0, y=rows[0][0], text="–", showarrow=False, xanchor="left")
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title_text="ε, change of a pixel, in [0, 1]", range=[0, 1.4 * max(size, bound or 0, 1e-6)])
    return styled(figure, height=170, margin={"t": 8}, showlegend=False)


def witnesses(card: dict[str, Any], made: pd.DataFrame, pictures: dict[str, np.ndarray], names: list[str]) -> None:
    """Draw the images that the bound, or the contradiction, rests on."""
    heaviest = made["weight"].to_numpy().argsort()[::-1][:NAMED]
    order = [k for k in heaviest if made["weight"].iloc[k] > 1e-6 and k < len(pictures["x"])]
    if not order:
        return
    gallery.show(
        [[pictures["x"][k] for k in order]],
        captions=[
            [f"#{made['index'].iloc[k]} ({names[made['y'].iloc[k]]})\n{made['weight'].iloc[k]:.0%}" for k in order]
        ],
        legend="The images that contradict each other, with their weights."
        if card["lp"]["contradiction"]
        else "The images that the bound rests on, with their weights: the hardest to fool together.",
        alt="The images with the largest weights in the proof",
    )


def explain(card: dict[str, Any], made: pd.DataFrame, names: list[str], *, exact: bool) -> list[str]:
    """Sentences on a programme's result.

    Args:
        card: the artifact's.
        made: the table of the set S.
        names: of the classes.
        exact: whether the logits are linear and the rows the whole truth, so that the bound is a proof.
    """
    lp, metrics, count = card["lp"], card["metrics"], len(made)
    images = f"all {count} images" if count > 1 else "the image"
    said = []
    won = int(made["success"].sum())
    size = both(metrics["linf"])
    if lp["contradiction"]:
        who = made[made["weight"] > 1e-6].sort_values("weight", ascending=False).head(NAMED)
        named = ", ".join(f"#{index} ({literal(names[y])})" for index, y in zip(who["index"], who["y"], strict=True))
        said.append(
            f"{'No' if exact else 'To first order no'} change s at all fools {images} without clipping. The rows of "
            f"{named}, added with the weights below, leave nothing (or too little) that s could move, and yet their "
            "sum is required to be positive: what one image needs brighter, another needs darker (Farkas)."
        )
    else:
        agree = f"(the dual weights below; the programme's own optimum is {lp['first']:.4g}: primal and dual agree)"
        said.append(
            f"No ε below **{lp['bound']:.4g}** is enough {agree}. The model is linear, so that is proven."
            if exact
            else f"To first order at the images no ε below **{lp['bound']:.4g}** is enough {agree}. The model is "
            "curved, so that is an estimate and no proof: a smaller one may exist."
        )
    if won == count and lp["stage"] == 1:
        said.append(
            f"Found: ε = **{size}** fools {images}"
            + (
                ", and every one stays in [0, 1] without clipping."
                if card["clip"]
                else ". Nothing keeps the sums in [0, 1]: these are points of the plane, not all valid images."
            )
        )
    elif won == count:
        said.append(
            f"With clipping there is one: ε = **{size}** fools {images} when each sum is cut to [0, 1]. Clipping takes "
            "the change away where an image is black or white already, so each image feels a change of its own."
        )
    else:
        said.append(f"The best found fools {won} of {count} images, at ε = {size}.")
    return said
