"""Networks of the verification competition of 2021 (VNN-COMP): lowered, and never against its published verdicts."""

from __future__ import annotations

import csv
from collections import defaultdict

import pytest
import torch

from core.certification.exact import verify
from core.certification.graph import lower
from core.certification.proof import certified_margins
from core.data.folder import data_root
from core.data.vnnlib import read_property
from core.networks.framed import Framed
from core.networks.onnx_network import OnnxNetwork
from core.specs import Framing

FOREIGN = data_root() / "foreign"
MNISTFC = FOREIGN / "mnistfc"
pytestmark = pytest.mark.skipif(not FOREIGN.is_dir(), reason="needs the foreign networks in the data folder")

FILES = {
    "mnistfc/mnist-net_256x2.onnx": (1, 28, 28),
    "mnistfc/mnist-net_256x4.onnx": (1, 28, 28),
    "mnistfc/mnist-net_256x6.onnx": (1, 28, 28),
    "mnist_relu_9_200.onnx": (1, 28, 28),
    "cifar_base_kw.onnx": (3, 32, 32),
}
WORDS = {"holds": "unsat", "UNSAT": "unsat", "violated": "sat", "SAT": "sat"}
"""Verdicts of 2021: of the property that the label can be changed."""


def framed(name: str) -> Framed:
    """A network for images; its normalisation does not matter here."""
    network = OnnxNetwork((FOREIGN / name).read_bytes())
    return Framed(network, Framing(shape=network.takes)).eval().requires_grad_(False)


@pytest.mark.parametrize("name", FILES)
def test_graphs_are_the_networks(name: str) -> None:
    """Read, compared with ONNX's own numbers, any batch, and lowered for proofs."""
    model, shape = framed(name), FILES[name]
    assert isinstance(model.body, OnnxNetwork)
    assert (model.body.outputs, model.body.one_by_one, model.body.unchecked) == (10, False, ())
    x = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0))
    made = lower(model, shape, torch.float64).forward(x.double())[-1]
    assert torch.allclose(made.float(), model(x), atol=1e-4, rtol=1e-5)
    y = model(x).argmax(1)
    assert (certified_margins(model, x, y, 1e-5, method="crown") > -torch.inf).all()


def published() -> dict[tuple[str, str], set[str]]:
    """What the tools of 2021 said of each network and property."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    with (MNISTFC / "published.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["year"] == "2021" and row["verdict"] in WORDS:
                found[row["net"], row["property"]].add(WORDS[row["verdict"]])
    return found


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("mnist-net_256x2.onnx", 5),
        pytest.param("mnist-net_256x2.onnx", 30, marks=pytest.mark.slow),
        pytest.param("mnist-net_256x4.onnx", 30, marks=pytest.mark.slow),
        pytest.param("mnist-net_256x6.onnx", 30, marks=pytest.mark.slow),
    ],
)
def test_verdicts_are_never_against_published_ones(name: str, count: int) -> None:
    """What is proven here no tool found to be false, and what is fooled here no tool proved."""
    said, model = published(), framed(f"mnistfc/{name}")
    paths = sorted(MNISTFC.glob("*.vnnlib"))[:: 30 // count]
    given = [read_property(path) for path in paths]
    x, eps = zip(*(one.ball((1, 28, 28)) for one in given), strict=True)
    labels, sizes = torch.tensor([one.label for one in given]), torch.tensor(eps, dtype=torch.float64)
    found = verify(model, torch.cat(x), labels, sizes, time_limit=1.0)
    decided = 0
    for path, verdict in zip(paths, found.verdict, strict=True):
        against = {"proven": "sat", "fooled": "unsat"}.get(verdict, "")
        assert against not in said[name, path.name]
        decided += bool(against)
    assert decided > 0
