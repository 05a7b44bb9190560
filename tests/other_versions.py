"""Artifacts of versions that never were: what a store may hold when another version of the program has used it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from core.specs import TASKS
from core.storage import cards, store

Card = dict[str, Any]


def _spec(**changes: Any) -> Callable[[Card], None]:
    def change(card: Card) -> None:
        card["spec"] |= changes

    return change


def _without(*names: str) -> Callable[[Card], None]:
    def change(card: Card) -> None:
        for name in names:
            card.pop(name, None)

    return change


def _card(**changes: Any) -> Callable[[Card], None]:
    def change(card: Card) -> None:
        card |= deepcopy(changes)

    return change


MODELS: dict[str, dict[str, tuple[Callable[[Card], None], str]]] = {
    "0.0.7": {
        "format": (_card(format=0), "of format 0, which an earlier version"),
        "metrics": (_without("metrics"), "metrics: expected a value, got nothing"),
        "timing": (_without("timing"), "timing: expected a value"),
        "class names": (_without("class_names"), "class_names: expected a value"),
        "shape": (_without("shape", "history"), "shape: expected a value.*history"),
        "old names of fields": (_spec(learning_rate=0.1), "learning_rate"),
    },
    "0.3.0": {
        "field": (_spec(sharpness=0.1), "sharpness"),
        "network": (_spec(network="transformer"), "network: .*'transformer'"),
        "recipe": (_spec(recipe={"name": "of_tomorrow", "eps": 0.1}), "recipe: .*of_tomorrow"),
        "data set": (_spec(data={"dataset": "imagenet"}), "data.dataset: .*'imagenet'"),
        "field of the data": (_spec(data={"dataset": "digits", "blur": 3}), "blur"),
        "value": (_spec(epochs=10**9), "epochs"),
        "kind": (_spec(epochs=[1, 2]), "epochs"),
        "figures": (_card(metrics={"test_accuracy": {"mean": 0.5}}), "metrics.test_accuracy"),
        "shapes": (_card(shape=[8, 8]), "shape"),
    },
    "2.0.0": {
        "format": (_card(format=2), "of format 2, which a later version"),
        "format and fields": (_card(format=3, files=None, spec={"seed": 0}, kind="model"), "of format 3"),
        "task": (_card(task="distil"), "task 'distil'"),
        "files": (_card(files=[1]), "another kind of files"),
        "created": (_card(created=12.5), "another kind of created"),
    },
}
"""Version → what is other in it → what changes a model's card, and what the reason says (a regular expression)."""

RESULTS: dict[str, dict[str, tuple[Callable[[Card], None], str]]] = {
    "0.0.7": {
        "metrics": (_without("metrics", "rows"), "expected a value, got nothing"),
        "format": (_card(format=0), ""),
    },
    "0.3.0": {
        "method": (_spec(attack={"name": "of_tomorrow"}), "attack: .*of_tomorrow"),
        "field": (_spec(patience=3), "patience"),
        "value": (_spec(n=-3), "n: "),
        "data": (_spec(data={"dataset": "imagenet"}), "imagenet"),
    },
    "2.0.0": {"format": (_card(format=2), "of format 2"), "task": (_card(task="haunt"), "task 'haunt'")},
}
"""The same for results: attacks and sweeps."""


def plant(artifact: store.Artifact, change: Callable[[Card], None], version: str, mark: int = 0) -> Path:
    """A copy of a sound artifact beside it, as another version would have left it; returns its folder.

    mark: tells it from another copy that differs in its card alone.
    """
    card = deepcopy(artifact.card)
    card["spec"]["seed"] = card["spec"].get("seed", 0) + 1 + mark
    card["versions"]["adversarial_lab"] = version
    change(card)
    name = TASKS[card["task"]].__name__ if card["task"] in TASKS else "SpecOfTomorrow"
    card["key"] = cards.json_hash({"format": card["format"], "spec": name, **card["spec"]})
    card["sha256"] = cards.card_hash(card)
    folder = artifact.folder.with_name(f"{artifact.id.rpartition('-')[0]}-{card['key'][:10]}")
    shutil.copytree(artifact.folder, folder, ignore=shutil.ignore_patterns("results"))
    (folder / cards.CARD).write_text(json.dumps(card))
    return folder


def plant_all(model: store.Artifact, result: store.Artifact) -> dict[Path, str]:
    """Every one of `MODELS` and of `RESULTS`, made from these two; folder → what the reason says."""
    found = {}
    for original, kinds in ((model, MODELS), (result, RESULTS)):
        for version, changes in kinds.items():
            for change, says in changes.values():
                found[plant(original, change, version, mark=len(found))] = says
    return found
