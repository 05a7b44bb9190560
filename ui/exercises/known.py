"""What the store holds for the exercises; read again when something in it has changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import streamlit as st

from core.exercises import evidence, notes
from core.storage import bundled, store


def of_store() -> evidence.Evidence:
    """Models and results, yours and the bundled ones, with your notes."""
    root = store.default_root()
    return replace(_cards(root, bundled.root(), evidence.stamp(root)), notes=notes.read(root))


@st.cache_resource(max_entries=4, show_spinner="Looking through the store …")
def _cards(root: Path, also: Path | None, stamp: evidence.Stamp) -> evidence.Evidence:
    return evidence.gather(root)
