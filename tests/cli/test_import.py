"""The command `import`: from a file to a model that every other command takes; code runs only where it is trusted."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from core.__main__ import main
from core.jobs import queue
from core.jobs.importing import request
from core.storage import store, uploads
from tests.fixtures.artifacts import WEIGHTS

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")  # how old files are written
pytest.importorskip("onnx", reason="modules are exported to ONNX")


def call(capsys: Capture, *arguments: str) -> Any:
    """Run a command with --json and return what it printed."""
    status = main([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert status == 0, err
    return json.loads(out)


def refused(capsys: Capture, *arguments: str) -> str:
    """Run a command that is refused: one sentence, nothing in the store, nothing in its waiting room."""
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert not out
    assert len(err.strip().splitlines()) == 1, err
    root = store.default_root()
    assert [model.id for model in store.models(root)] == []
    assert list((root / uploads.UPLOADS).glob("*")) == []
    return err.strip()


def network() -> nn.Module:
    """A network that knows the digits: nearest to the mean of each class, as a linear layer."""
    from core.data.sets import load, to_float
    from core.specs import DataSpec

    train = load(DataSpec(dataset="digits")).train
    x = to_float(train.x).flatten(1)
    means = torch.stack([x[train.y == label].mean(0) for label in range(10)])
    made = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    made[1].weight.data, made[1].bias.data = means, -means.square().sum(1) / 2
    return made.eval()


def test_weights_become_a_model_that_every_command_takes(capsys: Capture, tmp_path: Path, store_root: Path) -> None:
    """Import, then list, evaluate behind a gate, certify, compare, curve and transfer beside a trained model."""
    file = shutil.copy(WEIGHTS, tmp_path / "My Net.safetensors")
    made = call(capsys, "import", str(file), "--data", "digits", "--architecture", "linear")
    model = made["model"]
    assert model.startswith("digits-my-net-imported-")
    assert made["test_accuracy"] == 0.9
    assert made["n"] == 360
    assert {finding["verdict"] for finding in made["found"]} <= {"fine", "note", "doubt"}
    assert made["framing"]["mean"] == [0.0]
    assert not list((store_root / uploads.UPLOADS).glob("*"))
    again = call(capsys, "import", str(file), "--data", "digits", "--architecture", "linear")
    assert again == made

    (row,) = call(capsys, "models")
    assert (row["model"], row["recipe"], row["seconds"]) == (model, "imported", None)
    flags = ("--model", "digits-my-net", "--eps", "8/255", "--n", "20")
    found = call(capsys, "evaluate", *flags, "--effort", "quick", "--fail-under", "0.1")
    assert found["gate"]["passed"] is True
    assert main(["evaluate", *flags, "--effort", "quick", "--fail-under", "1"]) == 3
    capsys.readouterr()
    proven = call(capsys, "certify", *flags, "--method", "ibp")
    assert 0 < proven["proven_accuracy"] <= found["robust_accuracy"]

    trained = call(capsys, "train", "--network", "linear", "--epochs", "2")["model"]
    table = call(capsys, "compare", "--models", model, trained, "--eps", "0", "8/255", "--n", "20")
    assert {row["model"] for row in table} == {model, trained}
    curve = call(capsys, "curve", "--models", model, "--eps", "8/255", "--n", "20")
    assert curve["curves"][0]["attacked"] == found["robust_accuracy"]
    pairs = call(capsys, "transfer", "--models", model, trained, "--eps", "0,1", "--n", "10")
    assert len(pairs) == 4
    assert main(["report", "--out", str(tmp_path / "report.html")]) == 0


def test_what_was_found_out_is_printed_for_people(capsys: Capture, tmp_path: Path) -> None:
    """A table of verdicts, then the model; what is in doubt is said at the end."""
    assert main(["import", str(WEIGHTS), "--data", "digits", "--architecture", "linear", "--label", "theirs"]) == 0
    out, err = capsys.readouterr()
    assert ["Which", "normalisation", "does", "it", "need?"][0] in out
    assert "digits-theirs-imported-" in out
    assert "0.9000" in out
    assert ("LOOK AT THIS" in err) == ("doubt" in out)


def test_images_of_a_file_judge_a_model(capsys: Capture, tmp_path: Path) -> None:
    """A model for a .npz file, and a model shown one: the same images give the same accuracy."""
    from core.data.sets import load
    from core.specs import DataSpec

    test = load(DataSpec(dataset="digits")).test
    np.savez(tmp_path / "mine.npz", x=test.x[:, 0].numpy(), y=test.y.numpy())
    flags = ("--architecture", "linear", "--mean", "0", "--std", "1")
    ours = call(capsys, "import", str(WEIGHTS), "--data", str(tmp_path / "mine.npz"), "--label", "ours", *flags)
    assert ours["model"].startswith("file-mine-ours-imported-")
    assert (ours["test_accuracy"], ours["n"]) == (0.9, 360)
    theirs = call(capsys, "import", str(WEIGHTS), "--data", "digits", "--label", "theirs", *flags)["model"]
    shown = ("sweep", "--model", theirs, "--eps", "0", "1/255", "--n", "360")
    rows = call(capsys, *shown, "--data", f"file:{tmp_path / 'mine.npz'}")
    assert rows[0]["data"] == "file-mine"
    assert [row["accuracy"] for row in rows] == [row["accuracy"] for row in call(capsys, *shown)]
    np.savez(tmp_path / "mine.npz", x=test.x[:, 0].numpy()[::-1], y=test.y.numpy())
    assert main(["sweep", "--model", ours["model"], "--eps", "0", "--n", "20"]) == 2
    assert "was imported for other images than" in capsys.readouterr().err


SOURCES = """
import torch
from tests.cli.test_import import network
def made(): return network()
def nothing(): return 3
def broken(): raise RuntimeError("no such network")
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody's module, and their network in the files that hold code."""
    (tmp_path / "theirs.py").write_text(SOURCES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2]))
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    net, x = network(), torch.rand(4, 1, 8, 8)
    torch.save({"epoch": 3, "model": net}, tmp_path / "pickled.pt")
    torch.jit.trace(net, x).save(str(tmp_path / "script.pt"))
    program = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, tmp_path / "program.pt2")
    return tmp_path


