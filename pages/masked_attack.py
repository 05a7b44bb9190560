"""Glasses and masks: an attack confined to a mask, whose pattern still fools when the object moves."""

from __future__ import annotations

from ui.app import guard

guard.ensure_router()

import streamlit as st

from ui.form import tabs
from ui.masks import choice, each_image, export, one_pattern, why

PAGE = "masked_attack"
TABS = ("One image", "One pattern for many", "Why it works", "Export")

chosen = choice.choose()
if chosen is None:
    st.stop()
drawn = (each_image.show, one_pattern.show, why.show, export.show)
for tab, draw in zip(tabs.tabs(PAGE, TABS), drawn, strict=True):
    if tab.open:
        with tab:
            draw(chosen)
