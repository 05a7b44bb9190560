"""The settings of a generator attack: samples, mode, rounds, loss and the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.storage import store
from ui.app import sources
from ui.form import controls, samples
from ui.form.select import select, select_many
from ui.generator import pairs as stored
from ui.show import gallery
from ui.text import class_text, counted, exact_percent, literal

PAGE = "generator_attack"
MODES = {"generator": "literal, as the exercise says", "generator_strong": "strong: the nearest image"}
SAY = {
    "init": {"random": "random weights", "image": "at the image"},
    "loss": {"mse": "squared error (literal)", "ce": "cross-entropy", "margin": "logit margin"},
    "generator": {"linear": "linear: 1 → pixels", "deep": "deep: 1 → 256 → pixels"},
}
CONFIDENCES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999)


class Samples(NamedTuple):
    """The chosen samples: rows of the test table, places for pictures, the least confidence, classes left out."""

    rows: pd.DataFrame
    slots: list[Any]
    confidence: float
    left_out: list[str]


def default_model() -> str | None:
    """The model to begin with.

    A bundled model on which a grid is stored, those whose images are here first; else the newest model of more than
    two classes with a test accuracy above 80 %; else the newest of such models.
    """
    many = [m for m in sources.models() if len(m.card["class_names"]) > 2]
    good = [m for m in many if m.card["metrics"]["test_accuracy"] > 0.8]
    drawn = [m for m in good if any(stored.is_grid(result) for result in sources.results(m.id, "attack"))]
    grey = [m for m in drawn if m.card["shape"][0] == 1]
    return next((m.id for m in (*grey, *drawn, *good, *many)), None)


def usual_confidence(tests: pd.DataFrame, classes: Sequence[int]) -> float:
    """The highest confidence on offer, up to 99 %, at which every one of these classes has a sample."""
    right = tests[tests["y"] == tests["pred"]]
    best = [right.loc[right["y"] == k, "confidence"].max() for k in classes]
    reached = min((value for value in best if value == value), default=0.0)  # a class never recognised has NaN
    return max(value for value in CONFIDENCES if value <= min(reached, 0.99))


def usual_classes(model: store.Artifact) -> list[int]:
    """Five classes, as the exercise asks; of images in colour one, so that its grid can be large."""
    count = len(model.card["class_names"])
    return list(range(min(5 if model.card["shape"][0] == 1 else 1, count)))


def pick_mode() -> str:
    """Draw the choice between the two modes and return the registry name of the method."""
    return select(
        PAGE,
        "mode",
        "Mode",
        list(MODES),
        text=MODES.__getitem__,
        kind="buttons",
        help="Literal: the exercise's two steps in turns, whatever they do. Strong: the same two steps, each only "
        "where it is needed, so that the images stay much nearer to the samples.",
    )


def draw_settings(mode: str) -> dict[str, Any]:
    """Draw the settings of the chosen mode and return them by name, as the method's spec takes them."""
    if mode != "generator":
        return controls.method_settings(PAGE, mode)

    def setting(name: str, **more: Any) -> Any:
        return controls.field(PAGE, specs.GeneratorMethod, name, key=f"generator_{name}", **more)

    values: dict[str, Any] = {}
    for names in (
        ("rounds", "image_steps", "class_steps"),
        ("lr", "init", "loss"),
        ("generator", "shared_adam", "stop_confidence"),
    ):
        for column, name in zip(st.columns(3, vertical_alignment="bottom"), names, strict=True):
            with column:
                values[name] = choice(name) if name in SAY else setting(name)
    return values


def choice(name: str) -> str:
    """Draw a list for a setting whose options are described here in more words than in its spec."""
    info = specs.GeneratorMethod.model_fields[name]
    return select(
        PAGE,
        f"generator_{name}",
        info.title or name,
        list(SAY[name]),
        text=SAY[name].__getitem__,
        default=info.default,
        kind="list",
        help=info.description,
    )


def pick_samples(model: store.Artifact, tests: pd.DataFrame) -> Samples:
    """Choose classes and one test image of each; `rows` is empty where nothing is chosen or nothing qualifies."""
    names = model.card["class_names"]
    left, right = st.columns([3, 2])
    with left:
        numbers = list(range(len(names)))
        chosen = select_many(
            PAGE,
            "classes",
            "Your favourite classes, one sample each",
            numbers,
            text=lambda k: class_text(k, names),
            default=usual_classes(model),
            help="The exercise asks for five digits. Each sample is drawn once for every target class.",
        )
    with right:
        confidence = select(
            PAGE,
            "confidence",
            "Least confidence of the samples",
            CONFIDENCES,
            text=exact_percent,
            default=usual_confidence(tests, chosen or numbers),
            kind="slider",
            help="Only test images that the model classifies correctly, at least this confidently, are offered. A "
            "higher value gives clearer samples, which are harder to turn into another class.",
        )
    found = {k: samples.candidates(tests, k, confidence=confidence) for k in chosen}
    left_out = [literal(class_text(k, names)) for k in chosen if not len(found[k])]
    chosen = [k for k in chosen if len(found[k])]
    picked, slots = [], []
    with st.grid(5, min_column_width=120):
        for k in chosen:
            with st.container(gap="xsmall"):
                slots.append(st.empty())
                place = samples.place(
                    f"{PAGE}_sample_{k}",
                    len(found[k]),
                    label=f"{literal(names[k])}, sample",
                    help=f"+ takes another sample; {counted(len(found[k]), 'test image')} to choose from.",
                )
                row = found[k].iloc[place]
                st.caption(f"#{row['index']:.0f} · {row['confidence']:.2%}")
                picked.append(row)
    return Samples(pd.DataFrame(picked), slots, confidence, left_out)


def draw_samples(slots: Sequence[Any], images: Iterable[np.ndarray], rows: pd.DataFrame, names: Sequence[str]) -> None:
    """Put the pictures of the samples into their places."""
    for slot, image, label in zip(slots, images, rows["y"], strict=True):
        with slot.container():
            gallery.show([[image]], alt=f"The chosen sample of {names[int(label)]}", tile=96)
