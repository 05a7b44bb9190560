"""Run an ImportSpec: read somebody else's network safely, find out what it needs, and the contents of its artifact."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from core.data.sets import first_of_test, load, to_float
from core.evaluation.imported.examine import examine
from core.evaluation.imported.findings import REFUSED, Examination, Finding
from core.evaluation.tasks.answers import test_table
from core.evaluation.tasks.opening import card_of_model
from core.models import bodies
from core.networks.framed import Framed
from core.networks.portions import at_once
from core.networks.table import parameter_count
from core.progress import Progress
from core.specs import ImportSpec
from core.storage import store, uploads

LOOKED_AT = 4000
"""Images that the examination looks at, at most."""
STATISTICS = 5000
"""Training images that the data set's own mean and standard deviation are taken from, at most."""
VALUES = 1 << 26
"""Pixel values of either, at most."""


def run(spec: ImportSpec, root: Path, *, device: str, on_progress: Progress | None = None) -> store.Outcome:
    """Read the file that waits under the spec's digest, examine the network in it, and measure its accuracy.

    Returns:
        Outcome: the graph (`model.onnx`) or the weights (array file `weights`), table `test` (one row a test image),
        and the card's contents. The card has `framing`, what stands between images and the network, and `found`, one
        entry a finding. Nothing is written; the file waits on until the artifact is written.

    Raises:
        ValueError: a file that is not what the spec says, that would run code, or whose network does not fit the data
            set; or one that the examination found to be wrong (`Finding.verdict`).
        DataMissing: the data set cannot be had; see `core.data.sets.load`.
    """
    begun = time.perf_counter()
    data = load(spec.data, on_progress=on_progress)
    body = bodies.read(spec, uploads.read(spec.digest, root), data.shape, len(data.class_names))
    room = max(1, VALUES // math.prod(data.shape))
    images = first_of_test(data, min(LOOKED_AT, room))
    found = examine(
        body.network.to(device),
        to_float(images.x).to(device),
        images.y.to(device),
        asked=spec,
        class_names=data.class_names,
        takes=body.takes,
        train=to_float((data.train if len(data.train) else data.test).x[: min(STATISTICS, room)]),
        on_progress=on_progress,
    )
    if wrong := [f"{one.said} {one.advice}".strip() for one in found.findings if one.verdict == "wrong"]:
        raise ValueError(f"model: {REFUSED} {' '.join(wrong)}")
    most = at_once(found.more["cost"]["bytes_an_image"])
    model = Framed(body.network, found.framing, most).to(device).eval().requires_grad_(False)
    if on_progress:
        on_progress(0, 1, phase="accuracy on the test images")
    table = test_table(model, data)
    card = {
        **card_of_model(data, table),
        **_of_the_examination(found, body.notes),
        "network": {
            "parameters": parameter_count(body.network),
            "outputs": body.outputs,
            "takes": list(body.takes),
            "layers": [],
        },
        "timing": {"seconds": time.perf_counter() - begun},
        "device": device,
        "threads": torch.get_num_threads(),
    }
    return store.Outcome(card=card, arrays=body.arrays, blobs=body.blobs, tables={"test": pd.DataFrame(table)})


def _of_the_examination(found: Examination, notes: tuple[str, ...]) -> dict[str, Any]:
    said = [Finding("file", "What was decided while the file was read?", "note", " ".join(notes))] if notes else []
    return {
        "framing": found.framing.body(),
        "found": [finding.to_json() for finding in (*said, *found.findings)],
        "looked_at": {"n": found.n, "accuracy": found.accuracy},
        **found.more,
    }
