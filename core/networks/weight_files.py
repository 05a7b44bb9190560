"""Weights from a file: safetensors, or a checkpoint of PyTorch read without running its code.

Nothing is unpacked before its declared size was looked at, and nothing is written: a file is read from memory.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

LARGEST = 4 << 30
"""Bytes of all weights together, at most."""
RATIO = 50
"""How many times a zip may declare to grow when it is unpacked; PyTorch's own checkpoints do not compress."""
HEADER = 100 << 20
"""Bytes of the header of a safetensors file, at most."""
DEPTH = 8
"""How deeply weights may be nested in a checkpoint."""
WRAPPERS = ("module", "_orig_mod", "model", "net", "network", "state_dict")
"""First parts of names that wrappers leave: DataParallel, torch.compile, Lightning, averaged models."""
_PREFERRED = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params")
_NO_WEIGHTS = re.compile(r"optim|^opt$|sched|scaler|^amp$|loops|callbacks|hyper|rng", re.IGNORECASE)
_OF_OPTIMISERS = {"exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg"}
_WIDE = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_COUNTS = (torch.int64, torch.int32, torch.bool)
_PLACES = {b"\x89HDF": "an HDF5 file, as Keras writes", b"GGUF": "a GGUF file", b"\x93NUM": "a NumPy array"}


def read(data: bytes, notes: list[str] | None = None) -> dict[str, Tensor]:
    """The tensors of a file by name, float32 (counters as they are), on the CPU.

    Of several dictionaries of tensors in a checkpoint the one with the most values is taken; optimiser state is left
    out. The prefixes that wrappers leave (`module.`, `model.`, `net.`, `_orig_mod.`) and any that all names share are
    taken off, see `plain_names`.

    Args:
        data: bytes of a safetensors file or of what `torch.save` wrote.
        notes: sentences on what was decided are appended to it.

    Raises:
        ValueError: another kind of file; a pickle that needs code; more bytes than `LARGEST` declared; no tensors;
            values that are not finite, quantised, sparse or complex. Nothing of the file is run.
    """
    said: list[str] = [] if notes is None else notes
    found = _of_safetensors(data) if _is_safetensors(data) else _of_checkpoint(data, said)
    _check_size(found, len(data))
    return {name: _checked(name, value, said) for name, value in _finite(plain_names(found, said)).items()}


def plain_names(weights: Mapping[str, Tensor], notes: list[str] | None = None) -> dict[str, Tensor]:
    """The same tensors without the prefixes of wrappers.

    A first part that all names share goes, again and again, as long as names with a dot remain. Where one of
    `WRAPPERS` holds most of the values, tensors beside it (the count of an averaged model, the weights of a loss) are
    left out, which `notes` say.
    """
    names = dict(weights)
    while names:
        parts: dict[str, int] = {}
        for name, value in names.items():
            first = name.split(".", 1)[0] if "." in name else ""
            parts[first] = parts.get(first, 0) + value.numel()
        main = max(parts, key=lambda part: parts[part])
        wrapped = main in WRAPPERS and 2 * parts[main] > sum(parts.values())
        if not main or (len(parts) > 1 and not wrapped):
            return names
        inside = {name.split(".", 1)[1]: value for name, value in names.items() if name.startswith(f"{main}.")}
        if len(parts) == 1 and not wrapped and not any("." in name for name in inside):
            return names  # the parts of a single layer
        if len(parts) > 1 and notes is not None:
            beside = [name for name in names if not name.startswith(f"{main}.")]
            notes.append(f"Beside the network ({main}.…) the file holds {listed(beside)}: left out.")
        names = inside
    return names


def listed(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    every = list(names)
    rest = len(every) - most
    return ", ".join(every[:most]) + (f" and {rest} more" if rest > 0 else "")


# ---------------------------------------------------------------- safetensors


def _is_safetensors(data: bytes) -> bool:
    return len(data) > 9 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") >= 2


def _of_safetensors(data: bytes) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    header = int.from_bytes(data[:8], "little")
    if header > min(HEADER, len(data) - 8):
        raise ValueError(f"file: expected a header within a safetensors file of {len(data):,} bytes, got {header:,}")
    try:
        kinds = {
            str(entry["dtype"]) for name, entry in json.loads(data[8 : 8 + header]).items() if name != "__metadata__"
        }
        if odd := sorted(kinds - {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}):
            raise ValueError(f"file: expected weights in float32, float64, float16 or bfloat16, got {', '.join(odd)}")
        return dict(load(data))
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"file: expected a whole safetensors file, got one that cannot be read: {error}") from error


# ---------------------------------------------------------------- checkpoints of PyTorch


def _of_checkpoint(data: bytes, notes: list[str]) -> dict[str, Tensor]:
    for magic, kind in _PLACES.items():
        if data.startswith(magic):
            raise ValueError(f"file: expected safetensors or a checkpoint of PyTorch, got {kind}")
    if data[:4] == b"PK\x03\x04":
        _check_zip(data)
    elif data[:1] != b"\x80":
        raise ValueError("file: expected safetensors or a checkpoint of PyTorch, got neither")
    try:
        with warnings.catch_warnings(action="ignore"):  # such as on sparse tensors, which are refused below
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(_needs_code(data, str(error))) from None
    except Exception as error:  # a damaged pickle can end in anything
        raise ValueError(
            f"file: expected a whole checkpoint of PyTorch, got one that cannot be read: {_first_line(error)}"
        ) from None
    return _largest(loaded, notes)


