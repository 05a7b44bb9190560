"""Train."""

from __future__ import annotations

import streamlit as st

from ui import guard, model_picker

guard.ensure_router()

st.title("Train")
model_picker.pick("train")
