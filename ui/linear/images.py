"""The tab on images: exact robust accuracy beside attacks, the weights as pictures, one image's smallest change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.epsilon import within
from core.figures.linear import exact_against_attacks
from core.storage import store
from ui.app import sources
from ui.form import bound, controls, data_choice, model_picker, samples
from ui.form.select import select
from ui.show import downloads, elements, gallery, provenance
from ui.show.sheet import Picture
from ui.text import ANY_CLASS, both, class_text, counted, grey_levels, literal, percent, say

LADDERS: dict[str, tuple[float, ...]] = {
    "linf": (0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15),
    "l2": (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5),
    "l1": (0, 1, 2, 3, 4, 6, 8, 12, 16),
    "l0": (0, 1, 2, 3, 4, 6, 8, 12, 16),
}
STEPS = 20
"""Of PGD."""
ACROSS = 5
"""Pictures of weights in a row."""
CAPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Caps on the change of each feature, for k(ε)."""


@st.cache_data(max_entries=8, show_spinner=False)
def weights(model_id: str, root: Path) -> np.ndarray:
    """The model's matrix as images (K, C, H, W)."""
    return _affine(model_id, root)[0].weight.numpy().reshape(-1, *_affine(model_id, root)[1])


@st.cache_data(max_entries=32, show_spinner="Solving every image, and attacking it …")
def measured(model_id: str, root: Path, norm: str, n: int, data: specs.DataSpec | None = None) -> pd.DataFrame:
    """One row per ε: exact robust accuracy with and without the box, and accuracy under FGSM (ℓ∞) and PGD."""
    import torch

    from core.attacks.engine.streams import Streams
    from core.attacks.fixed_budget.fgsm import fgsm
    from core.attacks.fixed_budget.pgd import pgd
    from core.data.sets import first_of_test, to_float
    from core.linear.exact import smallest

    linear, _shape = _affine(model_id, root)
    saved = sources.saved_model(model_id, root)
    images = first_of_test(saved.data(data), n)
    x, y = to_float(images.x), images.y
    with torch.no_grad():
        right = saved.model(x).argmax(1) == y
    boxed, free = (smallest(linear, x, y, norm=norm, box=box).distance.double() for box in (True, False))
    rows = []
    for eps in LADDERS[norm]:
        row = {
            "eps": eps,
            "n": len(y),
            "exact": share(~within(boxed, eps)),
            "exact without box": share(~within(free, eps)),
        }
        if norm == "linf":
            row["FGSM"] = share(right & ~fgsm(saved.model, x, y, eps=eps).success)
        result = pgd(saved.model, x, y, eps=eps, norm=norm, steps=STEPS, streams=Streams.of(0, images.index))
        row[f"PGD-{STEPS}"] = share(right & ~result.success)
        rows.append(row)
    return pd.DataFrame(rows)


@st.cache_data(max_entries=64, show_spinner=False)
def one(
    model_id: str,
    root: Path,
    index: int,
    norm: str,
    target: int | None = None,
    data: specs.DataSpec | None = None,
) -> dict[str, Any]:
    """The exact smallest change of one image, to any class or to the target, and k(ε) to any class."""
    import torch

    from core.data.sets import to_float
    from core.linear.exact import frontier, smallest
    from core.linear.targeted import smallest_to

    linear, _shape = _affine(model_id, root)
    test = sources.saved_model(model_id, root).data(data).test
    at = test.index == index
    x, y = to_float(test.x[at]), test.y[at]
    if target is None:
        found = smallest(linear, x, y, norm=norm)
    else:
        found = smallest_to(linear, x, torch.full_like(y, target), norm=norm)
    double = x.double()
    moved = (double + found.delta.double() * (1.0 if norm == "l0" else 1.0001)).clamp(0, 1)
    return {
        "x": x[0].numpy(),
        "x_adv": moved[0].float().numpy(),
        "distance": float(found.distance),
        "rival": int(found.rival),
        "before": linear.logits(double)[0].numpy(),
        "after": linear.logits(moved)[0].numpy(),
        "frontier": frontier(linear, x, y, CAPS)[0].numpy(),
        "y": int(torch.as_tensor(y)[0]),
    }


def share(mask: Any) -> float:
    """Mean of a mask; 0 if it is empty."""
    return float(mask.double().mean()) if len(mask) else 0.0


@st.cache_resource(max_entries=8, show_spinner="Reading the matrix …")
def _affine(model_id: str, root: Path) -> tuple[Any, tuple[int, ...]]:
    from core.linear.exact import affine_model

    saved = sources.saved_model(model_id, root)
    shape = tuple(saved.artifact.card["shape"])
    return affine_model(saved.model, shape), shape


