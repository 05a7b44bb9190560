"""The command that makes somebody else's network a saved model: import."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from core.cli.flags import add_fields, given
from core.cli.output import note, progress, show
from core.jobs import devices
from core.specs import DataSpec, ImportSpec
from core.specs.importing import label_of

_WIDTHS = {"verdict": 8, "question": 22}
_NO_WEIGHTS = (
    "torchvision:NAME and timm:NAME are architectures of these packages, and every network of `train` is one; see "
    "docs/tasks/import.md"
)


def import_flags(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """The file, the data set, and what is known of the network already."""
    command.add_argument(
        "source",
        metavar="FILE",
        help="an ONNX file; or, with --architecture, weights: safetensors, or a state_dict of PyTorch. With "
        "--trust-code also package.module:function, a pickled module, TorchScript or .pt2.",
    )
    command.add_argument(
        "--data",
        required=True,
        metavar="NAME",
        help="the data set that the model is for: NAME, NAME:CLASS,CLASS, folder:PATH or PATH.npz",
    )
    add_fields(command, ImportSpec, leave_out=("data", "route", "digest"))
    command.add_argument(
        "--trust-code", action="store_true", help="run the code that the source holds or names; it may do anything"
    )
    command.add_argument("--device", help=devices.HELP)


def import_(options: dict[str, Any], as_json: bool) -> None:
    """Import a model and show what was found out about it."""
    from core.jobs.importing import import_model

    options = given(options)
    source, trusted = options.pop("source"), options.pop("trust_code")
    options["data"] = DataSpec.model_validate(options["data"])
    options.setdefault("label", label_of(source.rpartition(":")[2]))
    device = options.pop("device", None)
    model = _source(source, trusted, options.get("architecture", ""))
    with progress() as line:
        made = import_model(model, device=device, on_progress=line, **options)
    card = made.card
    for text in card.get("data", {}).get("notes", ()):
        note(text)
    metrics = card["metrics"]
    row = {
        "model": made.id,
        "test_accuracy": metrics["test_accuracy"],
        "low": metrics["test_low"],
        "high": metrics["test_high"],
        "n": metrics["test_n"],
        "parameters": card["network"]["parameters"],
    }
    if as_json:
        show({**row, "framing": card["framing"], "found": card["found"]}, as_json)
        return
    print(_table(card["found"]))
    print()
    show({**row, "result": str(made.folder)}, as_json)
    doubts = [finding["title"] for finding in card["found"] if finding["verdict"] in ("doubt", "wrong")]
    if doubts:
        note(f"LOOK AT THIS BEFORE YOU USE ITS FIGURES: {'; '.join(doubts)}")


def _source(source: str, trusted: bool, architecture: str) -> Any:
    """What is imported: a path, or the module that trusted code brings into memory.

    Raises:
        ValueError: no such file; weights without an architecture; code that nobody said is trusted.
    """
    path = Path(source)
    if not path.exists() and ":" in source and not source.lower().endswith(".onnx"):
        kind = f"the function {source}"
    elif not path.is_file():
        raise ValueError(f"file: expected an existing file, got {source!r}{', a folder' if path.is_dir() else ''}")
    else:
        kind = "" if architecture else _kind(path)
    if not kind:
        return path
    if not trusted:
        raise ValueError(
            f"source: expected an ONNX file, or --architecture with weights, got {kind}. Weights need the network that "
            f"they are of: {_NO_WEIGHTS}. Loading anything else runs code from it: add --trust-code if you trust it"
        )
    from core.networks import trusted as code

    return code.load(source)


def _kind(path: Path) -> str:
    """What a file that is no ONNX graph seems to be; "" for one that may be."""
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"PK\x03\x04"):
        if path.suffix.lower() in (".npz", ".zip"):
            raise ValueError(f"file: expected a network, got {path.name}; images go into --data")
        return f"{path.name}, a checkpoint or a program of PyTorch"
    if head.startswith(b"\x80") and head[1:2] <= b"\x05":
        return f"{path.name}, a pickle"
    if head[8:9] == b"{" or path.suffix.lower() == ".safetensors":
        return f"{path.name}, weights as safetensors"
    return ""


def _table(found: Sequence[Mapping[str, Any]]) -> str:
    """The findings, those that ask for a look first in their column, wrapped to the terminal."""
    wide = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 120
    rest = max(40, wide - sum(_WIDTHS.values()) - 8)
    rows = [
        {
            "verdict": finding["verdict"],
            "question": finding["title"],
            "found out": " ".join(filter(None, (finding["said"], finding.get("advice", "")))),
        }
        for finding in found
    ]
    return tabulate(rows, headers="keys", maxcolwidths=[*_WIDTHS.values(), rest])
