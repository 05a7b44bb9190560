"""The choice of some correctly classified images of one class, of a mask, and of the attack inside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from core import specs
from core.storage import store
from ui.form import bound, controls, data_choice, mask_choice, model_picker, samples
from ui.form.select import select
from ui.text import ANY_CLASS, class_text, say

PAGE = "masked_attack"
METHODS = ("physical", "pgd", "fgsm", "ddn", "fmn", "sigma_zero", "square")
"""On offer here; the command line confines any."""
MOST = 12
"""Images at once."""
SCENE = ("shift", "brightness", "noise", "angle", "scale")
EFFORT = ("scenes", "steps", "fresh", "least", "lr", "smooth")


@dataclass(frozen=True)
class Chosen:
    """What is chosen above the tabs: the images x (n, C, H, W) of one class, the mask, and the attack's task."""

    model: store.Artifact
    data: specs.DataSpec | None
    indices: tuple[int, ...]
    label: int
    x: np.ndarray
    mask: specs.AnyMask
    spec: specs.AttackSpec

    @property
    def names(self) -> list[str]:
        """Class names."""
        return list(self.model.card["class_names"])


def choose() -> Chosen | None:
    """Draw the controls; None where nothing can be attacked, which the page has then said."""
    first, second, third, fourth = st.columns([3.2, 0.8, 1.3, 1.3], vertical_alignment="bottom")
    with first:
        model = model_picker.pick(PAGE, default=model_picker.usual_victim())
    if model is None:
        return None
    names = list(model.card["class_names"])
    shape = mask_choice.shape(PAGE)
    data, more_settings = data_choice.among_settings(PAGE, model)
    tests = samples.table(model, data)
    if tests is None:
        return None
    with second:
        start = names.index("4") if "4" in names else 0
        label = controls.a_class(PAGE, names, name="source", label="True class", default=start, slider=False)
    with fourth:
        target = controls.a_class(
            PAGE, names, name="target", label="Target class", extra=ANY_CLASS, without=label, slider=False
        )
    found = samples.candidates(tests, label)
    if not len(found):
        samples.none_of(class_text(label, names))
        return None
    with third:
        place = samples.place(
            f"{PAGE}_image", len(found), label="Image", help=f"Of {len(found):,} that are correctly classified."
        )
    height, width = model.card["shape"][1:]
    with more_settings:
        mask = mask_choice.settings(PAGE, shape, height, width) if shape != "cells" else None
        count = bound.slider(
            "Images",
            min_value=1,
            max_value=MOST,
            value=1,
            key=f"{PAGE}_n",
            help="So many, from the chosen one on; each gets its own pattern.",
        )
        attack, eps = settings(width)
    indices = tuple(int(k) for k in found["index"][place : place + count])
    x = samples.images(model, indices, data)
    if x is None:
        return None
    if shape == "cells":
        mask = mask_choice.draw(PAGE, x[0])
    if mask is None:
        return None
    spec = controls.build(
        specs.AttackSpec,
        model=model.id,
        data=data,
        attack=attack,
        eps=eps,
        indices=indices,
        target=target,
        mask=mask,
    )
    return None if spec is None else Chosen(model, data, indices, label, x, mask, spec)


def settings(width: int) -> tuple[dict[str, Any], float | None]:
    """Draw the choice of the attack and its settings; returns them, and ε or None."""
    name = select(PAGE, "attack", "Attack", METHODS, text=say, kind="list")
    cls = specs.METHODS[name]
    st.caption(f"{cls.help} *{cls.paper}.*")
    eps = controls.eps(PAGE, default=0.5, high=1.0, step=0.05) if cls.needs_eps else None
    if name == "physical":
        st.markdown("**Transformations:** how much the object and the light may vary")
        values = controls.fields(PAGE, cls, SCENE, columns=5, defaults=usual(width))
        st.markdown("**Effort level, and what counts as a success**")
        values |= controls.fields(PAGE, cls, EFFORT)
    else:
        skip = ("norm",) if cls.needs_eps else ()  # ε above is in the units of a pixel's range
        values = controls.method_settings(PAGE, name, skip=skip)
    return {"name": name, **values}, eps


def usual(width: int) -> dict[str, Any]:
    """Defaults of the transformations for images of this width: a shift of a fourteenth of it, 2 pixels of 28."""
    return {"shift": max(0.5, float(round(width / 14)))}
