"""Gradient steps on the input (exercise set 4): an image is moved until the network classifies it as another class."""

from __future__ import annotations

import html
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from core import specs
from core.storage import store
from ui.app import sources
from ui.form import bound, controls, samples
from ui.form.select import select
from ui.playground import answers, images, pixels
from ui.playground.address import PAGE
from ui.show import gallery
from ui.text import class_text, counted, literal

if TYPE_CHECKING:
    import pandas as pd

RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
LIMIT = 2.0
"""Seconds that the steps, and the matrix, may take each."""
_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "adversarial_lab_steps",
    html=(_HERE / "steps.html").read_text(encoding="utf-8"),
    css=(_HERE / "steps.css").read_text(encoding="utf-8"),
    js=(_HERE / "steps.js").read_text(encoding="utf-8"),
)


@dataclass(frozen=True)
class Walk:
    """The settings of the steps.

    Attributes:
        model: the network.
        data: the images; None: the model's own.
        source: the class of the image, `input_class`.
        target: the class that it is led to, `target_class`.
        steps: how many.
        rate: the factor of the gradient.
    """

    model: store.Artifact
    data: specs.DataSpec | None
    source: int
    target: int
    steps: int
    rate: float

    @property
    def key(self) -> tuple[Hashable, ...]:
        """What its results are kept under, but for the image and the two classes."""
        return ("steps", self.model.id, str(self.model.card.get("sha256")), repr(self.data), self.steps, self.rate)


def show(model: store.Artifact, data: specs.DataSpec | None) -> None:
    """Draw the settings, the steps, what the result looks like, and the matrix of success."""
    tests = samples.table(model, data)
    if tests is None:
        return
    names = list(model.card["class_names"])
    walk, place = _choose(model, data, tests, names)
    rows = _correct(tests, walk.source)
    if not len(rows):
        samples.none_of(class_text(walk.source, names))
        return
    index = int(rows["index"].iloc[min(place, len(rows) - 1)])
    x = images.pixels_of(model, index, data)
    if x is None:
        return
    with st.spinner("Loading PyTorch …"):
        found = _descent(walk, x, index)
    _player(walk, names, x, found, index)
    left, right = st.columns(2, gap="large")
    with left:
        step = int(found.reached[0]) if found.reached[0] > 0 else found.x.shape[1] - 1
        _likeness(walk, names, x, found.x[0, step], step)
    with right:
        _matrix(walk, names, tests)


def _choose(
    model: store.Artifact, data: specs.DataSpec | None, tests: pd.DataFrame, names: list[str]
) -> tuple[Walk, int]:
    first, second, third, fourth, fifth = st.columns([1, 1, 1.2, 1.2, 0.8], vertical_alignment="bottom")
    with first:
        source = controls.a_class(
            PAGE,
            names,
            name="input_class",
            label="Input class",
            default=_of(names, "4"),
            slider=False,
            help="The class of the image that the steps begin at (`input_class`).",
        )
    with second:
        target = controls.a_class(
            PAGE,
            names,
            name="target_class",
            label="Target class",
            default=_of(names, "9"),
            without=source,
            slider=False,
            help="The class that the network is to see in the image (`target_class`).",
        )
    with third:
        steps = bound.slider(
            "Iterations",
            min_value=1,
            max_value=200,
            value=60,
            key=f"{PAGE}_iterations",
            help="Gradient steps. More lead further away from the original image.",
        )
    with fourth:
        rate = select(
            PAGE,
            "rate",
            "Learning rate",
            RATES,
            text=lambda value: f"{value:g}",
            default=0.05,
            kind="slider",
            help="The gradient is multiplied by this. A large rate changes the class in few, coarse steps.",
        )
    with fifth:
        count = max(1, len(_correct(tests, source)))
        place = samples.place(
            f"{PAGE}_input", count, label="Image", help=f"One of {count:,} test images of this class."
        )
    return Walk(model, data, int(source), int(target), int(steps), float(rate)), place


def _of(names: Sequence[str], name: str) -> int:
    return list(names).index(name) if name in names else 0


def _correct(tests: pd.DataFrame, source: int) -> pd.DataFrame:
    return tests[(tests["y"] == source) & (tests["pred"] == source)]


def _descent(walk: Walk, x: np.ndarray, index: int) -> Any:
    key = (*walk.key, walk.source, walk.target, index)
    found = answers.recent.get(key)
    if found is None:
        import torch

        from core.evaluation.live.clock import Clock
        from core.evaluation.live.descent import descend

        model = sources.saved_model(walk.model.id, walk.model.root).model
        target = torch.tensor([walk.target])
        found = descend(model, torch.from_numpy(x)[None], target, steps=walk.steps, rate=walk.rate, clock=Clock(LIMIT))
        answers.recent.put(key, found)
    return found


