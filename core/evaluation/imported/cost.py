"""What a network costs an image: arithmetic and memory, counted, so that it is the same on every machine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode


def arithmetic(function: Callable[[Tensor], object], images: Tensor) -> float:
    """Floating-point operations an image of one forward pass; matrix products and convolutions are counted."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        function(images)
    return counter.get_total_flops() / len(images)


def memory(function: Callable[[Tensor], object], images: Tensor) -> float:
    """Bytes an image that a forward pass keeps for the backward pass, each tensor counted once."""
    seen: dict[tuple[int, int], int] = {}
    held: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        place = (value.untyped_storage().data_ptr(), value.untyped_storage().nbytes())
        if len(value) == len(images) if value.ndim else False:
            seen[place] = value.untyped_storage().nbytes()
        held.append(value)  # so that no address is given out twice
        return value

    with torch.enable_grad(), saved_tensors_hooks(keep, lambda value: value):
        function(images.detach().clone().requires_grad_())
    return sum(seen.values()) / len(images)
