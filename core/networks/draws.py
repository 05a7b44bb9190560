"""Whether a call draws random numbers, seen in the generators and not in what comes out."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def drawn_by(call: Callable[[], Any]) -> bool:
    """Whether a call draws from a global generator of PyTorch, NumPy or Python.

    A network that is random on a few calls only, or by little, may answer the same several times; it draws each time.
    """
    before = _states()
    call()
    return any(a != b for a, b in zip(before, _states(), strict=True))


def _states() -> tuple[Any, ...]:
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return (
        *(state.numpy().tobytes() for state in (torch.get_rng_state(), *devices)),
        (kind, np.asarray(keys).tobytes(), *rest),
        random.getstate(),
    )
