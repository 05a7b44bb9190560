"""Glasses and masks: an attack confined to a mask, whose pattern still fools when the object moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from core import specs
from core.storage import store
from ui.app import guard, jobs, sources
from ui.form import controls, mask_choice, model_picker, samples
from ui.form.select import KEEP, select
from ui.masks import each_image, one_pattern
from ui.show import lessons
from ui.text import ANY_CLASS, class_text, say

PAGE = "masked_attack"
METHODS = ("physical", "pgd", "fgsm", "ddn", "fmn", "sigma_zero", "square")
"""On offer here; the command line confines any."""
MOST = 12
"""Images at once."""
PARTS = ("A pattern for each image", "One pattern for many images")
SCENE = ("shift", "brightness", "noise", "angle", "scale")
EFFORT = ("scenes", "steps", "fresh", "least", "lr", "smooth")


def pick_images(model: store.Artifact) -> tuple[tuple[int, ...], int, np.ndarray] | None:
    """Choose some correctly classified test images of one class: their indices, the class, and the images."""
    names = list(model.card["class_names"])
    tests = samples.table(model)
    if tests is None:
        return None
    first, second, third = st.columns(3, vertical_alignment="bottom")
    with first:
        start = names.index("4") if "4" in names else 0
        label = controls.a_class(PAGE, names, name="source", label="True class", default=start, slider=False)
    found = samples.candidates(tests, label)
    if not len(found):
        samples.none_of(class_text(label, names))
        return None
    with second:
        place = samples.place(
            f"{PAGE}_image", len(found), label="First image", help=f"Of {len(found):,} that the model reads correctly."
        )
    with third:
        count = st.slider(
            "Images",
            1,
            MOST,
            4,
            key=f"{PAGE}_n",
            help="So many, from that one on; each gets its own pattern.",
            **KEEP,
        )
    indices = tuple(int(k) for k in found["index"][place : place + count])
    images = samples.images(model, indices)
    return None if images is None else (indices, label, images)


def settings(names: list[str], label: int, width: int) -> tuple[dict[str, Any], float | None, int | str, bool]:
    """Draw the form; returns the method with its settings, ε or None, the target, and whether to run it."""
    name = select(PAGE, "attack", "Attack", METHODS, text=say, kind="list")
    cls = specs.METHODS[name]
    st.caption(f"{cls.help} *{cls.paper}.*")
    with st.form(f"{PAGE}_form"):
        target = controls.a_class(PAGE, names, name="target", label="Target class", extra=ANY_CLASS, without=label)
        eps = controls.eps(PAGE, default=0.5, high=1.0, step=0.05) if cls.needs_eps else None
        if name == "physical":
            st.markdown("**Scenes:** how much the object and the light may vary")
            values = controls.fields(PAGE, cls, SCENE, columns=5, defaults=usual(width))
            with st.expander("Effort, and what counts as a success"):
                values |= controls.fields(PAGE, cls, EFFORT)
        else:
            skip = ("norm",) if cls.needs_eps else ()  # ε above is in the units of a pixel's range
            values = controls.method_settings(PAGE, name, skip=skip)
        asked = st.form_submit_button("Attack inside the mask", type="primary", icon=":material/play_arrow:")
    return {"name": name, **values}, eps, target, asked


def each(model: store.Artifact, indices: tuple[int, ...], label: int, mask: specs.AnyMask, width: int) -> None:
    """Draw the tab on one pattern for each image: the form, the job, the result."""
    names = list(model.card["class_names"])
    attack, eps, target, asked = settings(names, label, width)
    spec = controls.build(
        specs.AttackSpec, model=model.id, attack=attack, eps=eps, indices=indices, target=target, mask=mask
    )
    if spec is None:
        return
    empty = "No result for these settings yet: run the attack."
    result = jobs.result(PAGE, spec, asked=asked, empty=empty, icon=":material/play_arrow:")
    if result is not None:
        show(spec, result, model, names)


def usual(width: int) -> dict[str, Any]:
    """Defaults of the scenes for images of this width: a shift by a fourteenth of it, which is 2 pixels of 28."""
    return {"shift": max(0.5, float(round(width / 14)))}


def show(spec: specs.AttackSpec, result: store.Artifact, model: store.Artifact, names: list[str]) -> None:
    """Draw the result, and compare it with the same attack without averaging over scenes."""
    each_image.headline(result, names)
    picture = each_image.pictures(result, names)
    each_image.files(PAGE, result, model, picture)
    if not isinstance(spec.attack, specs.Physical) or spec.attack.scenes == 0:
        return
    st.subheader("Does averaging matter?")
    still = spec.model_copy(update={"attack": spec.attack.model_copy(update={"scenes": 0})})
    other = sources.artifact(still)
    if other is not None:
        each_image.compare(result, other)
        return
    if jobs.idle(PAGE, still):
        st.write("The same attack, made on the still image only, and then looked at in the same fresh scenes:")
        if st.button("Compare with no averaging", icon=":material/compare:", key=f"{PAGE}_compare"):
            jobs.start(still)


guard.ensure_router()

st.title("Glasses and masks")
st.write(
    "Fool a model by changing only what a pair of glasses, a sticker or a shape drawn by hand covers: with a pattern "
    "that still works when the object moves, the light changes and the print is not exact."
)
with st.container(border=True):
    model = model_picker.pick(PAGE)
    if model is None:
        st.stop()
    picked = pick_images(model)
if picked is None:
    st.stop()
indices, label, images = picked
with st.container(border=True):
    mask = mask_choice.choose(PAGE, images[0])
lessons.masks()
if mask is None:
    st.stop()
tabs = st.tabs(PARTS, key=f"{PAGE}_part", on_change="rerun", bind="query-params")
with tabs[0]:
    if tabs[0].open:
        each(model, indices, label, mask, images.shape[3])
with tabs[1]:
    if tabs[1].open:
        one_pattern.section(PAGE, model, mask, SCENE, usual(images.shape[3]))
