"""Every page opens on a store that other versions have used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from core.storage import store
from tests import other_versions
from tests.fixtures.artifacts import LINEAR, STORE
from tests.pages.conftest import Lab
from ui.app import routes


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


def test_the_page_models_lists_what_cannot_be_read(lab: Lab, mixed: dict[Path, str]) -> None:
    """With the reason and the version that made it; nothing of it where all can be read."""
    app = lab.open("models")
    (table,) = (one.value for one in app.dataframe if "Reason" in one.value)
    assert set(table["Name"]) == {folder.name for folder in mixed}
    assert set(table["Made by version"]) == set(other_versions.MODELS)
    assert set(table["Kind"]) == {"model", "result"}
    for folder in mixed:
        shutil.rmtree(folder)
    assert not any("Reason" in one.value for one in lab.open("models").dataframe)