def show(page: str) -> None:
    """Draw the tab."""
    first, second = st.columns([3, 1], vertical_alignment="bottom")
    with first:
        model = model_picker.pick(page, network="linear")
    if model is None or not sources.has_images(model):
        return
    with second:
        norm = select(page, "image_norm", "Norm", list(LADDERS), text=say)
    data = data_choice.choose(page, model)
    tests = samples.table(model, data)
    if tests is None:
        return
    left, right = st.columns([3, 2])
    with right:
        gap = st.container()
        drawn = pictures(model)  # at once: the curves take seconds when they are first drawn
        with st.expander("More settings", icon=":material/tune:"):
            n = bound.number_input(
                "Images (n)",
                whole=True,
                min_value=20,
                max_value=2000,
                value=500,
                step=100,
                help="The first n of the test set's fixed order. More images take longer, most of it for PGD.",
                key=f"{page}_image_n",
            )
    table = measured(model.id, model.root, norm, int(n), data)
    with left:
        curve(page, model, norm, table)
    with gap:
        largest_gap(table, norm)
    count = int(table["n"].iloc[0])
    line = provenance.line(
        model=model,
        data=data,
        norm=norm,
        eps=tuple(table["eps"]),
        seed=0,
        n=count,
        more=f"exact; {'FGSM; ' if norm == 'linf' else ''}PGD {STEPS} steps",
    )
    provenance.show(line)
    with st.container(horizontal=True):
        downloads.table(page, table, name=f"linear_exact_{norm}", provenance=line)
        weights_of = f"weights of {model.id}"
        downloads.picture(page, drawn, name="linear_weights", provenance=weights_of, scale=8, label="Weights")
    smallest_change(page, model, tests, norm, data)


def curve(page: str, model: store.Artifact, norm: str, table: pd.DataFrame) -> None:
    """Draw exact robust accuracy and accuracy under attacks against ε, and what the gap means."""
    st.markdown("**Robust accuracy: the exact value, and what attacks find**")
    attacked = attacks(table)
    unit = {"linf": "ε, largest change of a pixel, in [0, 1]", "l0": "ε, number of changed features"}
    elements.chart(
        exact_against_attacks(
            table["eps"].tolist(),
            table["exact"].tolist(),
            {name: values.tolist() for name, values in attacked.items()},
            unboxed=table["exact without box"].tolist(),
            x_title=unit.get(norm, f"ε in {say(norm)}"),
            chance=1 / len(model.card["class_names"]),
            height=400,
        ),
        key=f"{page}_exact",
        alt="Exact robust accuracy against ε, below it the one without the valid pixel range, above it the accuracy "
        "under attacks, the gap shaded",
    )
    text = "An attack shows only what it found, so its figure is never below the exact one."
    more = " With two classes FGSM is exact. With more it follows one gradient, and another class may be nearer."
    st.caption(text + (more if norm == "linf" else ""))


def attacks(table: pd.DataFrame) -> dict[str, pd.Series]:
    """The columns of `measured` that are accuracies under attacks."""
    return {name: table[name] for name in table.columns if name.startswith(("FGSM", "PGD"))}


def largest_gap(table: pd.DataFrame, norm: str) -> None:
    """Draw the largest gap between the exact robust accuracy and the best attack."""
    attacked = attacks(table)
    gaps = table[list(attacked)].min(axis=1) - table["exact"]
    worst = int(gaps.argmax())
    count, eps = int(table["n"].iloc[0]), float(table["eps"].iloc[worst])
    parts = ", ".join(f"{name} {percent(values.iloc[worst])}" for name, values in attacked.items())
    st.markdown(
        f"Largest gap of the best attack: **{100 * gaps.iloc[worst]:.2f} points**, at ε = "
        f"{both(eps) if norm == 'linf' else f'{eps:g}'} (exact {percent(table['exact'].iloc[worst])}, {parts}; "
        f"{counted(count, 'test image')})."
        if gaps.iloc[worst] > 0
        else f"No gap: the best attack fools every one of these {count:,} test images that can be fooled."
    )


def pictures(model: store.Artifact) -> Picture:
    """Draw the rows of the matrix as images, five in a row."""
    names = list(model.card["class_names"])
    rows = weights(model.id, model.root)
    st.markdown("**The weights as pictures**")
    if sources.model_spec(model).scalar:
        rows, titles = rows[1:] - rows[:1], ["w of N(x)"]
    else:
        rows, titles = rows - rows.mean(axis=0), names  # what all classes share decides nothing
    largest = max(float(np.abs(rows).max()), 1e-12)
    tiles = [gallery.difference(row / largest, 1.0) for row in rows]
    return gallery.show(
        [tiles[k : k + ACROSS] for k in range(0, len(tiles), ACROSS)],
        captions=[titles[k : k + ACROSS] for k in range(0, len(tiles), ACROSS)],
        alt="The weights of each class as a picture: red pixels raise its score when bright, blue ones lower it",
        legend="Red: a brighter pixel raises the score of the class. Blue: it lowers it. Full colour: a weight of "
        f"{largest:.3g}. The mean over the classes is subtracted.",
        tile=70,
    )


