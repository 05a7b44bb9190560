"""A process for shards whose steps are toys, so that it starts at once: `core.jobs.shards.piece` imports PyTorch.

A shard takes TOY_SECONDS and holds the numbers of its images; TOY_MISDEED is what goes wrong, once for each of its
words: `die` ends the process in the middle of the second shard.
"""

from __future__ import annotations

import os
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.jobs.shards import kept, serve, version
from tests.planted import CARD

COUNT = 120


def do(asked: dict[str, Any]) -> dict[str, Any]:
    """As `piece.do`, of the numbers from 0 to COUNT."""
    where = Path(asked["folder"])
    try:
        version.check(asked["version"], "toy")
        kept.request(where, asked["mark"])
        if asked["step"] == "find":
            return {"host": "toy", "count": COUNT, "of": {"toy": 1}}
        if asked["step"] == "close":
            parts = [
                kept.read(kept.path(where, (low, high), kept.SHARD), kept.of_rows({"toy": 1}, (low, high)))
                for low, high in asked["ranges"]
            ]
            table = pd.concat([part.tables["rows"] for part in parts], ignore_index=True)
            x = np.concatenate([part.arrays["rows"]["x"] for part in parts])
            made = kept.Kept({"card": {**CARD, "device": asked["device"]}}, {"images": {"x": x}}, {"images": table})
            kept.write(where / kept.WHOLE, made, {"mark": asked["mark"]})
            return {"host": "toy"}
        low, high = asked["rows"]
        for step in range(10):
            kept.note_progress(where, (low, high), step / 10, "toy")
            time.sleep(float(os.environ.get("TOY_SECONDS", "0.2")) / 10)
            if os.environ.get("TOY_MISDEED") == "die" and low == 30 and kept.count_try(where, (low, high)) < 2:
                os.kill(os.getpid(), 9)
        if os.environ.get("TOY_MISDEED") == "die always" and low == 30:
            os.kill(os.getpid(), 9)
        rows = np.arange(low, high)
        x = np.repeat(rows[:, None], 100, axis=1).astype(np.float64)
        part = kept.Kept({}, {"rows": {"x": x}}, {"rows": pd.DataFrame({"index": rows, "process": os.getpid()})})
        kept.write(kept.path(where, (low, high), kept.SHARD), part, kept.of_rows({"toy": 1}, (low, high)))
    except (OSError, ValueError) as error:
        kind = "OSError" if isinstance(error, OSError) else "ValueError"
        return {"host": "toy", "error": kind, "message": str(error), "errno": getattr(error, "errno", None)}
    return {"host": "toy", "sha256": "", "processor": 0.1, "notes": []}


if __name__ == "__main__":
    toy = types.ModuleType("core.jobs.shards.piece")
    toy.do, toy.hold_threads = do, lambda most: None  # type: ignore[attr-defined]
    sys.modules[toy.__name__] = toy
    sys.exit(serve.serve())
