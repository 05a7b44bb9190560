"""What the tabs of the generator attack's page show of the pairs that are known: grid, rounds, matrix, files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.storage import store
from ui.app import jobs
from ui.form import bound, samples
from ui.form.controls import SLIDER_CLASSES
from ui.form.select import select
from ui.generator import pairs as stored
from ui.generator import views
from ui.generator.pairs import Pairs
from ui.show import downloads, elements, provenance
from ui.text import PERCENT, in_percent, literal

PAGE = "generator_attack"
KINDS = {"image": "Images", "change": "Changes"}


def grid(pairs: Pairs, target: int | None) -> None:
    """Draw the grid, a choice between images and changes, and one pair; the column of `target` is framed."""
    place = st.container()
    left, right = st.columns(2)
    with left:
        kind = select(PAGE, "view", "The grid shows", list(KINDS), text=KINDS.__getitem__)
    with right:
        sample = which_sample(pairs, "One pair, of the sample")
    with place:
        views.grid(pairs, kind, views.shown_targets(pairs, SLIDER_CLASSES), target)
    row = _row_of(pairs, sample, target)
    if row is None:
        st.caption(f"{literal(pairs.names[target or 0])}: – (this pair is not drawn yet).")
        return
    if target is None:
        st.caption("Move the slider above to choose the target class of this pair.")
    views.pair(pairs, row)


def which_sample(pairs: Pairs, label: str = "Sample") -> int:
    """Draw the choice of one of the samples; returns its place."""

    def text(place: int) -> str:
        first = pairs.table.iloc[pairs.samples[place]]
        return f"{pairs.names[first['y']]} · #{first['index']}"

    return select(PAGE, "shown_sample", label, list(range(len(pairs.samples))), text=text)


def _row_of(pairs: Pairs, sample: int, target: int | None) -> int | None:
    """The row of a sample and a target; without a target, the first that counts."""
    if target is not None:
        return pairs.row(sample, target)
    own = int(pairs.table["y"].iloc[pairs.samples[sample]])
    return pairs.row(sample, next((k for k in pairs.targets if k != own), pairs.targets[0]))


def rounds(pairs: Pairs, target: int | None) -> None:
    """Draw distance and confidence by round of one sample, with a line for each target."""
    sample = which_sample(pairs)
    views.rounds(pairs, sample, target, PAGE)
    st.caption(
        "Each line is one generator. A round is a step towards the sample and a step towards the class. Of all images "
        "that are classified as the target, the one nearest to the sample is kept."
    )


def matrix(model: store.Artifact, pairs: Pairs, spec: specs.AttackSpec, tests: pd.DataFrame, confidence: float) -> None:
    """Draw the success by true class and target, of the samples, or of several images of every class."""
    names = model.card["class_names"]
    each = bound.number_input(
        "Images of every class",
        whole=True,
        min_value=0,
        max_value=20,
        value=0,
        step=1,
        help="0: your samples. More: the first so many images of each class that are classified this confidently, "
        "each drawn towards every class, with the settings of this page.",
        key=f"{PAGE}_each",
    )
    if each:
        found = pd.concat([samples.candidates(tests, k, confidence=confidence).head(each) for k in range(len(names))])
        spec = spec.model_copy(update={"indices": tuple(int(i) for i in found["index"]), "target": "all"})
        labels, count = found["y"].tolist(), len(names)
        things = f"{stored.wrong_pairs(labels, range(count)):,} adversarial {stored.noun(names)}"
        result = jobs.result(PAGE, spec)
        if result is None:
            jobs.offer(PAGE, spec, f"Draw {things}", name="draw_matrix")
            st.caption("Until then: the matrix of your samples.")
        else:
            pairs = Pairs.of(result)
            provenance.show(provenance.of(result, model))
    elements.chart(
        views.matrix(pairs),
        key=f"{PAGE}_matrix",
        alt="Matrix of true class against target class: how many pairs were fooled, and their median distance",
    )
    total = pairs.summary()
    rate = f"{total.won} of {total.n} wrong-class targets succeed" if total.n else "No pair counts"
    st.caption(
        f"{rate}. Each cell has the outcome and the median ℓ2; darker means that the image had to move farther. Rows "
        "are true classes, columns are targets."
    )


def export(pairs: Pairs, line: str) -> None:
    """Draw the table of all pairs, and the files: tables, grids as pictures, arrays."""
    frame = views.distances(pairs)
    st.dataframe(
        in_percent(frame, ["P(target)"]),
        hide_index=True,
        height=elements.table_height(len(frame), 400),
        column_config={
            "P(target)": st.column_config.ProgressColumn(format=PERCENT, min_value=0, max_value=100),
            **{
                name: st.column_config.NumberColumn(format=text)
                for name, text in (("ℓ1", "%.2f"), ("ℓ2", "%.3f"), ("ℓ∞", "%.4f"))
            },
        },
        key=f"{PAGE}_pairs",
        alt="Distances and outcome of every pair",
    )
    downloads.table(PAGE, frame, name="generator_pairs", provenance=line, formats=("csv", "md", "tex", "xlsx"))
    with st.container(horizontal=True):
        for kind, label in KINDS.items():
            picture = views.picture(pairs, kind, views.shown_targets(pairs, SLIDER_CLASSES))
            downloads.picture(PAGE, picture, name=f"grid_{kind}", provenance=line, label=f"{label} as PNG")
        downloads.arrays(PAGE, contents(pairs), name="generator_attack", provenance=line, label="All arrays as NPZ")
    st.caption(
        "NPZ: a row for each pair. `x` is the original and `x_adv` the result, both in [0, 1]. `index` is the place in "
        "the test set, `y` the true class, `target` the wanted class, `pred` the class that the model reports, "
        "`success` whether that is the target. The rest are probabilities, and distance and confidence by round."
    )
    provenance.show(line)


def contents(pairs: Pairs) -> dict[str, np.ndarray]:
    """All that is needed to use the images elsewhere: the arrays, labels, targets, indices, outcomes, names."""
    columns = ("index", "y", "target", "pred_clean", "pred", "success", *views.DISTANCES)
    return {
        **pairs.arrays,
        **{name: pairs.table[name].to_numpy() for name in columns},
        "class_names": np.array(list(pairs.names)),
    }
