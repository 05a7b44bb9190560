"""Weights that are sound in themselves and do not fit the network of today are one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.__main__ import main
from core.models.saved import load_model
from core.specs import ModelSpec
from core.storage import cards, files, store
from tests.fixtures.artifacts import IMPORTED, LINEAR, SCALAR, STORE

Arrays = dict[str, np.ndarray]


def _first(arrays: Arrays) -> str:
    return next(name for name in sorted(arrays) if name.endswith("weight"))


MISFITS: dict[str, Callable[[Arrays], Arrays]] = {
    "gone": lambda arrays: {name: value for name, value in arrays.items() if name != _first(arrays)},
    "renamed": lambda arrays: {f"module.{name}": value for name, value in arrays.items()},
    "more": lambda arrays: {**arrays, "head.weight": np.zeros((2, 3), dtype=np.float32)},
    "another shape": lambda arrays: {**arrays, _first(arrays): np.zeros((3, 5), dtype=np.float32)},
    "none": lambda arrays: {},
}


@pytest.mark.parametrize("kind", MISFITS)
@pytest.mark.parametrize("spec", [LINEAR, SCALAR, IMPORTED], ids=lambda spec: spec.slug())
def test_weights_that_do_not_fit_are_one_sentence(
    spec: ModelSpec, kind: str, store_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In Python and on the command line; the model stays where it is, with its results."""
    shutil.copytree(STORE, store_root)
    model = store.open_model(spec.artifact_name(), store_root)
    data = files.encode_arrays(MISFITS[kind](model.arrays("weights")))
    (model.folder / "weights.safetensors").write_bytes(data)
    card = json.loads((model.folder / cards.CARD).read_bytes())
    card["files"]["weights.safetensors"] = cards.hash_of(data)
    (model.folder / cards.CARD).write_text(json.dumps(card | {"sha256": cards.card_hash(card)}))
    with pytest.raises(store.UnreadableArtifact, match="do not fit") as told:
        load_model(model.id, store_root)
    assert "\n" not in str(told.value)
    assert main(["attack", "--model", model.id, "--attack", "fgsm", "--eps", "0.07", "--n", "2"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"{model.id}: its weights do not fit")
    assert store.find(spec, store_root) is not None
