"""Whether calling a module computes what its class says.

Bounds, exact solvers and quick gradients take networks apart: they read a layer's weights and compute its output
themselves. That is right only for layers of exactly the class that they know, since a subclass may compute anything,
and only where nothing was attached to the instance. `type(module)` answers the first question, `altered` the second.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules import module as base


def altered(module: nn.Module) -> str:
    """What makes a call of this module differ from its class's forward, in words; empty where nothing does.

    Only the module itself is looked at, not the modules inside it.
    """
    if module._forward_pre_hooks:
        return "a forward pre-hook"
    if module._forward_hooks:
        return "a forward hook"
    if base._global_forward_hooks or base._global_forward_pre_hooks:
        return "a forward hook of all modules"
    replaced = [name for name in vars(module) if callable(getattr(type(module), name, None))]
    return f"{replaced[0]} replaced on the instance" if replaced else ""
