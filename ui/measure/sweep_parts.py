"""The epsilon sweep's tabs: the chart and the table at one ε, the images, the confidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core.evaluation.tables import records
from core.figures.base import against_eps, mark
from core.figures.robustness import Line, robustness
from ui.form.select import select, select_many
from ui.measure import record_choice, record_views, sweep_notes, sweep_views
from ui.measure.measured import Measured, farthest, figures
from ui.measure.sweep_views import Curve
from ui.show import downloads, elements, gallery
from ui.text import PERCENT, both, grey_levels, in_percent, interval, percent, percent_interval, sentence_case

SHOWN = 5
"""Images shown at first, as the exercise asks."""
CONFIDENCES = {
    "confidence": "all images",
    "confidence_correct": "when correct",
    "confidence_wrong": "when wrong",
}
MOST_TICKS = 13

# ---------------------------------------------------------------- accuracy


def chart(measured: Measured, eps: float) -> None:
    """Draw measured curves and proven intervals with the slider's ε."""
    metric: Literal["accuracy", "success"] = "success" if measured.targeted else "accuracy"
    found = _lines(measured, metric) if metric not in measured.kept else []
    if metric not in measured.kept:
        shown = {} if measured.targeted else _clean(measured)
        measured.kept[metric] = (
            robustness(
                found,
                clean=shown,
                value=metric,
                chance=sweep_notes.chance_of(measured.models),
                marked=eps,
                unit=record_views.UNITS[measured.norm],
                ticks=measured.spec.eps if len(measured.spec.eps) <= MOST_TICKS else None,
                grey=measured.norm == "linf",
            )
            if found or shown
            else None
        )
    figure: go.Figure | None = measured.kept[metric]
    if figure is None:
        st.info("Nothing is known of these models with these settings yet.", icon=":material/info:")
        return
    frame = figures(measured, eps)
    elements.chart(
        mark(figure, eps),
        key=f"{measured.page}_chart",
        alt=f"Accuracy against ε, at ε = {eps:g}: "
        + "; ".join(
            f"{row['model']} "
            + ", ".join(f"{attack} {percent(row[attack], 1)}" for attack in measured.attacks)
            + f", proven {percent(row['proven'], 1)}"
            for row in frame.to_dict("records")
        ),
    )
    if measured.targeted:
        st.caption("Success: of the images of other classes that the model gets right, those classified as the target.")
        return
    st.caption(
        "Solid or dashed: measured at the marked ε, with its exact 95 % interval; straight lines only join the points. "
        "Dotted: proven for every ε. ◇: unchanged images. A gap: not known there."
    )


def _clean(measured: Measured) -> dict[str, tuple[int, float]]:
    frame = figures(measured, measured.spec.eps[0])
    return {row["model"]: (measured.place(row["id"]), row["clean"]) for row in frame.to_dict("records")}


def _lines(measured: Measured, metric: str) -> list[Line]:
    """Measured curves, and for each model what is proven, and what all attacks left if no chosen one was run."""
    column, low, high = {
        "accuracy": ("accuracy", "low", "high"),
        "success": ("success_rate", "success_low", "success_high"),
    }[metric]
    lines = [
        Line(
            model=measured.names[curve.sweep.model],
            kind="measured",
            eps=np.array([row["eps"] for row in curve.rows]),
            share=_column(curve, column),
            n=curve.rows[0]["n"],
            place=measured.place(curve.sweep.model),
            low=_column(curve, low),
            high=_column(curve, high),
            attack=curve.attack,
            style=measured.attacks.index(curve.attack),
        )
        for curve in measured.curves
    ]
    if metric == "success":
        return lines
    most = farthest(measured)
    for model, record in measured.found.items():
        table = records.curve(record, record_choice.grid([record], most))
        name, n, place = measured.names[model], len(record), measured.place(model)
        eps = table["eps"].to_numpy()
        if not measured.of(model) and table["attacked"].notna().any():
            lines.append(Line(name, "found", eps, table["attacked"].to_numpy(), n, place))
        proven = table["proven"].to_numpy(dtype=np.float64, copy=True)
        nothing = np.flatnonzero(proven == 0)
        if len(nothing):
            proven[nothing[0] + 1 :] = np.nan  # the line ends where it reaches 0
        if (proven[eps > 0] > 0).any():
            lines.append(Line(name, "proven", eps, proven, n, place))
    return lines


