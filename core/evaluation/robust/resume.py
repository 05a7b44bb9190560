"""An evaluation that was stopped and resumes: what is kept after each stage, and what it depends on."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from core.evaluation.robust.edition import rules
from core.evaluation.robust.schedule import Stage
from core.evaluation.robust.state import BY_STAGE, STATE, CascadeState, Found, Subject
from core.storage import checkpoint


def fingerprint(given: Subject, effort: str, plan: list[Stage]) -> str:
    """A hash of all that the result depends on."""
    settings = [
        given.norm,
        given.eps,
        effort,
        given.seed,
        str(given.x.device),
        *rules(plan),
    ]
    total = hashlib.sha256(repr(settings).encode())
    for part in (given.x, given.y, given.index, *given.model.state_dict().values()):
        if isinstance(part, Tensor) and not part.is_quantized:
            total.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        else:  # packed weights of a quantised layer
            total.update(repr(part).encode())
    return total.hexdigest()


def save(path: Path, state: CascadeState, mark: str, done: int, found: Found | None, seconds: float) -> None:
    """Keep what is known after `done` stages, what the first of them showed of the model, and what they all took."""
    tensors = {name: getattr(state, name) for name in STATE}
    facts = {"done": done, "found": None if found is None else asdict(found), "seconds": seconds}
    checkpoint.write(path, checkpoint.State({"cascade": tensors}, facts), {"evaluation": mark})


def load(path: Path, mark: str, state: CascadeState) -> tuple[int, Found | None, float]:
    """Fill in what was kept under the same mark.

    Returns:
        The number of stages that are done, 0 where nothing fits, what they showed of the model, and the seconds that
        they took.
    """
    kept = checkpoint.read(path, {"evaluation": mark})
    if kept is None:
        return 0, None, 0.0
    try:
        found = {name: kept.tensors["cascade"][name].to(getattr(state, name)) for name in STATE}
        done = int(kept.facts["done"])
        seconds = float(kept.facts["seconds"])
        shown = None if kept.facts["found"] is None else Found(**kept.facts["found"])
        for name, value in found.items():
            shape = tuple(getattr(state, name).shape)
            shape = (shape[0], done) if name in BY_STAGE else shape
            if value.shape != shape:
                raise ValueError(f"{name}: expected shape {shape}, got {tuple(value.shape)}")
    except checkpoint.UNFIT as error:
        checkpoint.set_aside(path, f"it does not fit this evaluation ({type(error).__name__}: {error})")
        return 0, None, 0.0
    for name, value in found.items():
        setattr(state, name, value)
    return done, shown, seconds
