"""The state of an unfinished run, so that a cancelled or killed one resumes where it was.

One safetensors file, replaced in one step: every tensor that the rest of the run depends on, random states included,
and everything else as JSON: with what it is of (the task and all else that the run depends on), the versions of the
program and of its libraries, and the SHA-256 of all this. A resumed run ends in the same result as one that was never
stopped. A checkpoint that is damaged, or is not of this run and this version, is set aside with a note, and the run
starts anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.storage import cards, damage, files
from core.storage.locks import CHECKPOINTS

META = "meta"
UNFIT = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What restoring a state may raise that does not fit what it is restored into; see `set_aside`."""

_logger = logging.getLogger(__name__)


@dataclass
class State:
    """What a run is at the end of one of its parts: an epoch of a training, an attack of an evaluation.

    Attributes:
        tensors: group to name to tensor: `model`, `best`, `optimizer`, ...
        facts: everything else, ready for JSON.
    """

    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def write(path: Path, state: State, of: dict[str, Any]) -> bool:
    """Keep the state in the place of the one before; whether it could be kept: a full disk ends no run.

    Args:
        path: the file.
        state: what the run is now.
        of: what the run depends on, ready for JSON; `read` gives the state out for the same alone.
    """
    arrays = {
        f"{group}/{name}": value.detach().cpu().contiguous().numpy()
        for group, tensors in state.tensors.items()
        for name, value in tensors.items()
    }
    meta = json.loads(json.dumps({"facts": state.facts, "of": of, "versions": cards.versions()}))
    meta["sha256"] = _hash(arrays, meta)
    data = files.encode_arrays(arrays | {META: np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace_file(path, data, durable=True)
    except OSError as error:
        _logger.warning("The progress so far could not be saved (%s). The run continues.", error)
        return False
    return True


def read(path: Path, of: dict[str, Any]) -> State | None:
    """The state that was kept of the same run; None where there is none: then the run starts anew.

    Anything else that lies there is set aside: see `set_aside`.
    """
    try:
        return _sound(path.read_bytes(), of)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        set_aside(path, str(error))
        return None


def set_aside(path: Path, reason: str) -> None:
    """Move a checkpoint that cannot be used out of the way, with the reason in `why.txt` and as a warning in the log.

    It goes to the folder of the store for what is set aside (elsewhere: to one beside it). Where it cannot be moved it
    stays, and is replaced by the next one.
    """
    where = ""
    with contextlib.suppress(OSError):
        root = path.parents[1] if path.parent.name == CHECKPOINTS else path.parent
        where = f" It was set aside in {damage.set_aside(path, root, reason)}."
    _logger.warning("The saved progress could not be used: %s.%s The run starts from the beginning.", reason, where)


def _sound(data: bytes, of: dict[str, Any]) -> State:
    """The state in these bytes. Raises ValueError saying what is wrong with it."""
    try:
        arrays = files.decode_arrays(data)
    except ValueError:
        raise ValueError(f"expected a whole checkpoint, got {len(data):,} bytes that are none") from None
    try:
        meta = json.loads(arrays.pop(META).tobytes())
        expected, facts, versions = meta.pop("sha256"), meta["facts"], meta["versions"]
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ValueError("expected a checkpoint with its SHA-256, got one without") from None
    if _hash(arrays, meta) != expected:
        raise ValueError("its content does not match its SHA-256")
    if versions != cards.versions():
        names = sorted(name for name in {**versions, **cards.versions()} if versions.get(name) != _version(name))
        raise ValueError(
            f"expected a checkpoint of {', '.join(f'{name} {_version(name)}' for name in names)}, got one of "
            f"{', '.join(f'{name} {versions.get(name)}' for name in names)}"
        )
    if meta["of"] != json.loads(json.dumps(of)):
        names = sorted(name for name in {**meta["of"], **of} if meta["of"].get(name) != of.get(name))
        raise ValueError(f"expected a checkpoint of this run, got one of another: {', '.join(names)}")
    state = State(facts=facts)
    for key, value in arrays.items():
        group, _, name = key.partition("/")
        state.tensors.setdefault(group, {})[name] = torch.from_numpy(value)
    return state


def _version(name: str) -> str | None:
    return cards.versions().get(name)


def _hash(arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> str:
    """SHA-256 of every array, its name, type and shape, and of all else."""
    total = hashlib.sha256(cards.json_hash(meta).encode())
    for name, array in sorted(arrays.items()):
        total.update(json.dumps([name, array.dtype.name, list(array.shape)]).encode())
        total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.hexdigest()


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
