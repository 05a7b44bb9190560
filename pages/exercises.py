"""Exercises: the five sets item by item, with buttons that lead there, what is done, and the lab report."""

from __future__ import annotations

from ui.app import guard

guard.ensure_router()

import streamlit as st

from core.exercises import sets
from ui.exercises import cards, central, costs, hand_in, known, quiz
from ui.form import tabs as tab_row

PAGE = "exercises"
SETS = {number: f"{number} {one.title}" for number, one in sets.SETS.items()}
QUIZ, COSTS, REPORT = "Quiz", "What it costs", "Lab report"

evidence = known.of_store()
tabs = tab_row.tabs(PAGE, [*SETS.values(), QUIZ, COSTS, REPORT])
for number, tab in zip(SETS, tabs, strict=False):
    if tab.open:
        with tab:
            one = sets.SETS[number]
            st.markdown(f"{one.about} **{cards.progress(one, evidence)}**")
            left, right = st.columns([3, 2], gap="medium")
            with left:
                central.show(PAGE, number, evidence)
            with right:
                cards.key_figures(one, evidence)
            cards.show(PAGE, one, evidence)
for tab, draw in zip(tabs[len(SETS) :], (quiz.show, costs.show, hand_in.show), strict=True):
    if tab.open:
        with tab:
            draw(PAGE, evidence)
