"""How long a generator attack will take, for the text of its button."""

from __future__ import annotations

import time
from pathlib import Path

import streamlit as st

from core import specs
from core.storage import store
from ui.app import sources, warm
from ui.generator import pairs as stored

ROWS = 50
"""Images of the batch that is timed."""


def evaluations(method: specs.Method) -> int:
    """Model evaluations (forward and backward passes) that one pair costs, at most."""
    rounds = getattr(method, "rounds", 1)
    if isinstance(method, specs.GeneratorMethod):
        return rounds * (2 * method.class_steps + 1) + 1
    return 2 * rounds + 13


def seconds(spec: specs.AttackSpec, model: store.Artifact) -> float | None:
    """Expected seconds: from an earlier run on this model, else timed, else None until PyTorch is loaded."""
    wanted = evaluations(spec.attack) * stored.rows_of(spec, len(model.card["class_names"]))
    for result in stored.grids(spec):
        theirs, taken = result.spec(), result.card["metrics"].get("seconds")
        if isinstance(theirs, specs.AttackSpec) and taken:
            done = evaluations(theirs.attack) * stored.rows_of(theirs, len(model.card["class_names"]))
            return float(taken) / done * wanted
    if not warm.torch_ready():
        return None
    return _a_pass(model.id, model.folder.parent) * wanted


@st.cache_data(max_entries=64, show_spinner=False)
def _a_pass(model_id: str, root: Path) -> float:
    """Seconds of a forward or backward pass of one image, in a batch of `ROWS`, on this processor."""
    import torch

    saved = sources.saved_model(model_id, root)
    shape = saved.artifact.card["shape"]
    x = torch.rand(ROWS, *shape, requires_grad=True)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        torch.autograd.grad(saved.model(x).logsumexp(1).sum(), x)
        best = min(best, time.perf_counter() - start)
    return best / (2 * ROWS)
