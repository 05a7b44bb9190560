"""The state of an unfinished training, so that a cancelled or killed one goes on where it was.

One safetensors file, replaced in one step: every tensor that the next epoch depends on, random states included, and the
rest as JSON. Going on ends in the same weights as never having stopped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core import files

META = "meta"


@dataclass
class State:
    """What a training is at the end of an epoch.

    Attributes:
        tensors: group to name to tensor: `model`, `best`, `optimizer`, ...
        facts: everything else, ready for JSON.
    """

    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def write(path: Path, state: State) -> None:
    """Keep the state in the place of the one before. Raises OSError; the one before stays then."""
    arrays = {
        f"{group}/{name}": value.detach().cpu().contiguous().numpy()
        for group, tensors in state.tensors.items()
        for name, value in tensors.items()
    }
    arrays[META] = np.frombuffer(json.dumps(state.facts).encode(), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace_file(path, files.encode_arrays(arrays))


def read(path: Path) -> State | None:
    """The state that was kept; None where there is none, or none that is whole: then training starts anew."""
    try:
        arrays = files.decode_arrays(path.read_bytes())
        state = State(facts=json.loads(arrays.pop(META).tobytes()))
    except (OSError, ValueError, KeyError):
        return None
    for key, value in arrays.items():
        group, _, name = key.partition("/")
        state.tensors.setdefault(group, {})[name] = torch.from_numpy(value)
    return state
