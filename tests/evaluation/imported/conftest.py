"""The network and images that made-up networks are made from."""

from __future__ import annotations

import pytest

from tests.evaluation.imported.made import Images


@pytest.fixture(scope="module")
def grey() -> Images:
    """A small network for the 28×28 digits that ships, and 200 test images."""
    from core.data.sets import first_of_test, to_float
    from core.models.saved import load_model
    from core.storage import bundled

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ADVERSARIAL_LAB_REFERENCE", raising=False)
        folder = bundled.folder("digits28-lenet-pgd-8b18107758")
    assert folder is not None
    saved = load_model(folder.name, folder.parent)
    batch = first_of_test(saved.data(), 200)
    return saved.model, to_float(batch.x), batch.y
