"""The answers to what the playground opens with, kept with the program: the first picture waits for no PyTorch.

They are the answers that this page computed on one machine, under a digest of the question, which holds the hash of
the model and of the picture: another model, image or attack is never answered by them. Made by

    python -m ui.playground.opening

with the data folder that holds MNIST; without one, for the embedded digits alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Hashable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from core.storage import files

FILE = Path(__file__).with_name("opening.json.zst")
ROUNDS = 200
"""Script runs at most, each of which computes a part of what the sliders may ask for."""


def digest(key: Hashable) -> str:
    """What an answer is kept under."""
    return hashlib.sha256(repr(key).encode()).hexdigest()[:24]


def get(key: Hashable) -> Any:
    """The answer to a question that the playground opens with, or None."""
    return _all().get(digest(key))


@lru_cache(maxsize=1)
def _all() -> Mapping[str, Any]:
    try:
        return {name: _restored(value) for name, value in json.loads(files.unpacked(FILE.read_bytes())).items()}
    except (OSError, ValueError):  # an install without it only waits longer
        return {}


def _restored(value: Any) -> Any:
    return np.array(value["array"]) if isinstance(value, dict) and set(value) == {"array"} else value


def _plain(value: Any) -> Any:
    return {"array": value.tolist()} if isinstance(value, np.ndarray) else value


def make() -> int:
    """Open the page as a newcomer does, with the data that is here and without any, and keep all that it computes."""
    from streamlit.testing.v1 import AppTest

    from core.data.folder import data_root
    from ui.app import warm
    from ui.playground import answers

    found: dict[str, Any] = {}
    home = data_root()
    with tempfile.TemporaryDirectory() as empty:
        os.environ["ADVERSARIAL_LAB_STORE"] = empty
        warm._load()
        for data in dict.fromkeys((str(home), empty)):
            os.environ["ADVERSARIAL_LAB_DATA"] = data
            answers.forget()
            FILE.unlink(missing_ok=True)
            _all.cache_clear()
            app = AppTest.from_file(str(Path(__file__).resolve().parents[2] / "dashboard.py"), default_timeout=600)
            before = -1
            for _ in range(ROUNDS):
                app.run()
                if len(answers.recent) == before:
                    break
                before = len(answers.recent)
            found |= {digest(key): _plain(value) for key, value in answers.recent.items() if key[-1] != "seconds"}
    FILE.write_bytes(files.packed(json.dumps(found, sort_keys=True).encode()))
    return len(found)


if __name__ == "__main__":
    print(make(), FILE.stat().st_size)  # noqa: T201
