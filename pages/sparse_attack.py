"""Jacobian and sparse attack: which few pixels turn an image into another class, how few, and all pixels a little."""

from __future__ import annotations

from ui.app import guard

guard.ensure_router()

import streamlit as st

from ui.form import tabs
from ui.sparse import choice, dense, export, fewest, many_images, one_image, quiz

PAGE = "sparse_attack"
TABS = ("One image", "How sparse can it be?", "All pixels a little", "Many images", "Quiz", "Export")

chosen = choice.choose()
if chosen is None:
    st.stop()
drawn = (one_image.show, fewest.show, dense.show, many_images.show, quiz.show, export.show)
for tab, draw in zip(tabs.tabs(PAGE, TABS), drawn, strict=True):
    if tab.open:
        with tab:
            draw(chosen)
