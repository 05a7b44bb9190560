"""Make what `opening` and `packs` read: `python -m ui.playground.make_opening`."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from streamlit.testing.v1 import AppTest

from core.data.folder import data_root
from core.storage import files
from ui.app import warm
from ui.playground import answers, opening, packs

ROUNDS = 200
"""Script runs at most, each of which computes a part of what the sliders may ask for."""


def _plain(value: Any) -> Any:
    return {"array": value.tolist()} if isinstance(value, np.ndarray) else value


def make() -> int:
    """Open the page as a newcomer does, with the data that is here and without any, and keep all that it computes.

    Of the answers to all targets and ε, which are files of their own, the first is kept beside them: it is painted
    before any file is read.
    """
    found: dict[str, Any] = {}
    home = data_root()
    files_made: dict[str, bytes] = {}
    opening.FILE.unlink(missing_ok=True)
    shutil.rmtree(packs.FOLDER, ignore_errors=True)
    with tempfile.TemporaryDirectory() as empty:
        os.environ["ADVERSARIAL_LAB_STORE"] = empty
        warm._load()
        for data in dict.fromkeys((str(home), empty)):
            os.environ["ADVERSARIAL_LAB_DATA"] = data
            answers.forget()
            opening.known.cache_clear()
            app = AppTest.from_file(str(Path(__file__).resolve().parents[2] / "dashboard.py"), default_timeout=600)
            app.run()
            found |= {
                opening.digest(key): _plain(value) for key, value in answers.recent.items() if key[-1] != "seconds"
            }
            before = -1
            for _ in range(ROUNDS):
                app.run()
                if len(answers.recent) + len(packs.made) == before:
                    break
                before = len(answers.recent) + len(packs.made)
            found |= {opening.digest(key): value for key, value in answers.recent.items() if key[0] == "proof"}
            files_made |= dict(packs.made.items())
    opening.FILE.write_bytes(files.packed(json.dumps(found, sort_keys=True).encode()))
    packs.FOLDER.mkdir()
    for name, content in files_made.items():
        (packs.FOLDER / f"{name}.json.gz").write_bytes(content)
    return len(files_made)


if __name__ == "__main__":
    made = make()
    print(f"{made} files; bytes:", sum(one.stat().st_size for one in (opening.FILE, *packs.FOLDER.iterdir())))  # noqa: T201
