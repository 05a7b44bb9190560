"""The answers to what the playground opens with, kept with the program: the first picture waits for no PyTorch.

They are the answers that this page computed on one machine, under a digest of the question, which holds the hash of
the model and of the picture: another model, image or attack is never answered by them. Made by

    python -m ui.playground.make_opening

with the data folder that holds MNIST; without one, for the embedded digits alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from core.storage import files

FILE = Path(__file__).with_name("opening.json.zst")


def digest(key: Hashable) -> str:
    """What an answer is kept under."""
    return hashlib.sha256(repr(key).encode()).hexdigest()[:24]


def get(key: Hashable) -> Any:
    """The answer to a question that the playground opens with, or None."""
    return known().get(digest(key))


@lru_cache(maxsize=1)
def known() -> Mapping[str, Any]:
    """Every answer by the digest of its question; read once."""
    try:
        return {name: _restored(value) for name, value in json.loads(files.unpacked(FILE.read_bytes())).items()}
    except (OSError, ValueError):  # an install without it only waits longer
        return {}


def _restored(value: Any) -> Any:
    return np.array(value["array"]) if isinstance(value, dict) and set(value) == {"array"} else value
