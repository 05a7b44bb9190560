"""The quiz: which digit do you see, at every ε, and your accuracy beside the model's."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.exercises import curves, notes, plot, set5, which
from core.exercises import quiz as core_quiz
from core.exercises.evidence import Evidence
from core.exercises.published import EPS5
from core.storage import store
from ui.app import sources
from ui.exercises import known as known_notes
from ui.form import bound, data_choice, model_picker, samples
from ui.show import elements, gallery, model_names
from ui.text import both, literal

TILE = 280
"""CSS pixels of the image that is asked about."""
MOST = 8
"""Images of the end that are shown."""


def default_model() -> str | None:
    """LeNet trained on clean images, on MNIST if it is on this machine; else the first model of ten classes here."""
    there = [
        model
        for model in sources.models()
        if len(model.card["class_names"]) == 10
        and sources.present(sources.model_spec(model).data.dataset)
        and not sources.model_spec(model).scalar
    ]

    def place(model: store.Artifact) -> tuple[bool, bool, bool]:
        spec = sources.model_spec(model)
        return spec.data.dataset != "mnist", spec.network != "lenet", specs.recipe_of(spec) != "standard"

    return min(there, key=place).id if there else None


def show(page: str, known: Evidence) -> None:
    """Draw the quiz: the question that stands, or the end of it."""
    start = default_model()
    if start is None:
        model_picker.empty(page)
        return
    with st.expander("More settings", icon=":material/tune:"):
        model = model_picker.pick(page, name="quiz_model", text="Model that the images are made against", default=start)
        left, right = st.columns(2)
        with left:
            each = bound.slider(
                "Images at each ε",
                min_value=2,
                max_value=20,
                value=3,
                key=f"{page}_quiz_each",
                help="More make your accuracy more certain, and the quiz longer.",
            )
        with right:
            seed = bound.number_input(
                "Seed",
                whole=True,
                min_value=0,
                max_value=10_000,
                value=0,
                key=f"{page}_quiz_seed",
                help="Another seed draws other images.",
            )
        data = None if model is None else data_choice.choose(page, model)
    if model is None:
        return
    questions = _questions(model, data, int(each), int(seed or 0))
    if questions is None:
        return
    key = f"_{page}_quiz"
    state = st.session_state.get(key)
    wanted = (model.id, data, each, seed)
    if not isinstance(state, dict) or state["of"] != wanted:
        state = st.session_state[key] = {"of": wanted, "answers": []}
    names = list(model.card["class_names"])
    if len(state["answers"]) < len(questions):
        _ask(page, questions, state, names, model_names.name(model))
    else:
        _end(page, questions, state, names, model, known)


def _questions(model: store.Artifact, data: specs.DataSpec | None, each: int, seed: int) -> core_quiz.Questions | None:
    tests = samples.table(model, data)
    if tests is None:
        return None
    rows, eps = core_quiz.draw(tests["y"].to_numpy(), EPS5, each, seed)
    index = tests["index"].to_numpy()[rows]
    x = samples.images(model, [int(one) for one in index], data)
    if x is None:
        return None
    return _attacked(model.id, store.default_root(), data, each, seed, x, tests["y"].to_numpy()[rows], eps, index)


@st.cache_data(max_entries=16, show_spinner="Attacking a handful of images …")
def _attacked(
    model_id: str,
    root: Path,
    data: specs.DataSpec | None,
    each: int,
    seed: int,
    _x: np.ndarray,
    _y: np.ndarray,
    _eps: np.ndarray,
    _index: np.ndarray,
) -> core_quiz.Questions:
    saved = sources.saved_model(model_id, root)
    return core_quiz.attacked(saved.model, _x, _y, _eps, _index)


def _ask(page: str, questions: core_quiz.Questions, state: dict[str, Any], names: list[str], model: str) -> None:
    place = len(state["answers"])

    def answer(label: int | None) -> None:
        if len(state["answers"]) == place:  # two quick presses of a key answer one question
            state["answers"].append(label)

    def back() -> None:
        del state["answers"][-1:]

    left, right = st.columns([2, 3], gap="large", vertical_alignment="center")
    with left:
        gallery.show([[questions.x_adv[place]]], alt="An image to classify", tile=TILE)
    with right:
        st.subheader("Which digit do you see?", anchor=False)
        st.progress(place / len(questions), text=f"Image {place + 1} of {len(questions)}")
        for start in range(0, len(names), 5):
            with st.container(horizontal=True):
                for label in range(start, min(start + 5, len(names))):
                    st.button(
                        literal(names[label]),
                        key=f"{page}_quiz_{label}",
                        on_click=answer,
                        args=(label,),
                        shortcut=names[label] if len(names[label]) == 1 and names[label].isdigit() else None,
                    )
        with st.container(horizontal=True):
            st.button(
                "I cannot tell",
                key=f"{page}_quiz_none",
                on_click=answer,
                args=(None,),
                icon=":material/question_mark:",
                shortcut="Space",
            )
            st.button(
                "Back",
                key=f"{page}_quiz_back",
                on_click=back,
                disabled=place == 0,
                type="tertiary",
                icon=":material/undo:",
                shortcut="Backspace",
            )
        st.caption(
            f"FGSM images against {model}, of ε from 0 to {max(EPS5):g} in a random order; some are unchanged. "
            "Keys: the digits, space if you cannot tell, backspace to correct. What the model said comes at the end."
        )


def _end(
    page: str,
    questions: core_quiz.Questions,
    state: dict[str, Any],
    names: list[str],
    model: store.Artifact,
    known: Evidence,
) -> None:
    title = model_names.name(model)
    rows = core_quiz.counts(questions, state["answers"], title)
    if known.notes.get("quiz") != rows and not state.get("kept"):
        known_notes.note(functools.partial(notes.quizzed, rows=rows))
        state["kept"] = True
    you, its = core_quiz.share(rows, "you"), core_quiz.share(rows, title)
    left, right = st.columns([3, 2], gap="large")
    with left:
        elements.chart(
            plot.curves(_lines(rows, title, model, known), x_title="ε", y_title="accuracy", eps=True, height=380),
            key=f"{page}_quiz_chart",
            alt="Your accuracy at each ε beside the model's on the same images and on its whole sweep",
            tools=False,
        )
    with right:
        st.subheader(f"You: {you:.0%}. {title}: {its:.0%}.", anchor=False)
        st.write(
            f"Of {len(questions)} images; {core_quiz.shared_errors(questions, state['answers'])} of them both of you "
            "got wrong."
        )
        frame = pd.DataFrame(
            [
                {"ε": both(row["eps"]), "images": row["asked"], "you": row["right"], "model": row["models"][title]}
                for row in rows
            ]
        )
        st.dataframe(frame, hide_index=True, alt="Right answers at each ε", height=elements.table_height(len(frame)))

    def again() -> None:
        st.session_state[f"{page}_quiz_seed"] = int(st.session_state.get(f"{page}_quiz_seed") or 0) + 1

    st.button("Again, with other images", key=f"{page}_quiz_again", on_click=again, icon=":material/replay:")
    _mistakes(questions, state["answers"], names)


def _lines(rows: list[dict[str, Any]], title: str, model: store.Artifact, known: Evidence) -> list[curves.Series]:
    eps = tuple(row["eps"] for row in rows)
    lines = [
        curves.Series("you", eps, tuple(row["right"] / row["asked"] for row in rows), place=2),
        curves.Series(
            f"{title}, the same images", eps, tuple(row["models"][title] / row["asked"] for row in rows), place=1
        ),
    ]
    own = sources.model_spec(model)
    alike = which.both(set5.FGSM, which.network(own.network), which.data(own.data))
    swept = (
        known.first(specs.SweepSpec, which.both(alike, lambda found: found.saved.id == model.id)),
        known.first(specs.SweepSpec, which.both(alike, which.recipe(*which.ADVERSARIAL))),
    )
    for place, sweep in enumerate(swept, start=3):
        if sweep is not None:
            n = sweep.artifact.card["rows"][0]["n"]
            lines.append(curves.of_sweep(sweep, f"{model_names.name(sweep.saved)}, {n:,} images", place))
    return lines


def _mistakes(questions: core_quiz.Questions, answers: list[int | None], names: list[str]) -> None:
    """Draw the images that you got wrong, those of the smallest ε first."""
    wrong = [k for k, answer in enumerate(answers) if answer != questions.y[k]]
    wrong.sort(key=lambda k: questions.eps[k])
    if not wrong:
        st.success("You got every image right.", icon=":material/check:")
        return
    shown = wrong[:MOST]
    st.markdown(f"**Where you were wrong** ({len(wrong)} images)")
    captions = []
    for k in shown:
        answer = answers[k]
        said = "–" if answer is None else names[answer]
        said += f", model {names[int(questions.pred[k])]}"
        captions.append(f"ε {questions.eps[k]:g}\nit is {names[int(questions.y[k])]}\nyou {said}")
    gallery.show(
        [[questions.x_adv[k] for k in shown], [questions.x[k] for k in shown]],
        alt="Images that you got wrong, and below each the unchanged one",
        rows=["shown", "original"],
        captions=[captions, ["" for _ in shown]],
        tile=84,
    )
