"""Weights from files: what is read, where in a checkpoint, and what is refused before it is unpacked or run."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from core.networks.weight_files import plain_names, read


def _net() -> dict[str, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    return {name: value.clone() for name, value in net.state_dict().items()}


def _saved(value: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


def _prefixed(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


def _optimiser(weights: dict[str, Tensor]) -> dict[str, Any]:
    parameters = [nn.Parameter(value) for value in weights.values() if value.is_floating_point()]
    optimiser = torch.optim.Adam(parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    return optimiser.state_dict()


CHECKPOINTS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "alone": lambda weights: weights,
    "state_dict": lambda weights: {"state_dict": weights, "epoch": 3, "best": 0.9},
    "model_state_dict": lambda weights: {"model_state_dict": weights, "optimizer_state_dict": _optimiser(weights)},
    "lightning": lambda weights: {
        "state_dict": _prefixed(weights, "model."),
        "optimizer_states": [_optimiser(weights)],
        "hyper_parameters": {"lr": 0.1},
    },
    "deep": lambda weights: {"run": {"net": {"weights": weights}}, "optimizer": _optimiser(weights)},
}


@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.", "_orig_mod.model.", "net.", "backbone.body."])
@pytest.mark.parametrize("made", CHECKPOINTS)
@pytest.mark.parametrize("old", [False, True])
def test_weights_are_found_wherever_they_lie(made: str, prefix: str, old: bool) -> None:
    """In every nesting, under every prefix, in both formats of PyTorch: the same names and values."""
    weights = _net()
    data = _saved(CHECKPOINTS[made](_prefixed(weights, prefix)), _use_new_zipfile_serialization=not old)
    found = read(data)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_safetensors_in_every_float_become_float32(dtype: torch.dtype) -> None:
    """Counters keep their type; a change of type is said."""
    weights = _prefixed({name: v.to(dtype) if v.is_floating_point() else v for name, v in _net().items()}, "module.")
    notes: list[str] = []
    found = read(save_safetensors(weights), notes)
    assert found.keys() == _net().keys()
    assert found["0.weight"].dtype == torch.float32
    assert torch.equal(found["0.weight"], weights["module.0.weight"].to(torch.float32))
    assert found["1.num_batches_tracked"].dtype == torch.int64
    assert bool(notes) == (dtype != torch.float32)


def test_what_lies_beside_the_network_is_left_out_and_said() -> None:
    """The count of an averaged model, the weights of a loss."""
    weights = _net()
    beside = {"n_averaged": torch.tensor(7), "loss.weight": torch.ones(2)}
    notes: list[str] = []
    assert read(_saved({**_prefixed(weights, "module."), **beside}), notes).keys() == weights.keys()
    assert "n_averaged" in notes[0]


def test_of_two_sets_the_usual_one_is_taken_and_the_other_named() -> None:
    """An exponential average beside the weights."""
    weights = _net()
    other = {name: value + 1 for name, value in weights.items()}
    notes: list[str] = []
    found = read(_saved({"ema": other, "state_dict": weights}), notes)
    assert torch.equal(found["0.weight"], weights["0.weight"])
    assert "ema" in notes[0]


def test_names_without_a_shared_part_stay() -> None:
    """A layer's own parts are no prefix, nor is a part that holds little."""
    layer = {"fc.weight": torch.ones(2, 3), "fc.bias": torch.ones(2)}
    assert plain_names(layer).keys() == layer.keys()
    two = {"model.weight": torch.ones(2), "head.weight": torch.ones(9)}
    assert plain_names(two).keys() == two.keys()


