"""Import torch in the background, so that the first page that needs it does not wait for it, nor the first job."""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
import threading

from core.jobs import spare

DELAY = 1.5
"""Seconds between the first page and the import: the page paints first."""
NEEDED = ("torch", "plotly.graph_objects", "core.models.saved", "core.attacks.run")
"""What pages import when they are first used, longest first."""

_lock = threading.Lock()
_started = False
_done = False


def torch_ready() -> bool:
    """Whether the import of torch has finished."""
    module = sys.modules.get("torch")
    return module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False)


def later() -> None:
    """Import torch after `DELAY` seconds in a daemon thread, and keep a process ready for the next job.

    Only the first call in a process imports; later ones, one a script run, look after the process that waits.
    """
    global _started
    with _lock:
        first, _started = not _started, True
    if first:
        timer = threading.Timer(DELAY, _load)
        timer.daemon = True
        timer.start()
    elif _done:
        spare.keep()


def _load() -> None:
    global _done
    for name in NEEDED:
        with contextlib.suppress(ImportError):  # whoever needs it says so
            importlib.import_module(name)
    # The million objects of what is loaded stay for good: a full collection, which looks at every object and stops all
    # pages meanwhile, leaves them out from now on.
    gc.freeze()
    _done = True
    spare.keep()
