"""The line of provenance names what a figure depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core import specs
from core.storage import store
from ui.app import jobs
from ui.show import provenance

if TYPE_CHECKING:
    from tests.pages.conftest import Lab


def test_line_leaves_out_what_is_not_known() -> None:
    """Only what is given, in a fixed order."""
    assert provenance.line(model="m", norm="linf", eps=0.1, seed=3, n=1000) == (
        "model m · ℓ∞ · ε 0.1 (25.5/255) · seed 3 · n = 1,000"
    )
    assert provenance.line(eps=(0.0, 0.3)) == "ε 0 to 0.3 (0/255 to 76.5/255)"


def test_line_of_a_result_names_model_data_attack_and_size(lab: Lab) -> None:
    """Read from the artifact's own spec and card."""
    model = lab.model()
    spec = specs.AttackSpec(model=model.id, attack={"name": "pgd", "norm": "l2", "steps": 7}, eps=0.5, n=3, seed=9)
    result = store.write(spec, lab.root, card={"metrics": {"n": 3}})
    line = provenance.of(result, model)
    for part in (model.id, "UCI digits 8×8", "PGD", "ℓ2", "ε 0.5 (127.5/255)", "7 steps", "seed 9", "n = 3", result.id):
        assert part in line


def test_line_of_a_model_names_its_training(lab: Lab) -> None:
    """Network, recipe, epochs and the size of the test set."""
    line = provenance.of(lab.model(network="mlp", epochs=4))
    for part in ("Dense network", "standard training", "4 epochs", "n = 360"):
        assert part in line


@pytest.mark.usefixtures("other_images")
def test_line_of_a_result_on_other_images_names_them_and_not_the_models_own(lab: Lab) -> None:
    """In the line, in what a job is called, and in the line of a record."""
    model = lab.model()
    spec = specs.AttackSpec(model=model.id, data="toy_faint", attack="fgsm", eps=0.1, n=3)
    line = provenance.of(store.write(spec, lab.root, card={"metrics": {"n": 3}}), model)
    assert "Toy faint digits test set" in line
    assert "UCI" not in line
    assert jobs.describe(spec)[1] == f"{model.id}, images of Toy faint digits"
    assert "images of" not in jobs.describe(spec.model_copy(update={"data": None}))[1]
