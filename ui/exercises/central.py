"""The picture or chart that an exercise set is about: real results, published figures beside them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.exercises import curves, plot, set1, set2, which
from core.exercises.evidence import Evidence, Found
from core.figures.base import score_histogram
from core.storage import store
from ui.show import elements, gallery
from ui.text import counted, literal

EPS_TITLE = "ε, in units of a pixel's range [0, 1]"
ROWS = 4
"""Samples of the grid that are shown."""


def show(page: str, number: int, known: Evidence) -> None:
    """Draw the picture of a set."""
    parts: dict[int, Callable[[str, Evidence], None]] = {
        1: _generators,
        2: _jacobian,
        3: _fgsm,
        4: _toy,
        5: _adversarial,
    }
    try:
        parts[number](page, known)
    except (store.DamagedArtifact, ValueError, OSError) as error:
        elements.failed("A stored result cannot be read.", error)


def _source(found: Found) -> None:
    st.caption(literal(found.provenance()))


def _generators(page: str, known: Evidence) -> None:
    found = known.first(specs.AttackSpec, which.both(set1.DRAWN, which.every_class, which.samples(ROWS), which.digits))
    if found is None:
        _distances(page, known)
        return
    arrays, table = _images(found.artifact, found.artifact.card["sha256"])
    names = found.artifact.card["class_names"]
    classes = sorted(set(table["target"]))
    tiles, rows = [], []
    for index in list(dict.fromkeys(table["index"]))[:ROWS]:
        mine = table[table["index"] == index].set_index("target")
        row = [arrays["x"][int(mine.iloc[0]["row"])], *(arrays["x_adv"][int(mine.loc[k, "row"])] for k in classes)]
        tiles.append(row)
        rows.append(names[int(mine.iloc[0]["y"])])
    won = found.artifact.card["metrics"]["success_rate"]
    gallery.show(
        tiles,
        alt=f"{len(rows)} test images and what the generator made of each for every class",
        columns=["image", *(f"as {names[k]}" for k in classes)],
        rows=rows,
        legend=f"Each sample, then drawn for every class. {won:.0%} of the {found.artifact.card['metrics']['n']} "
        "adversarial examples are classified as their target.",
        tile=56,
    )
    _source(found)


def _distances(page: str, known: Evidence) -> None:
    """What the attack needs on the bundled models, where no grid is stored."""
    rows = {}
    for found in known.models:
        if "measurements.parquet" in found.artifact.card["files"] and which.digits(found):
            table = found.artifact.table("measurements")
            drawn = table[table["measure"] == "generator_strong"]
            if len(drawn):
                rows[found.name()] = float(drawn["median_l2"].iloc[0])
    if not rows:
        st.info("No result of the generator attack is stored yet. Item 1B5 makes one.", icon=":material/info:")
        return
    elements.chart(
        plot.bars(list(rows), list(rows.values()), x_title="median ℓ2 distance"),
        key=f"{page}_central",
        alt="Median ℓ2 distance that the generator attack needs on each bundled model",
        tools=False,
    )
    st.caption("Median ℓ2 distance that the generator attack needs on each bundled model, one wrong class an image.")


def _jacobian(page: str, known: Evidence) -> None:
    found = known.first(specs.AttackSpec, which.both(which.attack("jacobian_sparse"), which.scalar)) or known.first(
        specs.AttackSpec, which.both(set2.FEW, which.scalar)
    )
    if found is None:
        model = known.first(specs.TrainSpec, which.scalar)
        if model is None:
            st.info("No single-output network is saved yet. Item 2.1 makes one.", icon=":material/info:")
            return
        tests = model.artifact.table("test")
        names = model.artifact.card["class_names"]
        figure = score_histogram(tests["score"].to_numpy(), tests["y"].to_numpy(), names, 0.0)
        elements.chart(figure, key=f"{page}_scores", alt="Histogram of the scores N(x) of both classes", tools=False)
        _source(model)
        return
    arrays, table = _images(found.artifact, found.artifact.card["sha256"])
    names = found.artifact.card["class_names"]
    rows = [int(row) for row in table[table["success"]].sort_values("pixels")["row"][:6]] or [0]
    changes = [arrays["x_adv"][row] - arrays["x"][row] for row in rows]
    gain = gallery.gain_for(changes)
    said = table.set_index("row")
    kinds = ["original", f"change × {gain:g}", "adversarial"]
    tiles = [
        [arrays["x"][row] for row in rows],
        [gallery.difference(change, gain) for change in changes],
        [arrays["x_adv"][row] for row in rows],
    ]
    words = [
        [names[said["y"][row]] for row in rows],
        [counted(said["pixels"][row], "pixel") for row in rows],
        [f"→ {names[said['pred'][row]]}" for row in rows],
    ]
    about = "Images, the few pixels that were changed, and the adversarial examples"
    legend = "Red: brighter than before; blue: darker."
    if len(rows) < 3:  # beside each other, and larger: three below each other would be a narrow tower
        tiles, words = ([list(column) for column in zip(*table, strict=True)] for table in (tiles, words))
        gallery.show(tiles, alt=about, columns=kinds, captions=words, legend=legend, tile=168)
    else:
        gallery.show(tiles, alt=about, rows=kinds, captions=words, legend=legend, tile=84)
    _source(found)


def _fgsm(page: str, known: Evidence) -> None:
    _against_eps(page, curves.set3_curves(known), "both LeNets")


def _adversarial(page: str, known: Evidence) -> None:
    _against_eps(page, curves.set5_curves(known), "logistic regression and the CNN")


def _against_eps(page: str, series: list[curves.Series], what: str) -> None:
    elements.chart(
        plot.curves(
            series, x_title=EPS_TITLE, y_title="accuracy under FGSM", level=(0.1, "chance"), eps=True, height=310
        ),
        key=f"{page}_central",
        alt=f"Accuracy of {what} against ε under FGSM, from this store and as published",
        tools=False,
    )
    here = curves.sources(series)
    if not here:
        st.caption("Only published figures so far: no sweep of these models is stored.")
        return
    fell = [
        f"{line.name} at ε ≈ {level:.2f}"
        for line in series
        if line.found is not None and (level := curves.crossing(line, 0.1)) is not None
    ]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"Falls to chance (10 %): {', '.join(fell) or 'none of them up to the largest ε'}.")
        with st.popover("Sources", type="tertiary", icon=":material/info:"):
            for found in here:
                _source(found)


def _toy(page: str, known: Evidence) -> None:
    lines = curves.toy_curves()
    elements.chart(
        plot.curves(lines, x_title="gradient step on the input", y_title="f(x)", level=(0.5, "flips here"), height=310),
        key=f"{page}_central",
        alt="Output f after each gradient step on x_A towards class 1, for three learning rates",
        tools=False,
    )
    flips = []
    for line in lines:
        across = [int(x) for x, y in zip(line.x, line.y, strict=True) if y is not None and y > 0.5]
        flips.append(f"{line.name}: " + (f"step {across[0]}" if across else f"not within {curves.STEPS} steps"))
    st.caption(f"From x_A = (1, 0, 1, 0, 0, 0), along the cross-entropy of class 1. Flips at {'; '.join(flips)}.")


@st.cache_resource(max_entries=8, show_spinner=False)
def _images(_artifact: store.Artifact, sha256: str) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """Pictures and table of an attack; shared by all visitors, never to be changed."""
    return _artifact.arrays("images"), _artifact.table("images")
