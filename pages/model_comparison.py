"""Robust model comparison."""

from __future__ import annotations

import streamlit as st

from ui import guard, model_picker

guard.ensure_router()

st.title("Robust model comparison")
model_picker.pick("model_comparison")
