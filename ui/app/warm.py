"""Import torch in the background, so that the first page that needs it does not wait for it."""

from __future__ import annotations

import importlib
import sys
import threading

DELAY = 1.5
"""Seconds between the first page and the import: the page paints first."""

_lock = threading.Lock()
_started = False


def torch_ready() -> bool:
    """Whether the import of torch has finished."""
    module = sys.modules.get("torch")
    return module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False)


def later() -> None:
    """Import torch after `DELAY` seconds in a daemon thread; only the first call in a process does it."""
    global _started
    with _lock:
        if _started:
            return
        _started = True
    timer = threading.Timer(DELAY, importlib.import_module, ("torch",))
    timer.daemon = True
    timer.start()
