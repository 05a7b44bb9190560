"""Networks that only running somebody's code brings into memory: a function, a pickled module, TorchScript, `.pt2`.

Nothing here is called unless the caller said that the code is trusted.
"""

from __future__ import annotations

import importlib
import re
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class _Fixed(nn.Module):
    """A program that has no modes: `torch.export` refuses `eval()`."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> Any:
        """What the program answers."""
        return self.body(x)

    def train(self, mode: bool = True) -> Self:
        """The program stays as it is."""
        return self


def load(source: str) -> nn.Module:
    """Run what a source says and return its module, on the CPU.

    Args:
        source: `package.module:function`, a function without arguments that returns a module; or a file: a program of
            `torch.export` or of TorchScript, or a pickled module, alone or in a dictionary.

    Raises:
        ValueError: nothing of the kind, or its code failed; the sentence says how.
    """
    function = FUNCTION.fullmatch(source) is not None and not Path(source).exists()
    try:
        found = _called(source) if function else _opened(Path(source))
    except Exception as error:  # somebody's code raises whatever it likes
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"source: {source} could not be loaded: {type(error).__name__}: {said}") from error
    if not isinstance(found, nn.Module):
        raise ValueError(f"source: expected a torch.nn.Module from {source}, got {type(found).__name__}")
    return found


def _called(source: str) -> Any:
    module, _, name = source.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), name)()
    finally:
        sys.path.remove(str(Path.cwd()))


def _opened(path: Path) -> Any:
    names = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    if any("/code/" in name or name.endswith("constants.pkl") for name in names):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PyTorch gives TorchScript up
            return torch.jit.load(str(path), map_location="cpu")
    if names and not any(name.endswith("data.pkl") for name in names):
        return _Fixed(torch.export.load(str(path)).module())
    found = torch.load(path, map_location="cpu", weights_only=False)
    if isinstance(found, dict):
        found = next((one for one in found.values() if isinstance(one, nn.Module)), found)
    return found
