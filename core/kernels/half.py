"""Passes in bfloat16, for searches: twice the speed where the processor multiplies it, and logits that are rounded.

Layers compute in bfloat16 by autocast, whatever the network is made of. What gives the logits (a dense layer or a
convolution with as many outputs as there are classes) stays in float32: it costs next to nothing, and logits of eight
bits would tie. The measured times are in docs/MEASUREMENTS.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def native(device: str) -> bool:
    """Whether the hardware multiplies bfloat16 itself: AVX512-BF16 or AMX on a CPU, a GPU from Ampere on."""
    if device.split(":")[0] == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # PyTorch has no public question for this
    return any(getattr(torch.cpu, question, bool)() for question in questions)


def half_logits(model: nn.Module, x: Float[Tensor, "n c h w"], classes: int) -> Float[Tensor, "n k"]:
    """The logits of a float32 model for float32 images, in float32, through layers that compute in bfloat16.

    Gradients come back the same way. `classes` is the number of logits.
    """
    # no cache: weights that were cast inside one pass are not to be kept for the next
    with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False), _Heads(classes):
        logits: Tensor = model(x)
    return logits.to(x.dtype)


class _Heads(TorchFunctionMode):
    """While it is on, under autocast, layers of so many outputs compute in float32."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Take the layers of the logits out of autocast."""
        kwargs = kwargs or {}
        if func in (F.linear, F.conv2d) and len(args) > 1 and len(args[1]) == self.outputs:
            x, weight = args[:2]
            with torch.autocast(x.device.type, enabled=False):
                return func(x.to(weight.dtype), weight, *args[2:], **kwargs)
        return func(*args, **kwargs)
