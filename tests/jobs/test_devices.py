"""Devices: checked against the CPU at their first use, left out in one sentence where they err, chosen in one place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core import specs
from core.__main__ import main
from core.cli.parser import COMMANDS
from core.jobs import devices, running, self_check, worker
from core.storage import store
from tests.pretended import Pretended, computed


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test meets its device for the first time."""
    monkeypatch.setattr(devices, "_faults", {})
    monkeypatch.setattr(devices, "_said", set())


@pytest.fixture
def pretended() -> Iterator[None]:
    """A device that is fine."""
    with Pretended():
        yield


def err_in(monkeypatch: pytest.MonkeyPatch, name: str, wrong: Any) -> None:
    """Let an operation of the device give something else: `wrong` is called with what it gives on the CPU."""
    from tests import pretended

    def erring(func: Any, args: Any, kwargs: Any, **settings: Any) -> Any:
        made = computed(func, args, kwargs, **settings)
        return wrong(made) if func.__name__.split(".")[0] == name else made

    monkeypatch.setattr(pretended, "computed", erring)


def test_a_device_that_is_fine_is_taken(pretended: None, store_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is checked once: not again in this process, nor in the next one with the same store and versions."""
    store_root.mkdir()
    looked: list[str] = []
    compare = self_check.compare

    def counted(device: str) -> None:
        looked.append(device)
        compare(device)

    monkeypatch.setattr(self_check, "compare", counted)
    said: list[str] = []
    for _ in range(2):
        assert devices.settled(None, store_root, said.append) == "cuda"
    assert (looked, said) == (["cuda"], [])
    monkeypatch.setattr(devices, "_faults", {})  # another process
    assert devices.settled("cuda", store_root, said.append) == "cuda"
    assert len(looked) == 1
    monkeypatch.setattr(devices, "_faults", {})
    monkeypatch.setattr(torch, "__version__", "another")
    assert devices.settled("cuda", store_root, said.append) == "cuda"
    assert len(looked) == 2
    monkeypatch.setattr(devices, "_faults", {})
    (store_root / devices.PASSED).write_bytes(b"cut sh")
    assert devices.settled("cuda", store_root, said.append) == "cuda"
    assert (len(looked), said) == (3, [])


FAULTS = {
    "logits": ("convolution", lambda made: made * 1.01),
    "gradients": ("convolution_backward", lambda made: tuple(None if one is None else one * 1.01 for one in made)),
    "not a number": ("relu", lambda made: made * torch.nan),
    "lengths of steps": ("linalg_vector_norm", lambda made: made * 1.1),
}
"""What one operation of a broken device gives."""


@pytest.mark.parametrize("name", FAULTS)
def test_a_device_that_errs_is_left_out(
    name: str, pretended: None, monkeypatch: pytest.MonkeyPatch, store_root: Path
) -> None:
    """One sentence, once, and the CPU; nothing of it is remembered in the store."""
    store_root.mkdir()
    err_in(monkeypatch, *FAULTS[name])
    said: list[str] = []
    assert [devices.settled(None, store_root, said.append) for _ in range(3)] == ["cpu"] * 3
    (text,) = said
    assert text.startswith("cuda (a pretended device) is left out, since ")
    assert "the CPU" in text
    assert text.endswith(". Everything runs on the CPU.")
    assert not (store_root / devices.PASSED).exists()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: no kernel image is available\nand much more"),
        torch.OutOfMemoryError("CUDA out of memory."),
        NotImplementedError("aten::x on MPS"),
        AssertionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_device_that_raises_is_left_out(error: Exception, pretended: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the error, in one line."""

    def broken(made: Tensor) -> Tensor:
        raise error

    err_in(monkeypatch, "convolution", broken)
    said: list[str] = []
    assert devices.settled("cuda", None, said.append) == "cpu"
    assert type(error).__name__ in said[0]
    assert "\n" not in said[0]


def test_a_device_without_double_precision_is_left_out() -> None:
    """As Apple's: proofs need it, and the sentence says so."""
    said: list[str] = []
    with Pretended(float64=False):
        assert devices.settled("cuda", None, said.append) == "cpu"
    assert "float64" in said[0]


def test_apples_device_is_there_but_not_taken_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for, it is checked like any other."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(self_check, "compare", lambda device: None)
    assert devices.every() == ["cpu", "mps"]
    assert devices.settled(None) == "cpu"
    assert devices.settled("mps") == "mps"

    def without(device: str) -> None:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")

    monkeypatch.setattr(self_check, "compare", without)
    monkeypatch.setattr(devices, "_faults", {})
    said: list[str] = []
    assert devices.settled("mps", None, said.append) == "cpu"
    assert "support float64" in said[0]


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:1", "mps:9", "cpu:x", ""])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    """By name, before PyTorch looks for a driver."""
    with pytest.raises(ValueError, match=r"^device: expected one that is there \(cpu\), got"):
        devices.settled(device)


def test_a_number_beyond_the_last_is_refused(pretended: None) -> None:
    """There is one device, number 0."""
    assert devices.settled("cuda:0") == "cuda:0"
    with pytest.raises(ValueError, match=r"there \(cpu, cuda\), got 'cuda:1'"):
        devices.settled("cuda:1")


def test_a_task_runs_on_the_cpu_where_the_device_errs(
    pretended: None, monkeypatch: pytest.MonkeyPatch, trained_store: Path, tmp_path: Path
) -> None:
    """From the spec to the card, with the sentence as a note; the answer is there."""
    import shutil

    root = Path(shutil.copytree(trained_store, tmp_path / "copy"))
    err_in(monkeypatch, *FAULTS["logits"])
    notes: list[str] = []
    (made,) = running.run_all(specs.SweepSpec(model="digits-mlp", eps=(0.1,), n=4), root, note=notes.append)
    assert made.card["device"] == "cpu"
    assert len(notes) == 1
    assert isinstance(made, store.Artifact)


def test_a_device_that_is_full_is_said_in_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a command and by a job; any other error of PyTorch comes through."""

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")

    monkeypatch.setitem(COMMANDS, "device", COMMANDS["device"]._replace(run=full))
    assert main(["device"]) == 1
    assert capsys.readouterr().err == devices.FULL + "\n"
    assert worker._sentence(torch.OutOfMemoryError("CUDA out of memory.")) == devices.FULL
    assert worker._sentence(RuntimeError("another")) == "RuntimeError: another"


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The rows of `device --json`."""
    assert main(["device", "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates of small matrices."""
    rate = devices.matrix_rate
    monkeypatch.setattr(devices, "matrix_rate", lambda device, kind: rate(device, kind, side=16, seconds=1e-3))


def test_the_command_without_a_device(capsys: pytest.CaptureFixture[str], quickly: None) -> None:
    """The CPU alone, with its rates."""
    (row,) = told(capsys)
    assert (row["device"], row["check"], row["used"], row["tf32"]) == ("cpu", "reference", True, None)
    assert row["float32"] > 0
    assert row["bfloat16"] > 0
    assert main(["device"]) == 0
    assert "Tasks run on cpu" in capsys.readouterr().err


def test_the_command_with_a_device(
    capsys: pytest.CaptureFixture[str], quickly: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory, what the check said, which is used; of one that errs why, and no rates."""
    with Pretended():
        cpu, cuda = told(capsys)
        assert (cpu["used"], cuda["used"], cuda["check"]) == (False, True, "agrees with the CPU")
        assert (cuda["name"], cuda["memory_gib"], cuda["fault"]) == ("a pretended device", 8, None)
        assert min(cuda[kind] for kind in devices.RATES) > 0
        monkeypatch.setattr(devices, "_faults", {})
        monkeypatch.setattr(devices, "_passed", lambda root: [])
        err_in(monkeypatch, *FAULTS["logits"])
        cpu, cuda = told(capsys)
        assert (cpu["used"], cuda["used"], cuda["check"]) == (True, False, "left out")
        assert cuda["float32"] is None
        assert main(["device"]) == 0
        assert "the logits differ from the CPU's by 0.0" in capsys.readouterr().err
