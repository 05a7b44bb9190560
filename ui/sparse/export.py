"""The tab with the files of what the other tabs show."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.storage import store
from ui.app import sources
from ui.show import at_once, downloads, provenance
from ui.sparse import dense, many_images, one_image, trace, views
from ui.sparse.choice import GREEDY, PAGE, Chosen


def show(chosen: Chosen) -> None:
    """Draw a row of files for each result: a few pixels, all pixels a little, many images."""
    st.write(
        "Download the images, the tables and the arrays that this page shows. Each file says where its figures come "
        "from. An NPZ file opens with `numpy.load`."
    )
    for title, draw in (
        ("A few pixels of this image", few),
        ("All pixels of this image a little", little),
        ("Many images of the class", many),
    ):
        with st.container(border=True):
            st.markdown(f"**{title}**")
            draw(chosen)


def few(chosen: Chosen) -> None:
    """Draw the files of the attack on few pixels."""
    case, result = chosen.case, at_once.result(PAGE, chosen.task(), name="export_few")
    if result is None:
        return
    arrays = result.arrays("images")
    image = arrays["x_adv"][0]
    picture = views.strip(case, image, case.read(image[None])[0], result="result")
    steps = trace.Trace.of(arrays) if chosen.attack["name"] == GREEDY else None
    frame = one_image.changed(case, image, steps)
    line = one_image.source_line(result, case)
    provenance.show(line)
    with st.container(horizontal=True):
        downloads.table(PAGE, frame, name="changed_pixels", provenance=line)
        downloads.picture(PAGE, picture, name="sparse", provenance=line)
        contents = {**arrays, "jacobian": case.jacobian[None]}
        downloads.arrays(PAGE, contents, name="sparse", provenance=line, images=labels(result))


def little(chosen: Chosen) -> None:
    """Draw the files of the dense formula."""
    case, results = chosen.case, dict[str, store.Artifact]()
    for name, boxed in ((dense.BOXED, True), (dense.FREE, False)):
        result = at_once.result(PAGE, case.ask(dense.attack(chosen.factor, boxed)), name=f"export_{boxed}")
        if result is None:
            return
        results[name] = result
    made = results[dense.BOXED]
    image = made.arrays("images")["x_adv"][0]
    picture = views.triptych(case, image, case.read(image[None])[0], what="result")
    line = one_image.source_line(made, case)
    provenance.show(line)
    with st.container(horizontal=True):
        downloads.table(PAGE, dense.rows(case, results), name="dense", provenance=line)
        downloads.picture(PAGE, picture, name="dense", provenance=line)
        downloads.arrays(PAGE, made.arrays("images"), name="dense", provenance=line, images=labels(made))


def many(chosen: Chosen) -> None:
    """Draw the files of the largest measurement of the greedy attack on many images that is at hand."""
    case = chosen.case
    n = st.session_state.get(f"{PAGE}_n", 200)
    task = case.ask_many(chosen.greedy, n)
    result = None if task is None else sources.artifact(task)
    result = result or at_once.result(PAGE, case.ask_many(chosen.greedy, many_images.FIRST), name="export_many")
    if result is None:
        return
    line = one_image.source_line(result, case, one=False)
    provenance.show(line)
    with st.container(horizontal=True):
        table = result.table("images").drop(columns="row")
        downloads.table(PAGE, table, name="sparse_many", provenance=line, formats=("csv", "xlsx"))
        summary = many_images.summary(result)
        downloads.table(PAGE, summary, name="sparse_counts", provenance=line, formats=("csv", "tex"), label="Counts")
        downloads.arrays(PAGE, result.arrays("images"), name="sparse_many", provenance=line, images=labels(result))


COLUMNS = ("index", "y", "target", "pred", "success")
"""Columns of an attack's table that its arrays need to be used: which image, its class, the target, the outcome."""


def labels(result: store.Artifact) -> pd.DataFrame:
    """The labels, targets, indices and success of each row of an attack."""
    return result.table("images")[list(COLUMNS)]
