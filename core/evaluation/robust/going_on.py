"""An evaluation that was stopped and goes on: what is kept after each stage, and what it depends on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.evaluation.robust.cascade import STATE, Standing
from core.storage import checkpoint


def fingerprint(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, asked: list[Any]) -> str:
    """A hash of all that the result depends on."""
    total = hashlib.sha256(repr(asked).encode())
    for part in (x, y, index, *model.state_dict().values()):
        if isinstance(part, Tensor) and not part.is_quantized:
            total.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        else:  # packed weights of a quantised layer
            total.update(repr(part).encode())
    return total.hexdigest()


def keep(path: Path, standing: Standing, mark: str, done: int, bridges: bool) -> None:
    """Write down what is known after `done` stages, and whether stages were added."""
    tensors = {name: getattr(standing, name) for name in STATE}
    facts = {"mark": mark, "done": done, "bridges": bridges}
    checkpoint.write(path, checkpoint.State({"standing": tensors}, facts))


def resume(path: Path, mark: str, standing: Standing) -> tuple[int, bool]:
    """Fill in what was kept; returns the number of stages done (0 where nothing fits), and whether some were added."""
    kept = checkpoint.read(path)
    if kept is None or kept.facts.get("mark") != mark:
        return 0, False
    for name, value in kept.tensors["standing"].items():
        setattr(standing, name, value.to(getattr(standing, name)))
    return int(kept.facts["done"]), bool(kept.facts.get("bridges", False))
