"""Linear models of images: the weights as pictures, exact robust accuracy beside attacks, the fewest pixels."""

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
from ui.form import controls, data_choice, model_picker, samples
from ui.form.select import KEEP, select
from ui.show import downloads, elements, gallery, provenance
from ui.text import ANY_CLASS, class_text, counted, say

LADDERS: dict[str, tuple[float, ...]] = {
    "linf": (0, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2),
    "l2": (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5),
    "l1": (0, 1, 2, 3, 4, 6, 8, 12, 16),
    "l0": (0, 1, 2, 3, 4, 6, 8, 12, 16),
}
STEPS = 20
"""Of PGD."""
CAPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Caps on the change of each feature, for k(ε)."""


@st.cache_data(max_entries=8, show_spinner=False)
def weights(model_id: str, root: Path) -> np.ndarray:
    """The model's matrix as images (K, C, H, W)."""
    return _affine(model_id, root)[0].weight.numpy().reshape(-1, *_affine(model_id, root)[1])


@st.cache_data(max_entries=32, show_spinner="Solving every image, and attacking it …")
def measured(model_id: str, root: Path, norm: str, n: int, data: specs.DataSpec | None = None) -> pd.DataFrame:
    """A row for each ε: exact robust accuracy with and without the box, and accuracy under FGSM (ℓ∞) and PGD."""
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
    with st.container(border=True):
        model = model_picker.pick(page, network="linear")
        if model is None:
            return
        if not sources.has_images(model):
            return
        data = data_choice.choose(page, model)
        tests = samples.table(model, data)
        if tests is None:
            return
        first, second = st.columns([2, 1], vertical_alignment="bottom")
        with first:
            norm = select(page, "image_norm", "Norm", list(LADDERS), text=say)
        with second:
            n = st.number_input(
                "Images (n)",
                min_value=20,
                max_value=2000,
                value=500,
                step=100,
                help="The first n of the test set's fixed order. PGD takes most of the time.",
                key=f"{page}_image_n",
                **KEEP,
            )
    curve(page, model, norm, int(n), data)
    pictures(page, model)
    smallest_change(page, model, tests, norm, data)


def curve(page: str, model: store.Artifact, norm: str, n: int, data: specs.DataSpec | None) -> None:
    """Draw exact robust accuracy and accuracy under attacks against ε."""
    st.markdown("**Robust accuracy: exact, and what attacks find**")
    table = measured(model.id, model.root, norm, n, data)
    attacked = {name: table[name] for name in table.columns if name.startswith(("FGSM", "PGD"))}
    unit = {"linf": "ε, change of every pixel, in [0, 1]", "l0": "ε, changed features"}
    elements.chart(
        exact_against_attacks(
            table["eps"].tolist(),
            table["exact"].tolist(),
            {name: values.tolist() for name, values in attacked.items()},
            unboxed=table["exact without box"].tolist(),
            x_title=unit.get(norm, f"ε in {say(norm)}"),
            chance=1 / len(model.card["class_names"]),
        ),
        key=f"{page}_exact",
        alt="Exact robust accuracy against ε, below it none, above it what FGSM and PGD leave, the gap shaded",
    )
    gaps = table[list(attacked)].min(axis=1) - table["exact"]
    worst = int(gaps.argmax())
    count = int(table["n"].iloc[0])
    parts = ", ".join(f"{name} {values.iloc[worst]:.4f}" for name, values in attacked.items())
    st.markdown(
        f"Largest gap of the best attack: **{gaps.iloc[worst]:.4f}**, at ε = {table['eps'].iloc[worst]:g} (exact "
        f"{table['exact'].iloc[worst]:.4f}, {parts})."
        if gaps.iloc[worst] > 0
        else f"No gap: the best attack finds every image of these {count:,} that can be fooled."
    )
    text = (
        "An attack only shows what it found: its figure is never below the exact one. With two classes FGSM is exact; "
        "with more it follows one gradient, while the nearest class may be another."
    )
    st.caption(
        text if norm == "linf" else "An attack only shows what it found: its figure is never below the exact one."
    )
    line = provenance.line(
        model=model,
        data=data,
        norm=norm,
        eps=tuple(table["eps"]),
        seed=0,
        n=count,
        more=f"exact; FGSM in ℓ∞; PGD {STEPS} steps",
    )
    provenance.show(line)
    downloads.table(page, table, name=f"linear_exact_{norm}", provenance=line)


