"""A universal perturbation: the verdict, the rates as a chart, its picture, images before and after."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core import specs
from core.evaluation.tables.metrics import clopper_pearson
from core.figures.base import ATTACKED, UNKNOWN, styled
from core.storage import store
from ui.app import sources
from ui.show import elements, gallery, lessons, provenance
from ui.show.sheet import Picture
from ui.text import both, class_text, counted, grey_levels, literal
from ui.universal import choice
from ui.universal.choice import PAGE, Chosen

SHOWN = 10
"""Images in a row."""


def show(chosen: Chosen) -> None:
    """Draw the verdict, the perturbation beside its rates, and some images before and after."""
    result = choice.result(chosen)
    if result is None:
        return
    spec = result.spec()
    assert isinstance(spec, specs.UniversalSpec)
    asked = spec == chosen.spec
    headline(result.card, spec, chosen.names, result.table("made_from"), judged=asked)
    left, right = st.columns([2, 5])
    with left:
        perturbation(result)
    with right:
        elements.chart(
            rates(result.card, spec),
            key=f"{PAGE}_rates",
            alt="Share of images fooled: those that it was made from, new ones, and new ones with random noise",
        )
    before_and_after(result, "held_out", chosen.names)
    numbers(result.card)
    provenance.show(source_line(result, chosen.model), here=asked)
    lessons.universal()


def source_line(result: store.Artifact, model: store.Artifact) -> str:
    """The provenance of a perturbation, with its mask."""
    spec = result.spec()
    assert isinstance(spec, specs.UniversalSpec)
    line = provenance.of(result, model)
    return line if spec.mask is None else f"{line} · mask {provenance.mask_text(result)}"


def headline(
    card: dict[str, Any], spec: specs.UniversalSpec, names: list[str], made: pd.DataFrame, *, judged: bool = True
) -> None:
    """Draw the verdict on what was asked for, and what it does to new images; plainly where it was not `judged`.

    The linear programme is asked to fool all images of the set; gradient steps and UAP, to fool new ones more often
    than noise of the same size does.
    """
    metrics = card["metrics"]
    new = (
        f"{metrics['fooling_rate']:.1%} of {metrics['n']:,} new test images (95 % interval {metrics['low']:.1%} to "
        f"{metrics['high']:.1%})"
    )
    noise = f"random noise of this size: {metrics['noise_rate']:.1%}"
    if spec.method.name == "lp":
        won, count = int(made["success"].sum()), len(made)
        of_set = f"all {count} of the images" if won == count else f"{won} of the {counted(count, 'image')}"
        verdict, text = f"It fools {of_set} that it was made for.", f"It also fools {new}; {noise}."
        state = "success" if won == count else "partly" if won else "failure"
    else:
        reads = "another class" if spec.target == "any" else f"class {literal(class_text(int(spec.target), names))}"
        text = f"It makes the model classify {new} as {reads}; {noise}."
        verdict, state = "It fools some new images.", "partly"
        if metrics["low"] <= metrics["noise_rate"]:
            verdict, state = "It fools new images no more often than noise.", "failure"
        elif metrics["fooling_rate"] >= 0.5:
            verdict, state = "It fools most new images.", "success"
    if not judged:
        st.markdown(text)
    elif state == "success":
        st.success(f"**{verdict}** {text}", icon=":material/check_circle:")
    elif state == "partly":
        st.warning(f"**{verdict}** {text}", icon=":material/contrast:")
    else:
        st.error(f"**{verdict}** {text}", icon=":material/cancel:")


def rates(card: dict[str, Any], spec: specs.UniversalSpec) -> go.Figure:
    """The share of images fooled: those that it was made from, new ones, and new ones with noise; 95 % intervals."""
    metrics = card["metrics"]
    rows = [
        ("made from", metrics["fit_rate"], metrics["fit_n"], ATTACKED, "/"),
        ("new images", metrics["fooling_rate"], metrics["n"], ATTACKED, ""),
        ("new images, noise", metrics["noise_rate"], metrics["n"], UNKNOWN, "x"),
    ]
    ends = [clopper_pearson(round(rate * n), n) for _, rate, n, *_ in rows]
    figure = go.Figure(
        go.Bar(
            y=[f"{name}<br>(n = {n:,})" for name, _, n, *_ in rows],
            x=[rate for _, rate, *_ in rows],
            orientation="h",
            marker={"color": [hue for *_, hue, _ in rows], "pattern": {"shape": [shape for *_, shape in rows]}},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [high - rate for (_, rate, *_), (_, high) in zip(rows, ends, strict=True)],
                "arrayminus": [rate - low for (_, rate, *_), (low, _) in zip(rows, ends, strict=True)],
                "color": "rgba(128,140,160,.9)",
            },
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    )
    for (name, rate, n, *_), (_, high) in zip(rows, ends, strict=True):
        figure.add_annotation(
            x=min(1.0, high), y=f"{name}<br>(n = {n:,})", text=f"{rate:.1%}", showarrow=False, xanchor="left", xshift=6
        )
    figure.update_yaxes(autorange="reversed")
    wanted = "as another class" if spec.target == "any" else "as the target class"
    figure.update_xaxes(title_text=f"share of images classified {wanted}", tickformat=".0%", range=[0, 1.12])
    return styled(figure, height=250, margin={"t": 8}, showlegend=False)


def perturbation(result: store.Artifact) -> Picture:
    """Draw the perturbation with its gain; returns the picture."""
    delta = result.arrays("perturbation")["delta"]
    gain = gallery.gain_for([delta])
    largest = float(np.abs(delta).max())
    return gallery.show(
        [[gallery.difference(delta, gain)]],
        columns=[f"the perturbation × {gain:g}"],
        captions=[[f"at most {both(largest)} a pixel"]],
        alt="The perturbation: red makes a pixel brighter, blue darker",
        legend="Blue is darker, red is brighter.",
        tile=196,
    )


def numbers(card: dict[str, Any]) -> None:
    """Draw the figures, each with its n."""
    metrics = card["metrics"]
    passes = metrics["mean_forwards"] + metrics["mean_backwards"]
    with st.grid(5, min_column_width=130):
        st.metric("Fooled, held out", f"{metrics['fooling_rate']:.1%}", help=f"Of {metrics['n']:,} test images.")
        st.metric(
            "Fooled, made from",
            f"{metrics['fit_rate']:.1%}",
            help=f"Of the {metrics['fit_n']:,} training images that it was made from. It says little about new ones.",
        )
        st.metric("Noise of that size", f"{metrics['noise_rate']:.1%}", help="The control, on the held-out images.")
        st.metric(
            "Size, ℓ∞",
            f"{metrics['linf']:.3g}",
            help=f"{grey_levels(metrics['linf'])}; ℓ2 {metrics['l2']:.3g}, ℓ1 {metrics['l1']:.4g}, before "
            "images are clipped to [0, 1].",
        )
        st.metric(
            "Evaluations per image",
            f"{passes:,.0f}",
            help="Model evaluations, forward and backward passes, per image that it was made from; "
            f"{metrics['seconds']:.3g} s in all.",
        )


def before_and_after(result: store.Artifact, part: str, names: list[str], *, count: int = SHOWN) -> Picture:
    """Draw two rows, images of a part (`held_out`, `made_from`) before and after the change; returns the picture."""
    pictures, table = result.arrays(part), result.table(part)
    count = min(count, len(pictures["x"]))
    rows = table.head(count)
    what = "New test images" if part == "held_out" else "Images that it was made from"
    return gallery.show(
        [list(pictures["x"][:count]), list(pictures["x_adv"][:count].clip(0, 1))],
        rows=["before", "after"],
        captions=[
            [names[y] for y in rows["y"]],
            [
                f"{names[pred]}\n{confidence:.0%}{' ✓' if won else ''}"
                for pred, confidence, won in zip(rows["pred"], rows["confidence"], rows["success"], strict=True)
            ],
        ],
        legend=f"{what}. Below each: its class, and the class that the model answers with its probability; ✓ marks "
        "those that are fooled.",
        alt=f"{what} before and after the same change",
    )


def linear(model: store.Artifact, names: list[str], spec: specs.UniversalSpec) -> bool:
    """Whether the programme's rows are the whole truth, so that its bound is a proof."""
    own = sources.model_spec(model)
    is_linear = isinstance(own, specs.TrainSpec) and own.network == "linear"
    return is_linear and (len(names) == 2 or spec.target != "any")
