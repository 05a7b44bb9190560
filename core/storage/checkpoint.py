"""The state of an unfinished run, so that a cancelled or killed one resumes where it was.

One safetensors file, replaced in one step: every tensor that the rest of the run depends on, random states included,
and everything else as JSON. A resumed run ends in the same result as one that was never stopped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.storage import files

META = "meta"


@dataclass
class State:
    """What a run is at the end of one of its parts: an epoch of a training, an attack of an evaluation.

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
    """The state that was kept; None where there is none, or none that is whole: then the run starts again."""
    try:
        arrays = files.decode_arrays(path.read_bytes())
        state = State(facts=json.loads(arrays.pop(META).tobytes()))
    except (OSError, ValueError, KeyError):
        return None
    for key, value in arrays.items():
        group, _, name = key.partition("/")
        state.tensors.setdefault(group, {})[name] = torch.from_numpy(value)
    return state


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimiser remembers of each parameter, as `<number of the parameter>.<name>`."""
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }


def restore_moments(optimizer: torch.optim.Optimizer, kept: dict[str, Tensor]) -> None:
    """See `moments`."""
    found: dict[int, dict[str, Tensor]] = {}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, value in kept.items():
        number, _, name = key.partition(".")
        like = parameters[int(number)]
        # in the parameter's memory layout: fused optimisers walk through both as they lie
        value = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        found.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": found})


def random_states(order: torch.Generator, device: str) -> dict[str, Tensor]:
    """The states of torch's generators, `cpu` and on a GPU `cuda`, and of the one that orders the batches."""
    states = {"cpu": torch.get_rng_state(), "order": order.get_state()}
    if device.startswith("cuda"):
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_states(kept: dict[str, Tensor], order: torch.Generator, device: str) -> None:
    """See `random_states`."""
    torch.set_rng_state(kept["cpu"])
    order.set_state(kept["order"])
    if "cuda" in kept:
        torch.cuda.set_rng_state(kept["cuda"], device)