def pictures(page: str, model: store.Artifact) -> None:
    """Draw the rows of the matrix as images."""
    names = list(model.card["class_names"])
    rows = weights(model.id, model.root)
    st.markdown("**The weights as pictures**")
    if sources.model_spec(model).scalar:
        rows, titles = rows[1:] - rows[:1], ["w of N(x)"]
    else:
        rows, titles = rows - rows.mean(axis=0), names  # what all classes share decides nothing
    largest = max(float(np.abs(rows).max()), 1e-12)
    picture = gallery.show(
        [[gallery.difference(row / largest, 1.0) for row in rows]],
        columns=titles,
        alt="The weights of each class as a picture: red pixels speak for it when bright, blue ones against it",
        legend="Red: a brighter pixel speaks for the class; blue: against it. Full colour is a weight of "
        f"{largest:.3g}; what all classes share is taken off.",
        tile=84,
    )
    downloads.picture(
        page, picture, name="linear_weights", provenance=f"weights of {model.id}", scale=8, label="Weights"
    )


def smallest_change(
    page: str, model: store.Artifact, tests: pd.DataFrame, norm: str, data: specs.DataSpec | None
) -> None:
    """Draw one image and its smallest change, which is proven to be the smallest."""
    names = list(model.card["class_names"])
    st.markdown("**One image: its smallest change, and no smaller one exists**")
    first, second, third = st.columns(3, vertical_alignment="bottom")
    with first:
        label = controls.a_class(page, names, name="source", label="True class", slider=False)
    found = samples.candidates(tests, label)
    if not len(found):
        samples.none_of(class_text(label, names))
        return
    with second:
        place = samples.place(
            f"{page}_image", len(found), label="Image", help=f"One of {len(found):,} that are read correctly."
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
            f"No image of the box is read as {'another class' if target is None else names[target]}."
            if looked["distance"]
            else "This image is read so as it is.",
            icon=":material/info:",
        )
        return
    left, right = st.columns([3, 2])
    with left:
        delta = looked["x_adv"] - looked["x"]
        gain = gallery.gain_for([delta])
        read = [names[int(logits.argmax())] for logits in (looked["before"], looked["after"])]
        picture = gallery.show(
            [[looked["x"], gallery.difference(delta, gain), looked["x_adv"]]],
            columns=["original", f"change × {gain:g}", "changed"],
            captions=[[f"read as {read[0]}", "", f"read as {read[1]}"]],
            legend="Change: blue is darker than before, red is brighter.",
            alt=f"Test image {index}, its smallest change in {say(norm)}, and the result, read as {read[1]}",
            tile=150,
        )
    with right:
        if norm == "l0":
            k = int(looked["distance"])
            st.markdown(
                f"**{counted(k, 'feature')}** flip test image #{index} from {names[looked['y']]} to "
                f"{names[looked['rival']]}; no {k - 1} do. Proof: "
                + (
                    "sort the gains |vⱼ|uⱼ, take the largest until they exceed the margin; any other list of that "
                    "length gains less."
                    if target is None
                    else "all other classes must be beaten at once: an integer programme over which features may "
                    "move, solved to the end."
                )
            )
        else:
            safe = "safe" if target is None else f"not read as {names[target]}"
            st.markdown(
                f"Test image #{index} is {safe} in every ball of {say(norm)} size below "
                f"**{looked['distance']:.5f}**, and just beyond it is read as {names[looked['rival']]}. Shown is the "
                "change, a ten-thousandth longer."
                + (
                    ""
                    if target is None
                    else " All other classes must be beaten at once: a linear or quadratic programme."
                )
            )
        frame = pd.DataFrame({"most change of a feature": CAPS, "fewest features k": looked["frontier"]})
        frame["fewest features k"] = [str(k) if k >= 0 else "impossible" for k in looked["frontier"]]
        st.dataframe(frame, hide_index=True, height="content")
        st.caption("k(ε): the fewest features to any other class when none may move by more; exact.")
    line = provenance.line(model=model, data=data, norm=norm, more=f"test image {index}")
    downloads.picture(page, picture, name="linear_smallest", provenance=line, label="Images")
