"""The parts of the epsilon sweep's page that draw single attacks: curves, metrics, confidence, images at every ε."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core.figures.base import against_eps, mark
from ui.form.select import select, select_many
from ui.measure import sweep_choice, sweep_notes, sweep_views
from ui.measure.sweep_views import Curve
from ui.show import downloads, elements, gallery
from ui.text import both, grey_levels, interval, percent, sentence_case

SHOWN = 5
"""Images shown at first, as the exercise asks."""
CONFIDENCES = {
    "confidence": "all images",
    "confidence_correct": "when correct",
    "confidence_wrong": "when wrong",
}


@st.fragment
def lookup(
    page: str,
    curves: Sequence[Curve],
    chance: float | None,
    shown: Curve,
    places: Sequence[int],
    charts: dict[str, go.Figure],
) -> None:
    """Draw the ε slider and what depends on it; a move draws only this part again, from memory.

    Args:
        page: url path of the page.
        curves: the finished sweeps.
        chance: accuracy of guessing.
        shown: the curve whose images are shown.
        places: which of its kept images.
        charts: keeps the figures that were drawn: a moved slider only moves a line in them.
    """
    targeted = curves[0].sweep.target is not None
    slider, what = st.columns([3, 1.3], vertical_alignment="bottom")
    with slider:
        eps = sweep_choice.eps_slider(page, curves[0].sweep.eps)
    with what:
        metrics = {"accuracy": "Accuracy", "success_rate": "Success rate"}
        metric = select(
            page,
            "metric",
            "Curve",
            list(metrics),
            text=metrics.__getitem__,
            default="success_rate" if targeted else "accuracy",
            help="Accuracy: share of all n images still read correctly. Success rate: share of the images that were "
            "read correctly before and now are not (or, with a target, are read as the target).",
        )
    left, right = st.columns([3, 2], gap="medium")
    with left:
        overlay(page, curves, eps, metric, metrics[metric], chance, charts)
    with right:
        if places:
            pictures(page, shown, places, eps)
        else:
            st.caption("Choose at least one image.")
    st.subheader(f"The five metrics at ε = {both(eps)}", anchor=False)
    figures_at(page, curves, eps)


def overlay(
    page: str,
    curves: Sequence[Curve],
    eps: float,
    metric: str,
    title: str,
    chance: float | None,
    charts: dict[str, go.Figure],
) -> None:
    """Draw the curves with their intervals, the accuracy of guessing, and the slider's ε."""
    success = metric == "success_rate"
    if metric not in charts:
        charts[metric] = against_eps(
            {curve.name: curve.rows for curve in curves},
            value=metric,
            band=("success_low", "success_high") if success else ("low", "high"),
            chance=None if success else chance,
            marked=eps,
            title=title.lower(),
            looks=sweep_views.looks(curves),
        )
    elements.chart(
        mark(charts[metric], eps),
        key=f"{page}_curves",
        alt=f"{title} against ε: "
        + "; ".join(f"{c.name} {percent(c.at(eps)[metric], 1)} at ε = {eps:g}" for c in curves),
    )
    st.caption("Bands: exact 95 % intervals (Clopper–Pearson) for the n images. Dashed: the slider's ε.")


def says(curves: Sequence[Curve], chance: float | None) -> None:
    """Draw where the curves fall to chance, and reasons to doubt them."""
    if chance is not None and curves[0].sweep.target is None:
        st.markdown("\n".join(f"- **{c.name}** {sweep_notes.crossing(c.rows, chance)}." for c in curves))
    sweep_notes.remarks([curve.model for curve in curves], curves)


def figures_at(page: str, curves: Sequence[Curve], eps: float) -> None:
    """Draw the five metrics of each curve at one ε."""
    rows = [{"curve": curve.name, **curve.at(eps)} for curve in curves]
    frame = pd.DataFrame(rows)
    frame["interval"] = [interval(row["low"], row["high"]) for row in rows]
    sweep_views.metric_table(frame, first=("curve", "n"), key=f"{page}_metrics", alt=f"Five metrics at ε = {eps:g}")