def _column(curve: Curve, name: str) -> np.ndarray:
    return np.array([np.nan if row[name] is None else row[name] for row in curve.rows], dtype=np.float64)


COLUMNS = {
    "clean": ("Clean", "Share of the n images that the model classifies correctly unchanged."),
    "all": (
        "All attacks",
        "Share that nothing that was run fools at this ε: the most that can be robust. –: some images were not "
        "searched at this ε, so the share is not known.",
    ),
    "proven": (
        "Proven",
        "Share for which a proof says that no change within ε can fool the model: the least that is robust. –: no "
        "proof was tried at this ε.",
    ),
}


def table(measured: Measured, eps: float) -> None:
    """Draw a row a model at this ε: clean, under each attack, under all, proven, and the checks."""
    frame = figures(measured, eps)
    shown = pd.DataFrame({"Model": frame["model"]})
    for attack in measured.attacks:
        shown[attack] = frame[attack]
        shown[f"{attack}, 95 %"] = intervals(frame, f"{attack} low", f"{attack} high")
    shown = shown.assign(
        all=frame["all"],
        proven=frame["proven"],
        clean=frame["clean"],
        trust=frame["trust"],
        between=intervals(frame, "least", "most"),
        n=frame["n"],
    )
    shares = ["clean", *measured.attacks, "all", "proven"]
    st.dataframe(
        in_percent(shown, shares),
        hide_index=True,
        placeholder="–",
        key=f"{measured.page}_table",
        alt=f"Accuracy of each model at ε = {eps:g}",
        height=elements.table_height(len(shown), 400),
        column_config={
            "Model": st.column_config.TextColumn(pinned=True),
            **{
                attack: st.column_config.NumberColumn(
                    attack, format=PERCENT, help=f"Share of the n images still classified correctly under {attack}."
                )
                for attack in measured.attacks
            },
            **{f"{attack}, 95 %": st.column_config.TextColumn("95 %") for attack in measured.attacks},
            **{
                name: st.column_config.NumberColumn(title, help=text, format=PERCENT)
                for name, (title, text) in COLUMNS.items()
            },
            "between": st.column_config.TextColumn(
                "True value (95 %)",
                help="From the lower end of Proven's exact interval to the upper end of that of All attacks, in per "
                "cent; an end that is not known is left out.",
            ),
            "trust": st.column_config.TextColumn(
                "Reliability", help="Verdict of the checks of an evaluation at this ε on these images."
            ),
            "n": st.column_config.NumberColumn("n", format="localized", help="Images."),
        },
    )
    record_views.not_known(frame)
    _other_images(frame)


def intervals(frame: pd.DataFrame, low: str, high: str) -> list[str]:
    """The intervals between two columns, in per cent; an end that is not known is left out."""
    return [percent_interval(one, other) for one, other in zip(frame[low], frame[high], strict=True)]


def _other_images(frame: pd.DataFrame) -> None:
    """Say where attacks and proofs were run on different numbers of images."""
    other = frame[(frame["images"] > 0) & (frame["images"] != frame["n"])]
    for row in other.to_dict("records"):
        st.caption(
            f"{row['model']}: “All attacks” and “Proven” are about {row['images']:,} images, the attacks on their own "
            f"about {row['n']:,}."
        )


# ---------------------------------------------------------------- images


def images(measured: Measured, eps: float) -> None:
    """Draw the chosen images of one curve: at this ε with the change, and at every ε."""
    if not measured.curves:
        st.info("No attack was run with these settings yet, so there are no adversarial examples.")
        return
    page = measured.page
    curve, places = choose_images(page, measured.curves)
    if not places:
        st.caption("Choose at least one image.")
        return
    if curve.has(eps):
        st.markdown(f"**At ε = {both(eps)}**")
        pictures(page, curve, places, eps)
    else:
        st.info(f"{curve.name} was not run at ε = {both(eps)}, so there are no images of it.", icon=":material/info:")
    st.markdown("**The same images at every ε**")
    every_eps(page, curve, places)


