"""Which device tasks run on: every device is checked against the CPU at its first use, and left out where it errs.

`settled` is the only place that chooses. Importing this module imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import logging
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.storage import cards, files

CPU = "cpu"
KINDS = ("cuda", "mps")
"""Kinds of devices beside the CPU. Only CUDA is taken by itself: Apple's has no float64, which proofs need."""
HELP = "cpu, cuda, cuda:1 or mps. Default: cuda where there is one that computes what the CPU does."
"""What a flag that names one says."""
PASSED = ".devices.json"
"""File in the store: the devices that passed, so that each is checked once and not in every process."""
RATES = ("float32", "tf32", "bfloat16")
"""Kinds of matrix products that `matrix_rate` measures."""
FULL = "It needs more memory than is left on the device; a training takes less with smaller batches."
"""What a run is told that ends in `torch.OutOfMemoryError`, when batches are as small as they can be."""
ERRORS = (RuntimeError, TypeError, ValueError, AssertionError, AttributeError, LookupError, ArithmeticError, OSError)
"""What a broken device may end in, `NotImplementedError` and `torch.OutOfMemoryError` among them."""

_logger = logging.getLogger(__name__)
_faults: dict[str, str | None] = {}  # what this process found of each device
_said: set[str] = set()


def settled(device: str | None, root: Path | None = None, note: Callable[[str], None] = _logger.warning) -> str:
    """The device that a task runs on; imports torch unless it is "cpu".

    Args:
        device: "cpu", "cuda", "cuda:1" or "mps"; None: CUDA where there is one, else the CPU.
        root: the store, where it is kept which devices passed; None: it is not kept.
        note: called with one sentence, once a process, where a device is left out and the CPU stands in for it.

    Raises:
        ValueError: a device that is not there.
    """
    if device == CPU:
        return CPU
    there = present()
    if device is None:
        device = first()
    elif device.split(":")[0] not in there or not _numbered(device):
        raise ValueError(f"device: expected one that is there ({', '.join((CPU, *there))}), got {device!r}")
    text = None if device == CPU else fault(device, root)
    if text is None:
        return device
    if text not in _said:
        _said.add(text)
        note(f"{text} Everything runs on the CPU.")
    return CPU


def present() -> list[str]:
    """The kinds of devices beside the CPU that PyTorch finds here, whether they err or not."""
    import torch

    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [kind for kind in KINDS if found[kind]]


def is_full(error: BaseException) -> bool:
    """Whether an error is `torch.OutOfMemoryError`; imports no torch."""
    return any(kind.__module__ == "torch" and kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)


def first() -> str:
    """The device that is taken where none is named, if it does not err: CUDA where there is one, else the CPU."""
    return next((kind for kind in present() if kind != "mps"), CPU)


def every() -> list[str]:
    """All devices here, the CPU first; of several of CUDA each by its number."""
    import torch

    there, count = present(), torch.cuda.device_count() if "cuda" in present() else 0
    numbered = [f"cuda:{place}" for place in range(count)] if count > 1 else ["cuda"] * count
    return [CPU, *numbered, *(kind for kind in there if kind != "cuda")]


def fault(device: str, root: Path | None = None) -> str | None:
    """What is wrong with a device, as one sentence; None for one that computes what the CPU does.

    It is checked at the first call in a process, unless `root` says that it has passed under these versions.
    """
    key = _identity(device)
    if key not in _faults:
        if key in _passed(root):
            _faults[key] = None
        else:
            _faults[key] = _checked(device)
            if _faults[key] is None:
                _keep(key, root)
    return _faults[key]


def name(device: str) -> str:
    """What the device is called."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return cards.machine() if device == CPU else "Apple GPU"


def memory(device: str) -> tuple[int, int] | None:
    """Bytes that are free on a CUDA device, and all of them; None elsewhere."""
    import torch

    return torch.cuda.mem_get_info(device) if device.startswith("cuda") else None


def matrix_rate(device: str, kind: str, *, side: int | None = None, seconds: float = 0.2) -> float:
    """Measured rate of matrix products, in 10^12 floating-point operations a second.

    Args:
        device: where.
        kind: "float32", "tf32" (CUDA: float32 whose products have ten bits) or "bfloat16".
        side: of the square matrices; None: 8192 on a device, 512 on a CPU.
        seconds: how long it is measured, at least.
    """
    import torch

    side = side or (512 if device == CPU else 8192)
    before = torch.backends.cuda.matmul.allow_tf32
    made = torch.rand(2, side, side, device=device, dtype=torch.bfloat16 if kind == "bfloat16" else torch.float32)
    try:
        torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
        (made[0] @ made[1]).sum().item()  # what is slow but once
        products, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds:
            for _ in range(4):
                last = made[0] @ made[1]
            last[0, 0].item()  # until here
            products += 4
        return 2 * side**3 * products / spent / 1e12
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def kinds_of(device: str) -> tuple[str, ...]:
    """The kinds of matrix products that `matrix_rate` measures on a device."""
    return RATES if device.startswith("cuda") else tuple(kind for kind in RATES if kind != "tf32")


def _numbered(device: str) -> bool:
    """Whether there is a device of that number; one without a number is there."""
    import torch

    kind, colon, number = device.partition(":")
    if not colon:
        return True
    return number.isdecimal() and int(number) < (torch.cuda.device_count() if kind == "cuda" else 1)


def _identity(device: str) -> str:
    """The device and all that its answers depend on: another driver, or version of PyTorch, is checked anew."""
    import torch

    from core import __version__

    driver = ""
    with contextlib.suppress(OSError):
        driver = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    parts = (device, name(device), platform.node(), driver, torch.__version__, str(torch.version.cuda), __version__)
    return " | ".join(parts)


def _checked(device: str) -> str | None:
    from core.jobs import self_check

    try:
        self_check.compare(device)
    except self_check.Differs as error:
        return f"{device} ({name(device)}) is left out, since {error}."
    except ERRORS as error:
        said = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        return f"{device} ({name(device)}) is left out, since its check ended in {type(error).__name__}: {said[:200]}."
    return None


def _passed(root: Path | None) -> list[Any]:
    if root is None:
        return []
    with contextlib.suppress(OSError, ValueError):
        found = files.read_json(Path(root) / PASSED)
        return found if isinstance(found, list) else []
    return []


def _keep(key: str, root: Path | None) -> None:
    """Remember that a device passed; without a store, or in one that cannot be written, it is checked again."""
    if root is None or not Path(root).is_dir():
        return
    with contextlib.suppress(OSError):
        kept = [*_passed(root)[-19:], key]
        files.replace_file(Path(root) / PASSED, json.dumps(kept, indent=1).encode())
