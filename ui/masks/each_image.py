"""The tab on one image, or a few: image, mask, result, and the result under new transformations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.storage import store
from ui.app import jobs, sources
from ui.form import mask_choice
from ui.masks.choice import PAGE, Chosen
from ui.show import at_once, gallery, provenance
from ui.show.sheet import Picture
from ui.text import counted, literal, percent, wanted_class

VIEWS = 4
"""New transformations shown for each image."""
OBJECTS = {"eyeglasses": "these glasses", "patch": "this sticker", "cells": "this drawing"}


def show(chosen: Chosen) -> None:
    """Draw the verdict, the pictures, and the probabilities of one image or a table of several."""
    result = made(chosen)
    if result is None:
        return
    verdict(result, chosen)
    pictures(result, chosen.names)
    if len(chosen.indices) == 1:
        one_in_detail(result, chosen.names)
    else:
        st.dataframe(rows(result), hide_index=True, alt="A row for each image: predictions, distances, cost, share")
    provenance.show(source_line(result, chosen.model))


def made(chosen: Chosen) -> store.Artifact | None:
    """The result: of one image at once, of several by a job; where there is none, what can be done is drawn."""
    if len(chosen.indices) == 1:
        return at_once.result(PAGE, chosen.spec)
    found = sources.artifact(chosen.spec)
    if found is None:
        mask = mask_choice.tint_of(chosen.mask, chosen.x[0])
        if jobs.idle(PAGE, chosen.spec):
            text = f"Attack {counted(len(chosen.indices), 'image')}"
            if st.button(text, type="primary", icon=":material/play_arrow:", key=f"{PAGE}_run"):
                jobs.start(chosen.spec)
        gallery.show([[*chosen.x[:6]], [mask]], alt="The images that will be attacked, and the mask", tile=112)
    return found


def source_line(result: store.Artifact, model: store.Artifact) -> str:
    """The provenance of an attack inside a mask."""
    return f"{provenance.of(result, model)} · mask {provenance.mask_text(result)}"


def says(probabilities: np.ndarray, names: Sequence[str]) -> str:
    """The predicted class and its probability in two short lines."""
    return f"{names[int(probabilities.argmax())]}\n{probabilities.max():.0%}"


def verdict(result: store.Artifact, chosen: Chosen) -> None:
    """Draw how many images were fooled, how that was counted, and how many pixels could change."""
    spec, names, mask = chosen.spec, chosen.names, result.card["mask"]
    table, images = result.table("images"), result.arrays("images")
    won, inside = int(table["success"].sum()), f"Only {mask['pixels']} of {chosen.x[0, 0].size:,} pixels could change"
    shares = images.get("trace_share")
    if len(table) == 1:
        text = one_sentence(table.iloc[0], spec, names, None if shares is None else float(shares[0]))
    else:
        toward = wanted_class(spec.target, names)
        text = f"{won} of {len(table)} images are classified as {toward}"
        if shares is not None:
            assert isinstance(spec.attack, specs.Physical)
            text += f", as they are and in {spec.attack.least:.0%} or more of {spec.attack.fresh} new transformations"
    icon = ":material/check_circle:" if won == len(table) else ":material/contrast:" if won else ":material/cancel:"
    box = st.success if won == len(table) else st.warning if won else st.error
    box(f"**{text}.** {inside} ({mask['share']:.0%}).", icon=icon)


def one_sentence(found: pd.Series, spec: specs.AttackSpec, names: Sequence[str], share: float | None) -> str:
    """What the model answers for one image with the pattern, as it is and under new transformations."""
    own, after = literal(names[int(found["y"])]), literal(names[int(found["pred"])])
    still = "still " if own == after else ""
    text = f"With {OBJECTS[spec.mask.shape if spec.mask else 'cells']} the {own} is {still}classified as {after}"
    text += f" with {found['confidence']:.0%} confidence"
    if share is not None and share == share:
        assert isinstance(spec.attack, specs.Physical)
        toward = wanted_class(spec.target, names)
        text += f"; in {share:.0%} of {spec.attack.fresh} new transformations it is classified as {toward}"
    return text


def pictures(result: store.Artifact, names: Sequence[str]) -> Picture:
    """Draw a row for each image: original, mask, result, and some new transformations with their predictions."""
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
    several = len(tiles) > 1
    tells = " Beside each row: the image's number and the share of all new transformations that succeed."
    return gallery.show(
        tiles,
        columns=["image", "mask", "result", *(f"moved {v + 1}" for v in range(count))],
        rows=rows if several else None,
        captions=captions,
        legend="Under each picture: the class that the model answers, and its probability. Moved: new shifts, light "
        f"and printing noise that the attack has not seen.{tells if several and count else ''}"
        if count
        else "Under each picture: the class that the model answers, and its probability.",
        alt=f"{counted(len(tiles), 'image')}, the mask, the result, and {count} new transformations of it",
        tile=84 if several else 112,
    )


def one_in_detail(result: store.Artifact, names: Sequence[str]) -> None:
    """Draw the probabilities before and after, and the figures of one image."""
    arrays, found = result.arrays("images"), result.table("images").iloc[0]
    columns = st.columns([1, 1, 1.2])
    for column, title, values in (
        (columns[0], "before", arrays["probabilities_clean"][0]),
        (columns[1], "after", arrays["probabilities"][0]),
    ):
        with column:
            st.markdown(f"**Probabilities {title}**")
            alt = f"Probabilities of the classes {title} the attack"
            gallery.probabilities(values, names, alt=alt, marked=int(found["y"]))
    with columns[2]:
        if "trace_share" in arrays:
            st.metric(
                "New transformations that succeed",
                percent(float(arrays["trace_share"][0]), 0),
                help="The attack was not made from them.",
            )
        st.metric(
            "Model evaluations",
            f"{found['forwards'] + found['backwards']:,.0f}",
            help="Forward and backward passes of the attack.",
        )
        st.metric("Distance ℓ2", f"{found['l2']:.3g}", help=f"ℓ∞ {found['linf']:.3g}, ℓ1 {found['l1']:.3g}.")


def rows(result: store.Artifact) -> pd.DataFrame:
    """A row for each image: predictions, distances, cost and share."""
    frame: pd.DataFrame = result.table("images").drop(columns="row")
    images = result.arrays("images")
    return frame.assign(share=images["trace_share"]) if "trace_share" in images else frame
