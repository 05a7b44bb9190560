"""The choice of one correctly classified image, and of the settings of the attack on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from ui.app import sources
from ui.form import bound, controls, data_choice, model_picker, samples
from ui.form.select import select
from ui.sparse.case import Case
from ui.text import ANY_CLASS, class_text, literal

PAGE = "sparse_attack"
MAX_PIXELS = 200
"""The pixel budget's slider ends here."""
GREEDY = "jacobian_sparse"
OTHERS = ("jsma", "sigma_zero", "sparse_rs", "one_pixel")
"""Other attacks on few pixels, where the registry has them."""


@dataclass(frozen=True)
class Chosen:
    """What is chosen above the tabs.

    Attributes:
        case: the image, in its model.
        attack: the attack on few pixels that is shown, with its settings.
        greedy: the greedy attack with its settings, for counts.
        eps: the pixel budget, where the attack takes one as its ε.
        factor: how far beyond ε* the dense formula goes.
    """

    case: Case
    attack: dict[str, Any]
    greedy: dict[str, Any]
    eps: float | None
    factor: float

    def task(self) -> specs.AttackSpec | None:
        """The task of the chosen attack on the image."""
        return self.case.ask(self.attack, **({} if self.eps is None else {"eps": self.eps}))


def choose() -> Chosen | None:
    """Draw the controls; None where nothing can be attacked, which the page has then said."""
    first, second, third, fourth = st.columns([3.2, 0.8, 1.3, 1.3], vertical_alignment="bottom")
    with first:
        model = model_picker.pick(PAGE, default=default_model())
    if model is None:
        return None
    names, scalar = list(model.card["class_names"]), sources.model_spec(model).scalar
    data, more_settings = data_choice.among_settings(PAGE, model)
    tests = samples.table(model, data)
    if tests is None:
        return None
    with second:
        start = names.index("4") if "4" in names else 0
        label = controls.a_class(PAGE, names, name="source", label="True class", default=start, slider=False)
    with fourth:
        budget = pick_budget(int(np.prod(model.card["shape"])))
    with more_settings:
        threshold = pick_threshold(tests, names) if scalar else 0.0
        left, middle, right = st.columns(3, vertical_alignment="bottom")
        with left:
            order = select(
                PAGE,
                "order",
                "Order of the images",
                list(samples.ORDERS),
                text=samples.ORDERS.__getitem__,
                kind="list",
                help="The margin says how far an image is from being classified as another class.",
            )
        with middle:
            target = controls.a_class(
                PAGE,
                names,
                name="target",
                label="Target class",
                extra=ANY_CLASS,
                without=label,
                slider=False,
                help="The class that the attack aims at.",
            )
        with right:
            factor = controls.field(PAGE, specs.JacobianDense, "factor", label="Overshoot of ε*")
        attack, greedy = pick_attack(budget)
    found = samples.candidates(tests, label, threshold=threshold, order=order)
    if not len(found):
        samples.none_of(class_text(label, names), " with these settings")
        return None
    with third:
        place = samples.place(
            f"{PAGE}_image",
            len(found),
            label="Image",
            help=f"+ takes the next of {len(found):,} test images of this class that are correctly classified.",
        )
    index = int(found.iloc[place]["index"])
    images = samples.images(model, [index], data)
    if images is None:
        return None
    aim = None if target == "any" else int(target)
    case = Case.of(model, index, label, images[0], target=aim, threshold=threshold, data=data)
    eps = float(budget) if specs.METHODS[attack["name"]].needs_eps else None
    return Chosen(case, attack, greedy, eps, factor)


def default_model() -> str | None:
    """The exercise's model: a single-output network, on MNIST if there is one."""
    scalar = [m for m in sources.models() if sources.model_spec(m).scalar]
    mnist = [m for m in scalar if sources.model_spec(m).data.dataset == "mnist"]
    return (mnist or scalar)[0].id if scalar else None


def pick_budget(size: int) -> int:
    """Draw the slider for the pixel budget of images with so many features."""
    most = min(MAX_PIXELS, size)
    key = f"{PAGE}_max_features"
    if isinstance(st.session_state.get(key), int):  # chosen for larger images
        st.session_state[key] = min(most, st.session_state[key])
    return bound.slider(
        "Pixel budget",
        min_value=1,
        max_value=most,
        value=min(60, most),
        help="The attack may change at most so many pixels; of a colour image each colour of a pixel counts.",
        key=key,
    )


def pick_threshold(tests: pd.DataFrame, names: list[str]) -> float:
    """Draw the slider for the threshold τ of a single-output network."""
    low, high = math.floor(tests["score"].min()), math.ceil(tests["score"].max())
    key = f"{PAGE}_threshold"
    if isinstance(st.session_state.get(key), int | float):
        st.session_state[key] = float(min(max(low, st.session_state[key]), high))
    return bound.slider(
        "Threshold τ",
        min_value=float(min(low, 0)),
        max_value=float(max(high, 0)),
        value=0.0,
        step=0.1,
        help=f"An image is classified as {literal(names[1])} when its score N(x) is above τ. "
        "The network was trained for τ = 0.",
        key=key,
    )


def pick_attack(budget: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draw the choice of the attack on few pixels and its settings; returns the chosen attack, and the greedy one."""
    name = select(
        PAGE,
        "method",
        "Attack on few pixels",
        [GREEDY, *OTHERS],
        text=method_title,
        kind="buttons",
        help="The greedy attack keeps a trace of its changes, which the other tabs use.",
    )
    method = specs.METHODS[name]
    st.caption(f"{method.help} *{method.paper}.*")
    greedy: dict[str, Any] = {"name": GREEDY, "max_features": budget}
    if name != GREEDY:
        return {"name": name, **controls.method_settings(PAGE, name)}, greedy
    first, second = st.columns([1, 2], vertical_alignment="bottom")
    with first:
        greedy["candidates"] = controls.field(PAGE, specs.JacobianSparse, "candidates")
    with second, st.container(horizontal=True):
        greedy["prune"] = controls.field(PAGE, specs.JacobianSparse, "prune")
        greedy["swaps"] = controls.field(PAGE, specs.JacobianSparse, "swaps")
    return greedy, greedy


def method_title(name: str) -> str:
    """The title of a method in the choice."""
    return "Greedy" if name == GREEDY else specs.METHODS[name].title