@pytest.mark.parametrize("source", ["theirs:made", "pickled.pt", "script.pt", "program.pt2"])
def test_code_runs_only_where_it_is_trusted(source: str, code: Path, capsys: Capture) -> None:
    """Without the flag one sentence; with it the same network, as an ONNX graph."""
    said = refused(capsys, "import", source, "--data", "digits")
    assert "add --trust-code if you trust it" in said
    assert "theirs" not in sys.modules
    made = call(capsys, "import", source, "--data", "digits", "--trust-code", "--mean", "0", "--std", "1")
    with torch.no_grad():
        from core.data.sets import load, to_float
        from core.specs import DataSpec

        test = load(DataSpec(dataset="digits")).test
        right = float((network()(to_float(test.x)).argmax(1) == test.y).double().mean())
    assert made["test_accuracy"] == pytest.approx(right)
    artifact = store.open_model(made["model"], store.default_root())
    assert {name for name in artifact.card["files"] if name.endswith((".onnx", ".safetensors"))} == {"model.onnx"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.onnx"], "file: expected an existing file, got 'nowhere.onnx'"),
        (["."], "a folder"),
        (["theirs:nothing", "--trust-code"], "expected a torch.nn.Module from theirs:nothing, got int"),
        (["theirs:broken", "--trust-code"], "theirs:broken could not be loaded: RuntimeError: no such network"),
        (["theirs:absent", "--trust-code"], "could not be loaded: AttributeError"),
        (["no.such.module:made", "--trust-code"], "could not be loaded: ModuleNotFoundError"),
        (["weights.safetensors"], "weights as safetensors. Weights need the network"),
        (["weights.safetensors", "--architecture", "lenet"], "architecture: expected the weights of lenet"),
        (["weights.safetensors", "--architecture", "linear", "--label", "My Net"], "label: "),
        (["images.npz"], "images go into --data"),
        (["text.onnx"], "ONNX"),
        (["weights.safetensors", "--architecture", "linear", "--mean", "0,5"], "mean and std together"),
        (["weights.safetensors", "--architecture", "linear", "--mean", "0", "--std", "0"], "numbers other than 0"),
    ],
)
def test_bad_imports_are_refused_and_leave_nothing(
    arguments: list[str], said: str, code: Path, capsys: Capture
) -> None:
    """One sentence each, with exit status 2."""
    shutil.copy(WEIGHTS, "weights.safetensors")
    np.savez("images.npz", x=np.zeros((2, 8, 8), np.uint8), y=np.arange(2))
    Path("text.onnx").write_text("hello")
    assert said in refused(capsys, "import", *arguments, "--data", "digits")


def test_a_job_imports_a_model(store_root: Path) -> None:
    """In a process of its own, as pages do; the file that waited is gone afterwards."""
    spec = request(WEIGHTS, data="digits", architecture="linear", label="job", root=store_root)
    assert uploads.where(spec.digest, store_root).is_file()
    job = queue.submit(spec, store_root)
    queue.work(job.folder)  # here, should the process not have begun
    while (job := queue.read(job.id, store_root)).live:
        time.sleep(0.05)
    assert job.state == "done", job.message
    assert store.open_model(spec.artifact_name(), store_root).card["metrics"]["test_accuracy"] == 0.9
    assert not uploads.where(spec.digest, store_root).exists()
