"""Networks of others (VNN-COMP 2021), through every command: import, evaluate behind a gate, certify, compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.__main__ import main
from core.data.folder import data_root, is_present

FOREIGN = data_root() / "foreign"
NETWORKS = {
    "mnistfc/mnist-net_256x2.onnx": ("mnist", "mnist-linear", 0.95, "fine"),
    "mnistfc/mnist-net_256x4.onnx": ("mnist", "mnist-linear", 0.95, "fine"),
    "mnistfc/mnist-net_256x6.onnx": ("mnist", "mnist-linear", 0.95, "fine"),
    "mnist_relu_9_200.onnx": ("mnist", "mnist-linear", 0.92, "fine"),
    "cifar_base_kw.onnx": ("cifar10", "cifar10-standard", 0.55, "doubt"),
}
"""The data set, a bundled model to compare with, clean accuracy at least, and the verdict on its normalisation."""
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.slow,
    pytest.mark.skipif(not FOREIGN.is_dir(), reason="needs the foreign networks in the data folder"),
]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Run a command with --json and return what it printed."""
    status = main([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert status == 0, err
    return json.loads(out)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_foreign_network_goes_through_every_command(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, store_root: Path
) -> None:
    """What is found out is right, and accuracy lies in order: proven, attacked, clean; beside a bundled model."""
    data, bundled, clean, verdict = NETWORKS[name]
    if not is_present(data):
        pytest.skip(f"no {data} in {data_root()}")
    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE", raising=False)
    made = call(capsys, "import", str(FOREIGN / name), "--data", data)
    assert made["test_accuracy"] > clean
    found = {finding["name"]: finding for finding in made["found"]}
    assert found["normalisation"]["verdict"] == verdict, found["normalisation"]["said"]
    for question in ("layout", "outputs", "classes", "calls", "neighbours", "gradients", "layers"):
        assert found[question]["verdict"] == "fine", found[question]["said"]
    flags = ("--model", made["model"], "--eps", "2/255", "--n", "20")
    judged = call(capsys, "evaluate", *flags, "--effort", "quick", "--fail-under", "0.1")
    proven = call(capsys, "certify", *flags, "--method", "crown")
    assert 0 <= proven["proven_accuracy"] <= judged["robust_accuracy"] <= judged["clean_accuracy"]
    rows = call(
        capsys,
        *("compare", "--models", made["model"], bundled, "--attacks", "fgsm", "--eps", "0", "2/255", "--n", "20"),
    )
    assert {row["model"] for row in rows} > {made["model"]}
