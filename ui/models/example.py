"""What the import finds out, shown of a bundled network before anything was imported: measured here, now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from core import specs
from core.storage import store
from ui.app import guard, sources, warm
from ui.models import found
from ui.show import model_names

NAME = "digits28-pgd"
"""The bundled model that is examined: its images are embedded."""
IMAGES = 360


def show(page: str) -> list[dict[str, Any]]:
    """Draw the accuracies of the bundled example; returns its findings, none while there is nothing to show yet."""
    st.markdown("**What the import finds out**: an example")
    model = next((model for one, model in sources.references() if one.name == NAME), None)
    if model is None:
        st.info(
            "Nothing was imported yet. What the import finds out about a network is shown here.", icon=":material/info:"
        )
        return []
    st.caption(
        f"{model_names.label(model)} is bundled. Here it is examined as if it came from elsewhere, on {IMAGES} images."
    )
    if not warm.torch_ready():
        _wait()
        return []
    card = _examined(model.id, store.default_root())
    found.chart(page, card, len(model.card["class_names"]))
    findings: list[dict[str, Any]] = card["found"]
    return findings


@st.fragment(run_every=0.5)
@guard.told()
def _wait() -> None:
    st.caption("Loading PyTorch …")
    if warm.torch_ready():
        st.rerun()


@st.cache_data(max_entries=4, show_spinner="Examining the bundled network …")
def _examined(model_id: str, root: Path) -> dict[str, Any]:
    """The entries `framing` and `found` that the card of an imported model has."""
    from core.evaluation.imported.examine import examine

    saved = sources.saved_model(model_id, root)
    x, y = saved.images(IMAGES)
    spec = saved.spec
    asked = specs.ImportSpec(data=spec.data, label="example", route="onnx", digest="0" * 64)
    made = examine(saved.model, x, y, asked=asked, class_names=saved.class_names, takes=tuple(x.shape[1:]))
    return {"framing": made.framing.body(), "found": [finding.to_json() for finding in made.findings]}
