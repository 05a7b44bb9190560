"""Make what `opening` reads: `python -m ui.playground.make_opening`."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from streamlit.testing.v1 import AppTest

from core.data.folder import data_root
from core.storage import files
from ui.app import warm
from ui.playground import answers, opening

ROUNDS = 200
"""Script runs at most, each of which computes a part of what the sliders may ask for."""


def _plain(value: Any) -> Any:
    return {"array": value.tolist()} if isinstance(value, np.ndarray) else value


def make() -> int:
    """Open the page as a newcomer does, with the data that is here and without any, and keep all that it computes."""
    found: dict[str, Any] = {}
    home = data_root()
    with tempfile.TemporaryDirectory() as empty:
        os.environ["ADVERSARIAL_LAB_STORE"] = empty
        warm._load()
        for data in dict.fromkeys((str(home), empty)):
            os.environ["ADVERSARIAL_LAB_DATA"] = data
            answers.forget()
            opening.FILE.unlink(missing_ok=True)
            opening.known.cache_clear()
            app = AppTest.from_file(str(Path(__file__).resolve().parents[2] / "dashboard.py"), default_timeout=600)
            before = -1
            for _ in range(ROUNDS):
                app.run()
                if len(answers.recent) == before:
                    break
                before = len(answers.recent)
            found |= {
                opening.digest(key): _plain(value) for key, value in answers.recent.items() if key[-1] != "seconds"
            }
    opening.FILE.write_bytes(files.packed(json.dumps(found, sort_keys=True).encode()))
    return len(found)


if __name__ == "__main__":
    print(make(), opening.FILE.stat().st_size)  # noqa: T201
