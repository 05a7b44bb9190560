"""Generator attack: five samples × every target, each drawn by a one-input network trained in turns."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.storage import store
from ui.app import guard, jobs, sources
from ui.form import controls, model_picker, samples
from ui.form.select import select, select_many
from ui.generator import compare, results, views
from ui.show import gallery, lessons
from ui.text import class_text, exact_percent

PAGE = "generator_attack"
MODES = {"generator": "literal, as the exercise says", "generator_strong": "strong: the nearest image"}
SAY = {
    "init": {"random": "random weights", "image": "at the image"},
    "loss": {"mse": "squared error (literal)", "ce": "cross-entropy", "margin": "logit margin"},
    "generator": {"linear": "linear: 1 → pixels", "deep": "deep: 1 → 256 → pixels"},
}
CONFIDENCES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999)


def default_model() -> str | None:
    """The newest model of more than two classes with a test accuracy above 80 %, else the newest of such models."""
    many = [m for m in sources.models() if len(m.card["class_names"]) > 2]
    good = [m for m in many if m.card["metrics"]["test_accuracy"] > 0.8]
    return (good or many)[0].id if many else None


def usual_confidence(tests: pd.DataFrame, classes: Sequence[int]) -> float:
    """The highest confidence on offer, up to 99 %, at which every one of these classes has a sample."""
    right = tests[tests["y"] == tests["pred"]]
    best = [right.loc[right["y"] == k, "confidence"].max() for k in classes]
    reached = min((value for value in best if value == value), default=0.0)  # a class never read rightly has NaN
    return max(value for value in CONFIDENCES if value <= min(reached, 0.99))


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
        "where it is needed, so that the images come much nearer to the samples.",
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


def pick_samples(model: store.Artifact, tests: pd.DataFrame) -> tuple[pd.DataFrame, list[Any], float] | None:
    """Choose classes and one test image of each.

    Returns the rows of the test table, the places for their pictures, and the least confidence; None: nothing chosen.
    """
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
            default=numbers[:5],
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
            help="Only test images that the model reads correctly, and at least this confidently, are offered.",
        )
    if not chosen:
        st.info("Choose at least one class.", icon=":material/info:")
        return None
    found = {k: samples.candidates(tests, k, confidence=confidence) for k in chosen}
    for k in [k for k in chosen if not len(found[k])]:
        samples.none_of(
            class_text(k, names),
            f" with a confidence of {confidence:.2%}; it is left out. Lower the least confidence",
        )
    chosen = [k for k in chosen if len(found[k])]
    if not chosen:
        return None
    picked, slots = [], []
    with st.grid(5, min_column_width=120):
        for k in chosen:
            with st.container(gap="xsmall"):
                slots.append(st.empty())
                place = samples.place(
                    f"{PAGE}_sample_{k}",
                    len(found[k]),
                    label=f"{names[k]}, sample",
                    help=f"+ takes another sample; {len(found[k]):,} test images qualify.",
                )
                row = found[k].iloc[place]
                st.caption(f"#{row['index']:.0f} · {row['confidence']:.2%}")
                picked.append(row)
    return pd.DataFrame(picked), slots, confidence


def draw_samples(slots: Sequence[Any], images: Iterable[np.ndarray], rows: pd.DataFrame, names: Sequence[str]) -> None:
    """Put the pictures of the samples into their places."""
    for slot, image, label in zip(slots, images, rows["y"], strict=True):
        with slot.container():
            gallery.show([[image]], alt=f"The chosen sample of {names[int(label)]}", tile=96)


guard.ensure_router()

st.title("Generator attack")
st.write(
    "A network whose only input is the constant 1 learns to draw an image that looks like your sample and is read as "
    "another class."
)
with st.container(border=True):
    model = model_picker.pick(PAGE, text="Model to fool", default=default_model())
    if model is None:
        st.stop()
    tests = samples.table(model)
    if tests is None:
        st.stop()
    picked = pick_samples(model, tests)
if picked is None:
    st.stop()
rows, slots, confidence = picked
names = model.card["class_names"]

mode = pick_mode()
with st.form(f"{PAGE}_form"):
    left, right = st.columns([2, 1])
    with left:
        target = controls.a_class(
            PAGE, names, name="target", label="Target class", extra={"all": "every class, one after the other"}
        )
    with right:
        strong = mode == "generator_strong"
        seed = controls.field(PAGE, specs.AttackSpec, "seed", disabled=strong)
    settings = draw_settings(mode)
    asked = st.form_submit_button("Run the attack", type="primary", icon=":material/play_arrow:")
lessons.generator()

indices = tuple(int(index) for index in rows["index"])
spec = controls.build(
    specs.AttackSpec,
    model=model.id,
    attack={"name": mode, **settings},
    indices=indices,
    target=target,
    seed=0 if strong else seed,
)
if spec is None:
    st.stop()
result = sources.artifact(spec)
if asked and result is None:
    jobs.start(spec)
if result is not None:
    arrays = views.Pairs.of(result)
    draw_samples(slots, [arrays.arrays["x"][row] for row in arrays.samples], rows, names)
    results.show(result, model)
    compare.attacks(result, spec, model)
    compare.models(result, spec, model)
    compare.transfer(result, model)
    results.matrix(model, spec, tests, confidence)
    st.stop()
images = samples.images(model, indices)
if images is None:
    st.stop()
draw_samples(slots, images, rows, names)
targets = list(range(len(names))) if target == "all" else [target]
labels = [int(label) for label in rows["y"]]
if jobs.idle(PAGE, spec, live=functools.partial(views.live, x=images, targets=targets, y=labels, names=names)):
    pairs = len(rows) * len(targets)
    st.info(
        f"{len(rows)} samples × {len(targets)} targets = {pairs} generators, not trained yet with these settings. "
        "“Run the attack” trains them all side by side; on MNIST that takes a few seconds.",
        icon=":material/draw:",
    )