def choose_images(page: str, curves: Sequence[Curve]) -> tuple[Curve, list[int]]:
    """Draw the choice of a curve and of its images; returns the curve and the positions of the chosen images."""
    left, right = st.columns([1, 1])
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
            help="The first test image of each class that the model classifies correctly before any change.",
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
        legend=f"Change × {gain:g}: blue darker, red brighter. orig→adv: how the original and the result are "
        "classified, with the confidence.",
        alt=f"{curve.name} at ε = {eps:g}: "
        + ", ".join(f"{names[a]} classified as {names[b]}" for (a, _), (b, _) in zip(clean, now, strict=True)),
        tile=84,
    )
    downloads.picture(page, picture, name="images", provenance=f"{curve.provenance()} · shown at ε {both(eps)}")


def every_eps(page: str, curve: Curve, columns: Sequence[int]) -> None:
    """Draw the chosen images at every ε, titled as the exercise requires."""
    kept, names = curve.gallery(), curve.model.card["class_names"]
    read = [sweep_views.readings(curve, columns, eps) for eps in curve.sweep.eps]
    captions = [[f"{names[clean[k][0]]}→{names[now[k][0]]} {now[k][1]:.0%}" for clean, now in read] for k in columns]
    grey = max(curve.sweep.eps) <= 1
    picture = gallery.show(
        [[kept["x_adv"][step][k] for step in range(len(curve.sweep.eps))] for k in columns],
        columns=[f"ε = {eps:.4g}" + (f"\n{grey_levels(eps)}" if grey else "") for eps in curve.sweep.eps],
        captions=captions,
        legend="orig→adv: how the original is classified → how this image is classified, with its confidence.",
        alt=f"{len(columns)} images at every ε, attacked by {curve.name}",
        tile=84,
    )
    downloads.picture(page, picture, name="images_every_eps", provenance=curve.provenance())


# ---------------------------------------------------------------- confidence


def confidence(measured: Measured, eps: float) -> None:
    """Draw mean confidence against ε (of all images, when correct, when wrong), and the five metrics at this ε."""
    curves = measured.curves
    if not curves:
        st.info("No attack was run with these settings yet.", icon=":material/info:")
        return
    if "confidence" not in measured.kept:
        measured.kept["confidence"] = {
            value: against_eps(
                {curve.name: curve.rows for curve in curves},
                value=value,
                band=None,
                title="mean confidence",
                marked=eps,
                looks=sweep_views.looks(curves, list(measured.names)),
                legend=place == 0,
                height=300 if place == 0 else 230,
            ).update_layout(margin={"t": 8})
            for place, value in enumerate(CONFIDENCES)
        }
    figures_of: dict[str, go.Figure] = measured.kept["confidence"]
    first, *rest = CONFIDENCES.items()
    _one_confidence(measured, figures_of, *first, eps)
    for column, (value, text) in zip(st.columns(2), rest, strict=True):
        with column:
            _one_confidence(measured, figures_of, value, text, eps)
    st.caption(
        "Confidence is the largest softmax probability. A model that knew when it was fooled would be unsure when "
        "wrong; a curve of “when wrong” that stays high says that it is wrong and sure of it."
    )
    st.markdown(f"**The five metrics at ε = {both(eps)}**")
    metrics_at(measured, eps)


def _one_confidence(measured: Measured, made: dict[str, go.Figure], value: str, text: str, eps: float) -> None:
    st.markdown(f"**Mean confidence, {text}**" if value == "confidence" else f"**{sentence_case(text)}**")
    elements.chart(
        mark(made[value], eps),
        key=f"{measured.page}_{value}",
        alt=f"Mean confidence ({text}) against ε",
        tools=False,
    )


def metrics_at(measured: Measured, eps: float) -> None:
    """Draw the five metrics of each curve at one ε; a curve that was not run there has a row of dashes."""
    rows = [{"curve": curve.name, **(curve.at(eps) if curve.has(eps) else _blank(curve))} for curve in measured.curves]
    frame = pd.DataFrame(rows)
    frame["interval"] = [interval(row["low"], row["high"]) for row in rows]
    alt = f"Five metrics at ε = {eps:g}"
    sweep_views.metric_table(frame, first=("curve", "n"), key=f"{measured.page}_metrics", alt=alt)


def _blank(curve: Curve) -> dict[str, float | None]:
    return {name: curve.rows[0]["n"] if name == "n" else None for name in curve.rows[0]}
