"""The tab on one pattern for many images, evaluated on test images that it was not made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from core import specs
from core.storage import store
from ui.app import jobs
from ui.form import controls
from ui.masks import each_image
from ui.show import downloads, gallery, provenance
from ui.text import ANY_CLASS, interval, wanted_class

ROWS = 6
"""Images shown."""
EFFORT = ("n", "held_out", "epochs", "minibatch", "fresh", "least")


def section(page: str, model: store.Artifact, mask: specs.AnyMask, scene: Sequence[str], usual: dict[str, Any]) -> None:
    """Draw the form, the job and the result.

    Args:
        page: url path of the page.
        model: whose images wear it.
        mask: the object.
        scene: fields that say what varies.
        usual: their defaults, where the fields' own do not fit the images.
    """
    names = list(model.card["class_names"])
    st.write(
        "One pattern, made from training images, that fools whichever image wears it: counted on test images "
        "that it was not made from, in fresh scenes, beside random noise on the same object."
    )
    with st.form(f"{page}_many_form"):
        target = controls.a_class(page, names, name="many_target", label="Target class", extra=ANY_CLASS, default="any")
        st.markdown("**Scenes:** how much the object and the light may vary")
        values = controls.fields(page, specs.PatternSpec, scene, columns=5, defaults=usual, prefix="many_")
        with st.expander("Images and effort"):
            values |= controls.fields(page, specs.PatternSpec, EFFORT, prefix="many_")
        asked = st.form_submit_button("Make one pattern", type="primary", icon=":material/play_arrow:")
    spec = controls.build(specs.PatternSpec, model=model.id, mask=mask, target=target, **values)
    if spec is None:
        return
    empty = "No pattern for these settings yet: make one."
    result = jobs.result(page, spec, asked=asked, empty=empty, icon=":material/play_arrow:")
    if result is not None:
        show(page, spec, result, model)


def show(page: str, spec: specs.PatternSpec, result: store.Artifact, model: store.Artifact) -> None:
    """Draw the fooling rate with its interval beside that of noise, the pattern, and images with it."""
    names, metrics = result.card["class_names"], result.card["metrics"]
    toward = wanted_class(spec.target, names)
    won = round(metrics["fooling_rate"] * metrics["n"])
    better = metrics["low"] > metrics["noise_rate"]
    (st.success if better else st.warning)(
        f"**{won} of {metrics['n']}** test images that wear it are read as {toward}, as they stand and in "
        f"{spec.least:.0%} or more of {spec.fresh} fresh scenes. "
        f"It was made from {metrics['fit_n']:,} training images.",
        icon=":material/check_circle:" if better else ":material/contrast:",
    )
    columns = st.columns(4)
    columns[0].metric("Fooled", f"{metrics['fooling_rate']:.0%}")
    columns[1].metric("95 % interval", interval(metrics["low"], metrics["high"], 0))
    columns[2].metric("Fresh scenes that fool", f"{metrics['mean_share']:.0%}")
    columns[3].metric(
        "Noise fools", f"{metrics['noise_share']:.0%}", help="Of the fresh scenes, worn by the same images."
    )

    stored, held = result.arrays("pattern"), result.arrays("held_out")
    mask = stored["mask"].astype(bool)
    left, right = st.columns([1, 4])
    with left:
        gallery.show(
            [[on_grey(stored["pattern"], mask)], [on_grey(stored["noise"], mask)]],
            rows=["pattern", "noise"],
            alt="The pattern and the noise that it is compared with, each on its object",
            tile=112,
        )
    shown = min(ROWS, len(held["x"]))
    count = min(each_image.VIEWS, held["views"].shape[1])
    share = result.table("held_out")["share"]
    logits = held["view_logits"]
    with right:
        picture = gallery.show(
            [[held["x"][k], held["x_adv"][k], *held["views"][k, :count]] for k in range(shown)],
            columns=["image", "wears it", *(f"scene {v + 1}" for v in range(count))],
            rows=[f"#{int(held['index'][k])}\n{share[k]:.0%}" for k in range(shown)],
            captions=[
                [
                    names[int(held["y"][k])],
                    names[int(result.table("held_out")["pred"][k])],
                    *(each_image.says(gallery.softmax(logits[k, v]), names) for v in range(count)),
                ]
                for k in range(shown)
            ],
            legend="Under each picture: what the model reads. Beside each row: the share of fresh scenes that fool.",
            alt=f"{shown} test images, each with the pattern, and {count} fresh scenes of it",
            tile=84,
        )
    line = f"{provenance.of(result, model)} · {spec.mask.shape}, {int(mask.sum())} pixels"
    provenance.show(line)
    with st.container(horizontal=True):
        downloads.picture(page, picture, name="pattern", provenance=line)
        downloads.table(page, result.table("held_out"), name="pattern", provenance=line)
        wanted = {name: stored[name] for name in ("pattern", "noise", "mask")}
        downloads.arrays(page, wanted, name="pattern", provenance=line)


def on_grey(pattern: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A pattern (C, H, W) on its object, the rest a flat grey: (H, W, 3) uint8."""
    picture = gallery.rgb(pattern).copy()
    picture[~mask] = 128
    return picture