def confidence(page: str, curves: Sequence[Curve]) -> None:
    """Draw mean confidence against ε, over all images, when correct and when wrong."""
    for column, (value, text) in zip(st.columns(3), CONFIDENCES.items(), strict=True):
        figure = against_eps(
            {curve.name: curve.rows for curve in curves},
            value=value,
            band=None,
            title="mean confidence",
            looks=sweep_views.looks(curves),
            legend=False,
            height=230,
        )
        with column:
            st.markdown(f"**{sentence_case(text)}**")
            elements.chart(
                figure.update_layout(margin={"t": 8}),
                key=f"{page}_{value}",
                alt=f"Mean confidence ({text}) against ε",
                tools=False,
            )
    st.caption(
        "Confidence is the largest softmax probability. A model that knew when it was fooled would be unsure when "
        "wrong; a curve of “when wrong” that stays high says that it is wrong and sure of it."
    )


def choose_images(page: str, curves: Sequence[Curve]) -> tuple[Curve, list[int]]:
    """Draw the choice of a curve and of its images; returns the curve and the positions of the chosen images."""
    left, right = st.columns([1, 2])
    with left:
        by_name = {curve.name: curve for curve in curves}
        curve = by_name[select(page, "curve", "Images of", list(by_name), kind="list")]
    names = curve.model.card["class_names"]
    options = [int(label) for label in curve.gallery()["y"]]
    with right:
        chosen = select_many(
            page,
            "shown",
            "Images",
            options,
            text=names.__getitem__,
            default=options[:SHOWN],
            kind="pills",
            help="The first test image of each class that the model reads correctly before any change.",
        )
    return curve, [options.index(label) for label in options if label in chosen]


def pictures(page: str, curve: Curve, places: Sequence[int], eps: float) -> None:
    """Draw original, change and result of the chosen images at one ε."""
    kept, names, columns = curve.gallery(), curve.model.card["class_names"], list(places)
    step = curve.step(eps)
    x, changed = kept["x"][columns], kept["x_adv"][step][columns]
    gain = gallery.gain_for(list(changed - x))
    clean, now = sweep_views.readings(curve, columns, eps)
    picture = gallery.show(
        [list(x), [gallery.difference(delta, gain) for delta in changed - x], list(changed)],
        rows=["original", "change", "result"],
        captions=[
            [f"{names[pred]}\n{sure:.0%}" for pred, sure in clean],
            [""] * len(columns),
            [
                f"{names[before]}→{names[after]}\n{sure:.0%}"
                for (before, _), (after, sure) in zip(clean, now, strict=True)
            ],
        ],
        legend=f"Change × {gain:g}: blue darker, red brighter. Numbers: confidence.",
        alt=f"{curve.name} at ε = {eps:g}: "
        + ", ".join(f"{names[a]} read as {names[b]}" for (a, _), (b, _) in zip(clean, now, strict=True)),
        tile=64,
    )
    downloads.picture(page, picture, name="images", provenance=f"{curve.provenance()} · shown at ε {both(eps)}")


def every_eps(page: str, curve: Curve, columns: Sequence[int]) -> None:
    """Draw the chosen images at every ε, titled as the exercise requires."""
    kept, names = curve.gallery(), curve.model.card["class_names"]
    read = [sweep_views.readings(curve, columns, eps) for eps in curve.sweep.eps]
    captions = [[f"{names[clean[k][0]]}→{names[now[k][0]]} {now[k][1]:.0%}" for clean, now in read] for k in columns]
    picture = gallery.show(
        [[kept["x_adv"][step][k] for step in range(len(curve.sweep.eps))] for k in columns],
        columns=[f"ε = {eps:.4g}" + (f"\n{grey_levels(eps)}" if eps <= 1 else "") for eps in curve.sweep.eps],
        captions=captions,
        legend="Under each image: how the original is read → how this one is read, with its confidence.",
        alt=f"{len(columns)} images at every ε, attacked by {curve.name}",
        tile=84,
    )
    downloads.picture(page, picture, name="images_every_eps", provenance=curve.provenance())
