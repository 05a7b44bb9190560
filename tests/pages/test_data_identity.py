"""Pages on a MNIST whose labels are not its own: a sentence, never an exception and never a figure on them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core.data import mnist
from core.data.folder import data_root
from tests.data.test_identity import HEADER, changed
from tests.pages.conftest import Lab
from ui.app import routes

SOURCE = data_root() / "MNIST" / "raw"


@pytest.mark.real_data
@pytest.mark.parametrize("page", routes.ROUTES)
def test_every_page_opens_on_shifted_labels(page: str, lab: Lab, tmp_path: Path) -> None:
    """Where the page shows images, the sentence on them stands there, if only when they are asked for."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in mnist._SIZE:
        for kind in HEADER:
            shutil.copy(SOURCE / f"{part}-{kind}-ubyte", raw / f"{part}-{kind}-ubyte")
    changed(raw / "t10k-labels-idx1-ubyte", lambda y: (y + 1) % 10)
    lab.model(data={"dataset": "mnist"})
    lab.model(data={"dataset": "mnist", "classes": (4, 9)}, scalar=True)
    app = lab.open(page)
    said = [element.value for kind in (app.error, app.markdown, app.code) for element in kind]
    if page in ("sparse_attack", "masked_attack"):  # what the others show first is stored, or asked for
        assert any("other images or labels than it comes with" in text for text in said), said
