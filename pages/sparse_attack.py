"""Jacobian and sparse attack."""

from __future__ import annotations

import streamlit as st

from ui import guard, model_picker

guard.ensure_router()

st.title("Jacobian and sparse attack")
model_picker.pick("sparse_attack")
