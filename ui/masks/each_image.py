"""Pictures of an attack inside a mask: image, mask, result, and the result under new transformations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core import specs
from core.figures.base import colour, styled
from core.storage import store
from ui.form import mask_choice
from ui.show import downloads, elements, gallery, provenance
from ui.show.sheet import Picture
from ui.text import interval, percent, wanted_class

VIEWS = 4
"""Fresh scenes shown for each image."""


def says(probabilities: np.ndarray, names: Sequence[str]) -> str:
    """The predicted class and its confidence in two short lines."""
    return f"{names[int(probabilities.argmax())]}\n{probabilities.max():.0%}"


def headline(result: store.Artifact, names: Sequence[str]) -> None:
    """Draw how many images were fooled, how that was counted, and how many pixels could change."""
    spec, metrics, mask = result.spec(), result.card["metrics"], result.card["mask"]
    assert isinstance(spec, specs.AttackSpec)
    table, images = result.table("images"), result.arrays("images")
    won, counted = int(table["success"].sum()), int(metrics["n"])
    toward = wanted_class(spec.target, names)
    inside = f"{mask['pixels']} pixels ({mask['share']:.0%} of the image)"
    if "trace_share" in images:
        assert isinstance(spec.attack, specs.Physical)
        share = images["trace_share"]
        how = (
            f"read as {toward} as they stand and in {spec.attack.least:.0%} or more of {spec.attack.fresh} fresh scenes"
        )
        mean = percent(pd.Series(share).mean(), 0)
    else:
        how, mean = f"read as {toward}, looked at as they stand", None
    text = f"**{won} of {len(table)}** images are {how}. Only {inside} could change."
    icon = ":material/check_circle:" if won else ":material/cancel:"
    (st.success if won == len(table) else st.warning if won else st.error)(text, icon=icon)
    columns = st.columns(4 if mean else 3)
    columns[0].metric("Fooled", f"{won} / {len(table)}")
    columns[1].metric("95 % interval", interval(metrics["low"], metrics["high"], 0) if counted else "–")
    columns[2].metric("Passes an image", f"{metrics['mean_forwards'] + metrics['mean_backwards']:.0f}")
    if mean:
        columns[3].metric("Fresh scenes that fool", mean, help="The mean over the images; none was trained on.")


def pictures(result: store.Artifact, names: Sequence[str]) -> Picture:
    """Draw a row for each image: original, mask, result, and some fresh scenes with their predictions."""
    images, mask = result.arrays("images"), result.arrays("mask")["mask"].astype(bool)
    views, view_logits = images.get("trace_views"), images.get("trace_view_logits")
    count = 0 if views is None else min(VIEWS, views.shape[1])
    tiles, captions, rows = [], [], []
    for k, x in enumerate(images["x"]):
        found = [] if views is None else [views[k, v] for v in range(count)]
        said = [] if view_logits is None else [says(gallery.softmax(view_logits[k, v]), names) for v in range(count)]
        tiles.append(
            [gallery.rgb(x), mask_choice.tinted(x, mask), gallery.rgb(images["x_adv"][k]), *map(gallery.rgb, found)]
        )
        before, after = says(images["probabilities_clean"][k], names), says(images["probabilities"][k], names)
        captions.append([before, "", after, *said])
        share = images["trace_share"][k] if "trace_share" in images else np.nan
        rows.append(f"#{int(result.table('images')['index'][k])}" + (f"\n{share:.0%}" if share == share else ""))
    tells = " Beside each row: the image's number and the share of all fresh scenes that fool." if count else ""
    return gallery.show(
        tiles,
        columns=["image", "mask", "result", *(f"scene {v + 1}" for v in range(count))],
        rows=rows,
        captions=captions,
        legend=f"Under each picture: what the model reads, and how sure it is.{tells}",
        alt=f"{len(tiles)} images, the mask on each, the result, and {count} fresh scenes of it",
        tile=84,
    )


def compare(averaged: store.Artifact, still: store.Artifact) -> None:
    """Draw for each image the share of fresh scenes that fool the model, with and without averaging."""
    figure = go.Figure()
    index = averaged.table("images")["index"]
    for place, (name, result) in enumerate((("averaged over scenes", averaged), ("still image only", still))):
        share = result.arrays("images")["trace_share"]
        mean = percent(pd.Series(share).mean(), 0)
        figure.add_bar(
            x=[f"#{k}" for k in index],
            y=share,
            name=f"{name}: {mean}",
            marker={"color": colour(place)},
            hovertemplate="%{x}: %{y:.0%} of fresh scenes<extra></extra>",
        )
    spec = averaged.spec()
    assert isinstance(spec, specs.AttackSpec)
    assert isinstance(spec.attack, specs.Physical)
    least = spec.attack.least
    figure.add_hline(y=least, line={"dash": "dot", "color": "rgba(128,140,160,.9)"})
    figure.update_yaxes(title_text="fresh scenes that fool", tickformat=".0%", range=[0, 1.02])
    figure.update_xaxes(title_text="test image", type="category")
    elements.chart(
        styled(figure, height=300, barmode="group"),
        key="masked_attack_compare_chart",
        alt="For each image the share of fresh scenes that fool, with and without averaging",
    )
    st.caption(f"The dotted line is the share that counts as a success ({least:.0%}).")


def files(page: str, result: store.Artifact, model: store.Artifact, picture: Picture) -> None:
    """Draw the line of provenance and the downloads."""
    line = f"{provenance.of(result, model)} · mask {provenance.mask_text(result)}"
    provenance.show(line)
    images = result.arrays("images")
    frame: pd.DataFrame = result.table("images").drop(columns="row")
    if "trace_share" in images:
        frame["share"] = images["trace_share"]
    with st.container(horizontal=True):
        downloads.picture(page, picture, name="masked", provenance=line)
        downloads.table(page, frame, name="masked", provenance=line)
        wanted = {"x": images["x"], "x_adv": images["x_adv"], "mask": result.arrays("mask")["mask"]}
        wanted |= {
            name.removeprefix("trace_"): images[name] for name in ("trace_views", "trace_share") if name in images
        }
        downloads.arrays(page, wanted, name="masked", provenance=line)
    with st.expander("Every image as a table"):
        st.dataframe(frame, hide_index=True, alt="A row for each image: predictions, distances, passes, share")