class _Bad:
    """What a pickle can do."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.mark, "run"))


@pytest.mark.parametrize("old", [False, True])
def test_a_pickle_that_needs_code_is_not_run(tmp_path: Path, old: bool) -> None:
    """The sentence names what it wanted."""
    mark = tmp_path / "mark"
    data = _saved({"state_dict": _net(), "extra": _Bad(mark)}, _use_new_zipfile_serialization=not old)
    with pytest.raises(ValueError, match=r"file: .*needs code \(.*(pathlib|getattr).*not run"):
        read(data)
    assert not mark.exists()


def _zip(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as packed:
        for name, content in entries.items():
            packed.writestr(name, content)
    return out.getvalue()


def _npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, x=np.zeros(3))
    return out.getvalue()


def _script() -> bytes:
    out = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), out)
    return out.getvalue()


def _lying_zip() -> bytes:
    """A zip whose directory declares eight terabytes."""
    data = bytearray(_zip({"a/data.pkl": b"\x80\x02}."}))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (0xFFFFFFF0).to_bytes(4, "little")
    return bytes(data)


def _header(entry: dict[str, Any], values: bytes = b"") -> bytes:
    text = json.dumps(entry).encode()
    return len(text).to_bytes(8, "little") + text + values


def _entry(dtype: str, shape: list[int], size: int) -> dict[str, Any]:
    return {"a.weight": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "noise": (lambda: b"\x07noise" * 9, "got neither"),
    "hdf5": (lambda: b"\x89HDF\r\n" + b"0" * 99, "HDF5"),
    "arrays": (_npz, "arrays of NumPy"),
    "zip of text": (lambda: _zip({"a.txt": b"text"}), "a zip of other files"),
    "broken zip": (lambda: _saved(_net())[:200], "damaged zip"),
    "cut checkpoint": (lambda: _saved(_net(), _use_new_zipfile_serialization=False)[:-40], "cannot be read"),
    "zip bomb": (lambda: _zip({"a/data.pkl": bytes(60 << 20)}, zipfile.ZIP_DEFLATED), "declares"),
    "lying zip": (_lying_zip, "declares"),
    "endless view": (lambda: _saved({"a.weight": torch.ones(1).expand(10**10)}), "got tensors of"),
    "a tensor": (lambda: _saved(torch.ones(3)), "got a tensor"),
    "a list": (lambda: _saved([torch.ones(3)]), "got a list"),
    "no tensors": (lambda: _saved({"epoch": 3}), "without any"),
    "nan": (lambda: _saved({**_net(), "3.bias": torch.tensor([1, float("nan")])}), "NaN or infinity in 3.bias"),
    "infinite": (lambda: save_safetensors({"a.weight": torch.tensor([float("inf")])}), "NaN or infinity in a.weight"),
    "integers": (lambda: save_safetensors({"a.weight": torch.ones(2, dtype=torch.int8)}), "int8 in a.weight"),
    "counts as weights": (lambda: _saved({"a.weight": torch.ones(2, dtype=torch.int64)}), "int64 in a.weight"),
    "complex": (lambda: _saved({"a.weight": torch.ones(2, dtype=torch.complex64)}), "complex64"),
    "sparse": (lambda: _saved({"a.weight": torch.eye(3).to_sparse()}), "plain tensors"),
    "quarter": (lambda: _header(_entry("F8_E4M3", [4], 4), bytes(4)), "F8_E4M3"),
    "huge header": (lambda: (1 << 40).to_bytes(8, "little") + b'{"a":1}', "a header within"),
    "short values": (lambda: _header(_entry("F32", [4], 16), bytes(8)), "cannot be read"),
    "overflowing shape": (lambda: _header(_entry("F32", [1 << 40, 1 << 40], 16), bytes(16)), "cannot be read"),
    "broken header": (lambda: (9).to_bytes(8, "little") + b'{"a":oops' + bytes(9), "cannot be read"),
    "a list for a header": (lambda: _header({"a": [1]}), "cannot be read"),
    "script": (_script, "TorchScript"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", REFUSED)
def test_bad_files_are_refused_in_a_sentence(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ValueError that begins with `file`, in one line; nothing is left behind."""
    data = REFUSED[kind][0]()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ValueError, match=REFUSED[kind][1]) as caught:
        read(data)
    assert str(caught.value).startswith("file: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert list(tmp_path.iterdir()) == []


def test_every_cut_of_a_file_is_refused() -> None:
    """A download that broke off anywhere."""
    for data in (_saved(_net()), save_safetensors(_net()), _saved(_net(), _use_new_zipfile_serialization=False)):
        for end in range(0, len(data) - 1, max(1, len(data) // 40)):
            with pytest.raises(ValueError, match=r"^file: "):
                read(data[:end])