def _check_zip(data: bytes) -> None:
    """Refuse a zip that declares to unpack to more than it may, or that holds a program. Nothing is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            entries = packed.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, EOFError) as error:
        raise ValueError(f"file: expected a whole checkpoint of PyTorch, got a damaged zip: {error}") from None
    total = sum(entry.file_size for entry in entries)
    if total > LARGEST or total > RATIO * len(data) + (1 << 20):
        raise ValueError(
            f"file: expected a checkpoint that unpacks to {min(LARGEST, RATIO * len(data)):,} bytes at most, got one "
            f"of {len(data):,} bytes that declares {total:,}; it was not unpacked"
        )
    names = [entry.filename for entry in entries]
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        raise ValueError(
            "file: expected weights alone, got a TorchScript program, which could run code; it was not opened"
        )
    if any(name.endswith(("archive_format", "serialized_exported_program.json")) for name in names):
        raise ValueError(
            "file: expected weights alone, got a program of torch.export, which could run code; it was not opened"
        )
    if not any(name.endswith("data.pkl") for name in names):
        kind = "arrays of NumPy" if any(name.endswith(".npy") for name in names) else "a zip of other files"
        raise ValueError(f"file: expected safetensors or a checkpoint of PyTorch, got {kind}")


def _needs_code(data: bytes, text: str) -> str:
    """The sentence for a pickle that cannot be read as weights alone; it names what it wanted to call."""
    wanted: list[str] = []
    try:
        wanted = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(data)))
    except Exception:  # only the names would have come of it
        wanted = []
    if not wanted and (named := re.search(r"GLOBAL ([\w.]+)", text)):
        wanted = [named.group(1)]
    if not wanted:
        inner = text.partition("WeightsUnpickler error:")[2].strip() or text
        return f"file: expected a checkpoint of weights alone, got a pickle of more: {inner.splitlines()[0][:120]}"
    return (
        f"file: expected a checkpoint of weights alone, got a pickle that needs code ({listed(wanted)}); it was not "
        "run. Save model.state_dict() alone, best as safetensors"
    )


def _largest(loaded: Any, notes: list[str]) -> dict[str, Tensor]:
    """The dictionary of tensors with the most values in a checkpoint."""
    found: list[tuple[str, dict[str, Tensor]]] = []
    seen: set[int] = set()

    def look(value: Any, path: tuple[str, ...]) -> None:
        if not isinstance(value, Mapping) or id(value) in seen or len(path) > DEPTH:
            return
        seen.add(id(value))  # a structure that holds itself, or the same thing a thousand times, ends
        own = {key: entry for key, entry in value.items() if isinstance(key, str) and isinstance(entry, Tensor)}
        if own and not own.keys() & _OF_OPTIMISERS:
            found.append((".".join(path), own))
        for key, entry in value.items():
            if isinstance(key, str) and not _NO_WEIGHTS.search(key):
                look(entry, (*path, key))

    look(loaded, ())
    if not found:
        kind = "a tensor" if isinstance(loaded, Tensor) else f"a {type(loaded).__name__}"
        raise ValueError(f"file: expected named tensors (a state_dict), got {kind} without any")

    def rank(entry: tuple[str, dict[str, Tensor]]) -> tuple[int, int]:
        last = entry[0].rsplit(".", 1)[-1]
        return sum(v.numel() for v in entry[1].values()), -(
            _PREFERRED.index(last) if last in _PREFERRED else len(_PREFERRED)
        )

    path, best = max(found, key=rank)
    rivals = [other for other, values in found if other != path and values.keys() == best.keys()]
    if rivals:
        notes.append(
            f"The file holds several sets of weights: {path or 'the outermost'} was taken, not {listed(rivals)}."
        )
    return best


# ---------------------------------------------------------------- values


def _check_size(weights: Mapping[str, Tensor], size: int) -> None:
    """Refuse tensors that are larger than the file that they came from: a view can declare any size."""
    total = sum(value.numel() * max(4, value.element_size()) for value in weights.values())
    if total > LARGEST or total > 8 * size + (1 << 20):
        raise ValueError(f"file: expected weights of a file of {size:,} bytes, got tensors of {total:,} bytes")


def _finite(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    odd = [
        name
        for name, value in weights.items()
        if value.is_quantized
        or (value.is_floating_point() and value.dtype not in _WIDE)
        or (not value.is_floating_point() and value.dtype not in _COUNTS)
        or (not value.is_floating_point() and name.rsplit(".", 1)[-1] in ("weight", "bias"))
    ]
    if odd:
        kinds = sorted({str(weights[name].dtype).removeprefix("torch.") for name in odd})
        raise ValueError(f"file: expected weights in floating point, got {', '.join(kinds)} in {listed(odd)}")
    if held := [name for name, value in weights.items() if value.layout != torch.strided or value.is_meta]:
        raise ValueError(f"file: expected plain tensors with values, got others in {listed(held)}")
    if bad := [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise ValueError(f"file: expected finite weights, got NaN or infinity in {listed(bad)}")
    return weights


def _checked(name: str, value: Tensor, notes: list[str]) -> Tensor:
    if value.is_floating_point() and value.dtype != torch.float32:
        kind = str(value.dtype).removeprefix("torch.")
        said = f"Weights in {kind} were turned into float32."
        if said not in notes:
            notes.append(said)
        value = value.to(torch.float32)
    return value.detach().contiguous().clone()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:160]
