"""Every page opens on a store that other versions have used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.storage import cards, files, left_out, store
from tests import other_versions
from tests.fixtures.artifacts import LINEAR, STORE
from tests.pages.conftest import Lab
from ui.app import routes
from ui.models import unreadable
from ui.text import literal


@pytest.fixture
def mixed(lab: Lab) -> dict[Path, str]:
    """A store of this version and of three others, with their jobs: see `tests.other_versions`."""
    shutil.copytree(STORE, lab.root)
    model = store.open_model(LINEAR.artifact_name(), lab.root)
    for place, state in enumerate(("done", "failed", "cancelled", "dead", "running", "waiting")):
        spec = lab.root / ".jobs" / lab.job(LINEAR, state) / "spec.json"
        body = json.loads(spec.read_text())
        body |= {"task": "distil"} if place % 2 else {"spec": body["spec"] | {"sharpness": 1}}
        spec.write_text(json.dumps(body))
    return other_versions.plant_all(model, store.results(model.id, lab.root, "attack")[0])


@pytest.mark.parametrize("page", routes.ROUTES)
def test_every_page_opens(page: str, lab: Lab, mixed: dict[Path, str]) -> None:
    """Without an exception; what is of this version is there."""
    app = lab.open(page)
    assert not app.exception
    assert all(folder.is_dir() for folder in mixed)


def _misfit(folder: Path) -> None:
    """Weights of another network than the spec names today, sound in themselves."""
    card = json.loads((folder / cards.CARD).read_bytes())
    data = files.encode_arrays({"1.weight": np.zeros((3, 4), dtype=np.float32)})
    (folder / "weights.safetensors").write_bytes(data)
    card["files"]["weights.safetensors"] = cards.hash_of(data)
    (folder / cards.CARD).write_text(json.dumps(card | {"sha256": cards.card_hash(card)}))


def _flip(name: str) -> Callable[[Path], None]:
    def flip(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[-1] ^= 1
        (folder / name).write_bytes(data)

    return flip


HARM = {"misfit": _misfit, "weights": _flip("weights.safetensors"), "table": _flip("test.parquet")}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("page", routes.ROUTES)
def test_every_page_opens_on_models_that_cannot_be_used(page: str, harm: str, lab: Lab) -> None:
    """Weights of another network, or damaged files: a sentence where they are needed, and no exception."""
    made = [lab.model(), lab.model(data={"dataset": "digits", "classes": (4, 9)}, scalar=True)]
    for model in made:
        HARM[harm](model.folder)
    app = lab.open(page)
    assert not app.exception
    if harm == "misfit":
        assert all(model.folder.is_dir() for model in made)


def test_the_page_models_lists_what_cannot_be_read(
    lab: Lab, mixed: dict[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reason and the version that made it, and no Markdown of theirs; nothing of it where all can be read."""
    found = left_out.unreadable(lab.root)
    assert {one.name for one in found} == {folder.name for folder in mixed}
    (table,) = (one.value for one in lab.open("models").table)
    of_models = [f" of {literal(one.model)}" if one.model else "" for one in found]
    assert list(table["Name"]) == [literal(one.name) + more for one, more in zip(found, of_models, strict=True)]
    assert list(table["Reason"]) == [literal(one.why) for one in found]
    assert set(table["Made by version"]) == {literal(version) for version in other_versions.MODELS}
    monkeypatch.setattr(unreadable, "MOST", 2)
    app = lab.open("models")
    assert len(app.table[0].value) == 2
    assert any(f"And {len(found) - 2} more" in caption.value for caption in app.caption)
    for folder in mixed:
        shutil.rmtree(folder)
    assert not lab.open("models").table