def _player(walk: Walk, names: list[str], x: np.ndarray, found: Any, index: int) -> None:
    """Draw original, modified image, difference and probabilities, with a player over the steps."""
    taken, reached = found.x.shape[1] - 1, int(found.reached[0])
    gain = pixels.gain_for(found.x[0] - x)
    wished, own = names[walk.target], names[walk.source]
    if reached > 0:
        text = f"After {reached} of {taken} steps the {own} is classified as {wished}."
        kind = "fooled"
    else:
        text = f"After {taken} steps the {own} is still not classified as {wished}. Try a larger rate or more steps."
        kind = "holds"
    if taken < walk.steps:
        text += f" The steps were stopped after {LIMIT:g} s, the time limit of this page."
    _component(
        key=f"{PAGE}_player",
        data={
            "id": f"{walk.key}{walk.source}{walk.target}{index}",
            "w": int(x.shape[2]),
            "h": int(x.shape[1]),
            "frames": [pixels.levels(frame) for frame in found.x[0]],
            "changes": [pixels.signed(frame - x, gain) for frame in found.x[0]],
            "gain": f"×{gain:g}",
            "l2": [round(float(np.linalg.norm(frame - x)), 3) for frame in found.x[0]],
            "p": [[round(float(value), 4) for value in row] for row in found.probabilities[0]],
            "names": names,
            "source": walk.source,
            "target": walk.target,
            "reached": reached,
            "text": text,
            "kind": kind,
        },
    )


def _likeness(walk: Walk, names: list[str], x: np.ndarray, after: np.ndarray, step: int) -> None:
    """Draw which class the original and the modified image look like, by pixels alone."""
    st.markdown("**Which class does it look like?**")
    key = (*walk.key, "alike", x.tobytes(), after.tobytes())
    found = answers.recent.get(key)
    if found is None:
        import torch

        from core.evaluation.live import likeness
        from core.models.saved import data_of

        train = data_of(walk.model, walk.data).train
        if not len(train):
            st.caption("There are no training images to compare it with.")
            return
        means = answers.recent.get((*walk.key[:4], "means"))
        if means is None:
            means = likeness.centroids(train, len(names))
            answers.recent.put((*walk.key[:4], "means"), means)
        found = likeness.alike(train, means, torch.from_numpy(np.stack([x, after])))
        answers.recent.put(key, found)
    before, now = found
    tiles = [[x, before.neighbour], [after, now.neighbour]]
    picture, words = st.columns([1, 1.4])
    with picture:
        gallery.show(
            tiles,
            alt="The original and the modified image, each with the nearest training image",
            columns=["Image", "Nearest training image"],
            rows=["original", "modified"],
            tile=84,
        )
    with words:
        for what, one in (("The original", before), (f"The modified image after {counted(step, 'step')}", now)):
            st.markdown(
                f"{what} is nearest to the mean image of class **{literal(names[one.centroid])}** "
                f"(ℓ2 {one.to_centroids[one.centroid]:.3g}). Its nearest training image is a "
                f"**{literal(names[one.neighbour_class])}** (ℓ2 {one.to_neighbour:.3g})."
            )
        if now.neighbour_class == walk.source:
            st.caption("By its pixels it is still what it was: only the network sees something else.")


def _matrix(walk: Walk, names: list[str], tests: pd.DataFrame) -> None:
    """Draw the matrix of success: one image of each class, led to each other class."""
    st.markdown("**Does it work for every pair of classes?**")
    key = (*walk.key, "matrix")
    found = answers.recent.get(key)
    if found is None:
        rows = [_correct(tests, k) for k in range(len(names))]
        if not all(len(row) for row in rows):
            st.caption("The network classifies no test image of some class correctly.")
            return
        firsts = [images.pixels_of(walk.model, int(row["index"].iloc[0]), walk.data) for row in rows]
        if any(one is None for one in firsts):
            return
        import torch

        from core.evaluation.live.clock import Clock
        from core.evaluation.live.descent import success_matrix

        model = sources.saved_model(walk.model.id, walk.model.root).model
        stacked = torch.from_numpy(np.stack([one for one in firsts if one is not None]))
        found = success_matrix(model, stacked, steps=walk.steps, rate=walk.rate, clock=Clock(LIMIT))
        answers.recent.put(key, found)
    matrix, taken = found
    pairs = len(names) * (len(names) - 1)
    st.html(matrix_html(matrix, names, taken))
    off = ~np.eye(len(names), dtype=bool)
    late = "" if taken >= walk.steps else f" There was time for {taken} of {walk.steps} steps ({LIMIT:g} s)."
    st.caption(
        f"{int((matrix[off] >= 0).sum())} of {pairs} pairs succeed within {taken} steps; a number is the first step "
        f"that does, – means that none did. One test image a class.{late}"
    )


def matrix_html(matrix: np.ndarray, names: Sequence[str], steps: int) -> str:
    """The matrix of success (K, K) as a table: rows are input classes, columns are targets."""
    head = "".join(f'<th scope="col">{html.escape(name[:4])}</th>' for name in names)
    lines = []
    for k, name in enumerate(names):
        cells = []
        for j in range(len(names)):
            value = int(matrix[k, j])
            if k == j:
                cells.append("<td></td>")
            elif value < 0:
                cells.append("<td>–</td>")
            else:
                strength = 0.75 - 0.6 * min(1.0, value / max(1, steps))
                cells.append(f'<td style="background:rgba(209,98,43,{strength:.2f})">{value}</td>')
        lines.append(f'<tr><th scope="row">{html.escape(name)}</th>{"".join(cells)}</tr>')
    return (
        "<style>.lab-matrix{border-collapse:collapse;font-size:.8rem;font-variant-numeric:tabular-nums}"
        ".lab-matrix td,.lab-matrix th{padding:2px 7px;text-align:center;border:1px solid rgba(128,140,160,.3)}</style>"
        f'<table class="lab-matrix"><caption style="text-align:left">Input class ↓, target class →</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )
