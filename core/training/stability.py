"""How many ReLUs keep their sign while an image moves in its ball: what a proof costs, as a loss to descend."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.certification.bounds import intervals, linf_box
from core.certification.graph import lower


def instability(model: nn.Module, x: Float[Tensor, "b c h w"], eps: float) -> Float[Tensor, ""]:
    """Mean of -tanh(1 + l u) over images and ReLUs, between -1 and 1; l and u bound what the ReLU reads in the ball.

    A ReLU whose sign is open, l < 0 < u, is a case to split for complete verification; l u >= 0 is none. Those inside
    a max-pooling count as well. Differentiable; in float32, also within autocast, as products of bounds round badly.

    Source: Xiao, Tjeng, Shafiullah, Madry 2019, arXiv 1809.03008, section 3.4. Theirs is the sum over ReLUs: this mean
    lets one weight serve networks of different sizes. Bounds are plain intervals.

    Args:
        model: pixels to logits, taken as in eval mode.
        x: (B, C, H, W) in [0, 1].
        eps: radius in linf.

    Raises:
        Unbounded: a layer without a rule.
        ValueError: no ReLUs.
    """
    with torch.autocast(x.device.type, enabled=False):
        graph = lower(model, tuple(x.shape[1:]), torch.float32)
        if not graph.relus:
            raise ValueError("model: expected ReLUs to keep stable, got a network without")
        made = intervals(graph, *linf_box(x.float(), eps))
        terms = [(1 + low * high).tanh().flatten(1) for low, high in (made[place] for place in graph.before_relus)]
        return -torch.cat(terms, dim=1).mean()
