"""The tab on one pattern for many images, evaluated on test images that it was not made from."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from core import specs
from core.figures.base import ATTACKED, UNKNOWN, styled
from core.storage import store
from ui.app import jobs, sources
from ui.form import controls
from ui.masks import each_image
from ui.masks.choice import PAGE, SCENE, Chosen, usual
from ui.show import downloads, elements, gallery, provenance
from ui.show.sheet import Picture
from ui.text import ANY_CLASS, interval, wanted_class

ROWS = 5
"""Images shown."""
EFFORT = ("n", "held_out", "epochs", "minibatch", "fresh", "least")
_TASK = f"{PAGE}_many_task"


def show(chosen: Chosen) -> None:
    """Draw the settings, and the result or the button that makes it."""
    spec = settings(chosen)
    st.session_state[_TASK] = spec
    if spec is None:
        return
    found = sources.artifact(spec)
    if found is not None:
        draw(spec, found, chosen.model)
        return
    if jobs.idle(PAGE, spec):
        st.write(
            "Make one pattern from training images that fools the model whichever image wears it. It is measured on "
            "test images that it was not made from, beside random noise on the same object."
        )
        text = f"Make one pattern from {spec.n:,} images"
        if st.button(text, type="primary", icon=":material/play_arrow:", key=f"{PAGE}_many_run"):
            jobs.start(spec)
        other = stored(chosen)
        if other is not None:
            st.info("Not made yet for these settings. Below: another pattern of this model.", icon=":material/info:")
            known = other.spec()
            assert isinstance(known, specs.PatternSpec)
            draw(known, other, chosen.model, here=False)


def stored(chosen: Chosen) -> store.Artifact | None:
    """The newest stored pattern of the model on the same images, whatever its settings."""
    return next(iter(sources.results(chosen.model.id, "pattern", data=chosen.data)), None)


def settings(chosen: Chosen) -> specs.PatternSpec | None:
    """Draw the settings; returns the task."""
    cls, start = specs.PatternSpec, usual(chosen.x.shape[3])
    with st.expander("More settings of the one pattern", icon=":material/tune:"):
        target = controls.a_class(
            PAGE,
            chosen.names,
            name="many_target",
            label="Target class",
            extra=ANY_CLASS,
            default="any",
            slider=False,
            help="Of all the images, whatever their class.",
        )
        st.markdown("**Transformations:** how much the object and the light may vary")
        values: dict[str, Any] = controls.fields(PAGE, cls, SCENE, columns=5, defaults=start, prefix="many_")
        values |= controls.fields(PAGE, cls, EFFORT, prefix="many_")
    return controls.build(cls, model=chosen.model.id, data=chosen.data, mask=chosen.mask, target=target, **values)


def task_as_set(chosen: Chosen) -> specs.PatternSpec | None:
    """The task whose settings were last on show, for this model and mask; at first with the defaults."""
    held = st.session_state.get(_TASK)
    if isinstance(held, specs.PatternSpec):
        same = {"model": chosen.model.id, "data": chosen.data, "mask": chosen.mask}
        return held.model_copy(update=same)
    return controls.build(
        specs.PatternSpec, model=chosen.model.id, data=chosen.data, mask=chosen.mask, **usual(chosen.x.shape[3])
    )


def draw(spec: specs.PatternSpec, result: store.Artifact, model: store.Artifact, *, here: bool = True) -> None:
    """Draw the verdict, the rates as a chart, the pattern, and images that wear it; `here`: as the address says."""
    verdict(spec, result)
    left, middle, right = st.columns([1.1, 1.3, 3])
    with left:
        stored, mask = result.arrays("pattern"), result.arrays("pattern")["mask"].astype(bool)
        gallery.show(
            [[on_grey(stored["pattern"], mask)], [on_grey(stored["noise"], mask)]],
            rows=["pattern", "noise"],
            alt="The pattern and the noise that it is compared with, each on its object",
            tile=112,
        )
    with middle:
        elements.chart(
            rates(result), key=f"{PAGE}_pattern_rates", alt="New transformations that succeed: pattern and noise"
        )
    with right:
        pictures(result)
    provenance.show(source_line(spec, result, model), here=here)


def verdict(spec: specs.PatternSpec, result: store.Artifact) -> None:
    """Draw how many test images are fooled, beside noise."""
    metrics = result.card["metrics"]
    toward = wanted_class(spec.target, result.card["class_names"])
    won = round(metrics["fooling_rate"] * metrics["n"])
    better = metrics["low"] > metrics["noise_rate"]
    (st.success if better else st.warning)(
        f"**{won} of {metrics['n']} new test images that wear it are classified as {toward}** (95 % interval "
        f"{interval(metrics['low'], metrics['high'], 0)}), as they are and in {spec.least:.0%} or more of "
        f"{spec.fresh} new transformations. With random noise on the same object: {metrics['noise_rate']:.0%}. It was "
        f"made from {metrics['fit_n']:,} training images.",
        icon=":material/check_circle:" if better else ":material/contrast:",
    )


def rates(result: store.Artifact) -> go.Figure:
    """The share of new transformations that succeed, for the pattern and for noise."""
    metrics = result.card["metrics"]
    values = [metrics["mean_share"], metrics["noise_share"]]
    figure = go.Figure(
        go.Bar(
            x=["pattern", "noise"],
            y=values,
            marker={"color": [ATTACKED, UNKNOWN], "pattern": {"shape": ["", "/"]}},
            text=[f"{value:.0%}" for value in values],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{x}: %{y:.1%}<extra></extra>",
        )
    )
    figure.update_yaxes(title_text="share of new transformations", tickformat=".0%", range=[0, 1.1])
    return styled(figure, height=290, margin={"t": 8})


def pictures(result: store.Artifact) -> Picture:
    """Draw test images with the pattern, and some new transformations of each."""
    names, held, table = result.card["class_names"], result.arrays("held_out"), result.table("held_out")
    shown, count = min(ROWS, len(held["x"])), min(each_image.VIEWS, held["views"].shape[1])
    logits = held["view_logits"]
    return gallery.show(
        [[held["x"][k], held["x_adv"][k], *held["views"][k, :count]] for k in range(shown)],
        columns=["image", "wears it", *(f"moved {v + 1}" for v in range(count))],
        rows=[f"#{int(held['index'][k])}\n{table['share'][k]:.0%}" for k in range(shown)],
        captions=[
            [
                names[int(held["y"][k])],
                names[int(table["pred"][k])],
                *(each_image.says(gallery.softmax(logits[k, v]), names) for v in range(count)),
            ]
            for k in range(shown)
        ],
        legend="Under each picture: the class that the model answers. Beside each row: the share of new "
        "transformations that succeed.",
        alt=f"{shown} test images, each with the pattern, and {count} new transformations of it",
        tile=84,
    )


def source_line(spec: specs.PatternSpec, result: store.Artifact, model: store.Artifact) -> str:
    """The provenance of a pattern."""
    pixels = int(result.arrays("pattern")["mask"].sum())
    return f"{provenance.of(result, model)} · {spec.mask.shape}, {pixels} pixels"


def files(result: store.Artifact, model: store.Artifact) -> None:
    """Draw the pictures and the files of a pattern."""
    spec = result.spec()
    assert isinstance(spec, specs.PatternSpec)
    picture, line = pictures(result), source_line(spec, result, model)
    provenance.show(line)
    with st.container(horizontal=True):
        downloads.picture(PAGE, picture, name="pattern", provenance=line)
        downloads.table(PAGE, result.table("held_out"), name="pattern", provenance=line)
        stored = result.arrays("pattern")
        wanted = {name: stored[name] for name in ("pattern", "noise", "mask")}
        downloads.arrays(PAGE, wanted, name="pattern", provenance=line)


def on_grey(pattern: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A pattern (C, H, W) on its object, the rest a flat grey: (H, W, 3) uint8."""
    picture = gallery.rgb(pattern).copy()
    picture[~mask] = 128
    return picture
