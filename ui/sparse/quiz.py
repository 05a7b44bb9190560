"""The tab that shows two images, one of them changed, and asks which."""

from __future__ import annotations

import numpy as np
import streamlit as st

from ui.form.select import select
from ui.show import at_once, gallery
from ui.sparse import dense
from ui.sparse.case import with_article
from ui.sparse.choice import PAGE, Chosen
from ui.text import literal

IMAGES = 20
"""Images that the quiz draws from."""
WAYS = {"dense": "all pixels a little", "sparse": "a few pixels"}
SIDES = ("left", "right")


def show(chosen: Chosen) -> None:
    """Draw two pictures, one of them attacked, and ask which; the answers are counted in this session."""
    case = chosen.case
    way = select(PAGE, "quiz_way", "How it was changed", list(WAYS), text=WAYS.__getitem__, kind="buttons")
    attack = chosen.greedy if way == "sparse" else dense.attack(chosen.factor)
    result = at_once.result(PAGE, case.ask_many(attack, IMAGES), name="quiz")
    if result is None:
        return
    arrays, table = result.arrays("images"), result.table("images")
    won = table[table["success"]]["row"].to_numpy()
    if not len(won):
        st.info("None of the images was fooled with these settings, so there is nothing to guess.")
        return
    state = st.session_state.setdefault(f"{PAGE}_quiz", {"turn": 0, "answer": None, "right": 0, "asked": 0})
    draw = np.random.default_rng((2, state["turn"], way == "sparse"))
    row, changed = int(draw.choice(won)), int(draw.integers(2))
    pair, found = [arrays["x"][row], arrays["x_adv"][row]], table.iloc[row]
    st.write(
        f"Both pictures show the same test image, {literal(with_article(case.names[case.label]))}. One was changed, "
        "and the model classifies it as another class. Which one?"
    )
    answered = state["answer"] is not None
    captions = [list(SIDES)]
    if answered:
        after = case.names[int(found["pred"])]
        texts = (f"original: {case.names[case.label]}", f"changed: classified as {after}")
        captions = [[texts[side == changed] for side in (0, 1)]]
    gallery.show(
        [[pair[side == changed] for side in (0, 1)]], captions=captions, alt="Two pictures to tell apart", tile=196
    )

    def answer(side: int | None) -> None:
        if side is None:
            state.update(turn=state["turn"] + 1, answer=None)
        elif state["answer"] is None:
            state.update(answer=side, asked=state["asked"] + 1, right=state["right"] + (side == changed))

    with st.container(horizontal=True):
        for side, name in enumerate(SIDES):
            st.button(
                f"The {name} one",
                key=f"{PAGE}_quiz_{name}",
                on_click=answer,
                args=(side,),
                disabled=answered,
            )
        st.button(
            "Next pair",
            key=f"{PAGE}_quiz_next",
            on_click=answer,
            args=(None,),
            icon=":material/skip_next:",
            disabled=not answered,
            type="primary" if answered else "secondary",
        )
    if answered:
        say = st.success if state["answer"] == changed else st.warning
        verb = "Correct" if state["answer"] == changed else "Wrong"
        say(
            f"{verb}: the {SIDES[changed]} one was changed, by at most {found['linf']:.3g} in {found['pixels']:.0f} "
            f"pixels (test image {found['index']:.0f}).",
            icon=":material/check:" if verb == "Correct" else ":material/close:",
        )
    if state["asked"]:
        st.caption(f"{state['right']} of {state['asked']} correct so far; guessing gives about {state['asked'] / 2:g}.")
