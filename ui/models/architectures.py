"""Names of architectures on offer for weights: this program's, torchvision's, timm's."""

from __future__ import annotations

import contextlib
import threading
from functools import cache

from core import specs
from ui.app import warm
from ui.text import say

_COMMON = (
    *("torchvision:resnet18", "torchvision:resnet34", "torchvision:resnet50", "torchvision:vgg16_bn"),
    *("torchvision:densenet121", "torchvision:mobilenet_v2", "torchvision:efficientnet_b0", "torchvision:vit_b_16"),
)
"""On offer until torchvision is imported."""

_lock = threading.Lock()
_asked = False
_all: tuple[str, ...] = ()


def names() -> list[str]:
    """What is on offer now. The whole registries are read in the background: their import takes seconds."""
    global _asked
    with _lock:
        if warm.torch_ready() and not _asked:
            _asked = True
            threading.Thread(target=_read, daemon=True).start()
    return [*specs.NETWORKS, *(_all or _COMMON)]


def title(name: str) -> str:
    """An architecture as people read it."""
    return f"{say(name)} ({name})" if name in specs.NETWORKS else name


def _read() -> None:
    global _all
    found = _registered()
    with _lock:
        _all = found


@cache
def _registered() -> tuple[str, ...]:
    """The names in torchvision's registry, then in timm's where it is installed. Imports both."""
    made: list[str] = []
    with contextlib.suppress(ImportError):
        from torchvision import models

        made += [f"torchvision:{name}" for name in models.list_models(module=models)]
    with contextlib.suppress(ImportError):
        import timm

        made += [f"timm:{name}" for name in timm.list_models()]
    return tuple(made)
