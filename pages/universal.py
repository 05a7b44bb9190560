"""Universal perturbation: one change for many images, measured on images that it was not made from."""

from __future__ import annotations

from ui.app import guard

guard.ensure_router()

import streamlit as st

from ui.form import tabs
from ui.universal import choice, export, held_out, solver, views

PAGE = "universal"
TABS = ("Perturbation", "Held-out images", "Solver and lower bound", "Export")

chosen = choice.choose()
if chosen is None:
    st.stop()
drawn = (views.show, held_out.show, solver.show, export.show)
for tab, draw in zip(tabs.tabs(PAGE, TABS), drawn, strict=True):
    if tab.open:
        with tab:
            draw(chosen)
