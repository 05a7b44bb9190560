"""What a network costs an image, counted; and batches in portions that fit the memory.

Counted and not measured, so that it is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import flop_registry

BUDGET = 768 << 20
"""Bytes that the images of one forward and backward pass may take together, beside the network's weights."""
WORKING = 3
"""Tensors of the largest size that one step of a pass holds beside what is kept: input, output, another layout."""


def arithmetic(network: nn.Module, images: Tensor) -> float:
    """Floating-point operations an image of one forward pass; matrix products and convolutions are counted."""
    counter = _Products()
    with torch.no_grad(), counter:
        network(images)
    return counter.found / len(images)


def memory(network: nn.Module, images: Tensor) -> int:
    """Bytes an image that a forward and a backward pass hold at once, beside the weights.

    What autograd keeps, each memory block once, and `WORKING` times the largest result of one step. Parameters should
    be frozen, as they are under attack.
    """
    weights = {value.untyped_storage().data_ptr() for value in (*network.parameters(), *network.buffers())}
    seen: dict[int, int] = {}
    held: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        block = value.untyped_storage()
        if block.data_ptr() not in weights:
            seen[block.data_ptr()] = block.nbytes()
        held.append(value)  # so that no address is given out twice
        return value

    largest = _Largest(weights)
    with torch.enable_grad(), largest, saved_tensors_hooks(keep, lambda value: value):
        network(images.detach().clone().requires_grad_())
    return int((sum(seen.values()) + WORKING * largest.found) / len(images))


class _Watching(TorchDispatchMode):
    """A mode that PyTorch does not wrap for its compiler, which it would import at the first pass, in seconds."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class _Products(_Watching):
    """While it is on, the operations of products are counted, by PyTorch's own formulas.

    `FlopCounterMode` counts the same, and imports PyTorch's compiler.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at what goes in and comes out."""
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.found += formula(*args, **(kwargs or {}), out_val=out)
        return out


class _Largest(_Watching):
    """While it is on, the size of the largest tensor that a step makes is looked for; views of weights are none."""

    def __init__(self, weights: set[int]) -> None:
        super().__init__()
        self.weights, self.found = weights, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at what comes out."""
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, Tensor) and value.untyped_storage().data_ptr() not in self.weights:
                self.found = max(self.found, value.numel() * value.element_size())
        return out


def at_once(bytes_an_image: int) -> int | None:
    """How many images fit into `BUDGET`, at least one; None where that is not known."""
    return max(1, BUDGET // bytes_an_image) if bytes_an_image > 0 else None


def in_portions(function: Callable[[Tensor], Tensor], x: Tensor, most: int | None) -> Tensor:
    """`function(x)`, in portions of at most so many rows.

    Where gradients are taken, each portion's steps are computed anew in the backward pass instead of kept.
    """
    if most is None or len(x) <= most:
        return function(x)
    if torch.is_grad_enabled() and x.requires_grad:
        return torch.cat([checkpoint(function, part, use_reentrant=False) for part in x.split(most)])
    return torch.cat([function(part) for part in x.split(most)])


def halved(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function(x)`, a row for each row of `x`; where the memory runs out, of each half alone, and so on.

    Raises torch.OutOfMemoryError where one row is too much.
    """
    try:
        return function(x)
    except torch.OutOfMemoryError:
        if len(x) <= 1:
            raise
    # outside the handler: the error's traceback holds what did not fit
    middle = len(x) // 2
    first = halved(function, x[:middle]).clone()  # a model may write its next answer where the last one is
    return torch.cat([first, halved(function, x[middle:])])


def most_of(model: nn.Module) -> int | None:
    """How many images a model takes at once, where a part of it says so (`most`); None: any number."""
    found = [most for part in model.modules() if isinstance(most := getattr(part, "most", None), int)]
    return min(found, default=None)
