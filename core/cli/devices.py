"""The command device: what there is, whether it computes what the CPU does, how fast it multiplies, which is used."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from core.cli.output import note, show
from core.jobs import devices
from core.storage import store

GIB = 1 << 30


def device_flags(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """No flags: every device is listed and checked."""


def device(options: dict[str, Any], as_json: bool) -> None:
    """List the devices of this machine: a row each, then the one that tasks run on."""
    rows = [row(one) for one in devices.every()]
    used = devices.settled(None, store.default_root(), lambda text: None)
    for one in rows:
        one["used"] = one["device"].split(":")[0] == used
    if as_json:
        show(rows, True)
        return
    show([{name: value for name, value in one.items() if name != "fault"} for one in rows], False)
    for one in rows:
        if one["fault"]:
            note(one["fault"])
    note(f"Tasks run on {used}; rates are in 10^12 operations a second.")


def row(device: str) -> dict[str, Any]:
    """What is known of a device; it is checked now, unless it was in this process. Rates of one that errs are None."""
    start = time.perf_counter()
    text = None if device == devices.CPU else devices.fault(device)
    seconds = None if device == devices.CPU else time.perf_counter() - start
    free, whole = devices.memory(device) or (None, None)
    kinds = () if text else devices.kinds_of(device)
    return {
        "device": device,
        "name": devices.name(device),
        "memory_gib": None if whole is None else whole / GIB,
        "free_gib": None if free is None else free / GIB,
        "check": "reference" if device == devices.CPU else "left out" if text else "agrees with the CPU",
        "check_seconds": seconds,
        **{kind: devices.matrix_rate(device, kind) if kind in kinds else None for kind in devices.RATES},
        "fault": text,
    }