def smallest_change(
    page: str, model: store.Artifact, tests: pd.DataFrame, norm: str, data: specs.DataSpec | None
) -> None:
    """Draw one image and its smallest change, which is proven to be the smallest."""
    names = list(model.card["class_names"])
    st.markdown("**One image: its smallest change, and the proof that no smaller one exists**")
    first, second, third = st.columns(3, vertical_alignment="bottom")
    with first:
        label = controls.a_class(page, names, name="source", label="True class", slider=False)
    found = samples.candidates(tests, label)
    if not len(found):
        samples.none_of(class_text(label, names))
        return
    with second:
        place = samples.place(
            f"{page}_image",
            len(found),
            label="Image",
            help=f"One of the {counted(len(found), 'test image')} of this class that the model classifies correctly.",
        )
    with third:
        chosen = controls.a_class(
            page, names, name="target", label="Target class", extra=ANY_CLASS, default="any", slider=False
        )
        target = None if chosen == "any" else int(chosen)
    index = int(found.iloc[place]["index"])
    if samples.images(model, [index], data) is None:
        return
    looked = one(model.id, model.root, index, norm, target, data)
    if not np.isfinite(looked["distance"]) or looked["distance"] == 0:
        st.info(
            f"No valid image is classified as {'another class' if target is None else literal(names[target])}."
            if looked["distance"]
            else f"This image is classified as {literal(names[looked['y'] if target is None else target])} "
            "without any change.",
            icon=":material/info:",
        )
        return
    left, right = st.columns([3, 2])
    with left:
        drawn = before_and_after(looked, names, index, norm)
    with right:
        st.markdown(proof(looked, names, index, norm, target))
        with st.expander("Fewest features under a cap on each change"):
            frame = pd.DataFrame({"largest change of a feature": CAPS, "fewest features k": looked["frontier"]})
            frame["fewest features k"] = [str(k) if k >= 0 else "impossible" for k in looked["frontier"]]
            st.dataframe(frame, hide_index=True, height="content")
            st.caption("k(ε): the fewest features to any other class if none may change by more than ε; exact.")
    line = provenance.line(model=model, data=data, norm=norm, more=f"test image {index}")
    downloads.picture(page, drawn, name="linear_smallest", provenance=line, label="Images")


def before_and_after(looked: dict[str, Any], names: list[str], index: int, norm: str) -> Picture:
    """Draw the image, its smallest change and the result."""
    delta = looked["x_adv"] - looked["x"]
    gain = gallery.gain_for([delta])
    pred = [names[int(logits.argmax())] for logits in (looked["before"], looked["after"])]
    return gallery.show(
        [[looked["x"], gallery.difference(delta, gain), looked["x_adv"]]],
        columns=["original", f"change × {gain:g}", "changed"],
        captions=[[f"classified as {pred[0]}", "", f"classified as {pred[1]}"]],
        legend="Change: blue is darker than before, red is brighter.",
        alt=f"Test image {index}, its smallest change in {say(norm)}, and the result, classified as {pred[1]}",
        tile=168,
    )


def proof(looked: dict[str, Any], names: list[str], index: int, norm: str, target: int | None) -> str:
    """The smallest change of an image in words, and why no smaller one exists."""
    rival = literal(names[looked["rival"]])
    if norm == "l0":
        k = int(looked["distance"])
        text = (
            f"**{counted(k, 'feature')}** {'change' if k > 1 else 'changes'} the class of test image #{index} from "
            f"{literal(names[looked['y']])} to {rival}; with fewer it is impossible. Proof: "
        )
        if target is None:
            return text + (
                "sort the gains |vⱼ|uⱼ and take the largest until their sum exceeds the margin. Any other list of "
                "that length gains less."
            )
        return text + (
            "the target class must exceed every other class at once. This is an integer programme over the features "
            "that may change, solved to optimality."
        )
    distance = looked["distance"]
    length = f"**{distance:.5f}**" + (f" ({grey_levels(distance)})" if norm == "linf" else "")
    safe = "keeps its class" if target is None else f"is not classified as {literal(names[target])}"
    text = (
        f"Test image #{index} {safe} under every change of {say(norm)} norm below {length}. Just beyond, it is "
        f"classified as {rival}. The picture shows the smallest change, lengthened by a ten-thousandth."
    )
    if target is None:
        return text
    return text + (" The target class must exceed every other class at once, which is a linear or quadratic programme.")
