"""Networks and images for the page of the Jacobian attacks, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core import specs
from core.jobs import running
from core.storage import store
from ui.form import samples
from ui.sparse.case import Case

if TYPE_CHECKING:
    from tests.pages.conftest import Lab

PAGE = "sparse_attack"
SCALAR = specs.TrainSpec(data=specs.DataSpec(classes=(4, 9)), network="mlp", scalar=True, epochs=15)


def trained(lab: Lab, spec: specs.TrainSpec) -> store.Artifact:
    """A really trained network on digits."""
    made = running.run(spec, lab.root, device="cpu")
    assert isinstance(made, store.Artifact)
    return made


def case_of(model: store.Artifact, label: int = 0, target: int | None = None) -> Case:
    """The first image of a class, as the page would take it."""
    index = int(samples.candidates(model.table("test"), label).iloc[0]["index"])
    images = samples.images(model, [index])
    assert images is not None
    return Case.of(model, index, label, images[0], target=target)
