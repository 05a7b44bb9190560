"""Linear models: the case that can be solved exactly, by hand, in the plane, and on images."""

from __future__ import annotations

import streamlit as st

from ui.app import guard
from ui.linear import images, plane, toy
from ui.show import lessons

PAGE = "linear_models"
PARTS = ("Six features, by hand", "In the plane, with the SVM", "Images, exactly")

guard.ensure_router()

st.title("Linear models")
st.write(
    "Where the logits are affine in the input, nothing need be searched: the worst change, the smallest one and the "
    "robust accuracy are formulas, and an attack can be held against them."
)
lessons.linear()
tabs = st.tabs(PARTS, key=f"{PAGE}_part", on_change="rerun", bind="query-params")
for tab, draw in zip(tabs, (toy.show, plane.show, images.show), strict=True):
    with tab:
        if tab.open:
            draw(PAGE)
