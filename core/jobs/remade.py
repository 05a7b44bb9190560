"""What is derived of a saved model, made again from its weights: the answers to its test images. Imports torch."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from core.evaluation.tasks.answers import test_table
from core.models.saved import load_model
from core.specs import load_task
from core.storage import cards, files

TABLE = "test.parquet"
"""The one file of a model that its others say."""


def rebuild(card: dict[str, Any], data: dict[str, bytes]) -> dict[str, bytes]:
    """The table of the model's answers to its test images, from the other files of it.

    Args:
        card: of a model, sound.
        data: its files that are whole, by name; the weights are among them.

    Raises:
        DataMissing, ValueError: its images are not there, or are others than it was trained on.
    """
    if TABLE not in card["files"] or TABLE in data:
        return {}
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / load_task(card).artifact_name()
        folder.mkdir()
        for name, content in {**data, cards.CARD: json.dumps(card).encode()}.items():
            (folder / name).write_bytes(content)
        saved = load_model(folder.name, Path(root))
        return {TABLE: files.encode_table(pd.DataFrame(test_table(saved.model, saved.data())))}
