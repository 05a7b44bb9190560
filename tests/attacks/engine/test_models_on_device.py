"""Models of others on an accelerator: what they cannot bear is found out there as on the CPU, and they are attacked."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from core.attacks import pgd
from core.attacks.engine.masks import Masked
from core.evaluation.robust.robust import evaluate
from tests.pretended import HERE

Batch = tuple[Tensor, Tensor]


class Around(nn.Module):
    """The network behind something that is done to its images."""

    def __init__(self, inner: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.inner(self.change(x))
        return logits


class Alone(Around):
    """One image at a time."""

    def forward(self, x: Tensor) -> Tensor:
        """The logits of one image."""
        if len(x) != 1:
            raise RuntimeError("expected one image")
        return super().forward(x)


MODELS: dict[str, tuple[Callable[[nn.Module], nn.Module], dict[str, object]]] = {
    "flattens by view": (lambda net: Around(net, lambda x: x.view(len(x), -1).view(x.shape)), {}),
    "changes its images": (lambda net: Around(net, lambda x: x.sub_(0.05)), {}),
    "rounds": (lambda net: Around(net, lambda x: (x * 16).round() / 16), {"straight_through": True}),
    "draws": (lambda net: Around(net, lambda x: x + 0.02 * torch.randn_like(x)), {"draws": 3}),
    "one image at a time": (lambda net: Alone(net, lambda x: x), {}),
    "float64": (lambda net: Around(net.double(), lambda x: x.double()), {}),
    "bfloat16": (lambda net: net.bfloat16(), {}),
    "masked": (lambda net: Masked(net, (torch.arange(64) % 2 == 0).view(8, 8)), {}),
}


@pytest.mark.parametrize("name", MODELS)
def test_model_of_others_on_the_device(
    name: str, net: nn.Module, few: Batch, accelerator: AbstractContextManager[object]
) -> None:
    """A success is there, in the ball; the model is as it was."""
    wrap, settings = MODELS[name]
    with accelerator:
        model = wrap(copy.deepcopy(net).eval()).to("cuda")
        x, y = few[0][:6].to("cuda"), few[1][:6].to("cuda")
        made = pgd(model, x, y, eps=0.3, steps=4, **settings)  # type: ignore[arg-type]
        assert made.x_adv.device == HERE
        assert bool(made.success.any())
        assert float((made.x_adv - x).abs().max()) <= 0.3


def test_images_in_half_precision_are_evaluated(
    net: nn.Module, few: Batch, accelerator: AbstractContextManager[object]
) -> None:
    """By attacks in float32, with numbers of the images that lie on the CPU."""
    with accelerator:
        model = copy.deepcopy(net).eval().to("cuda")
        x, y = few[0][:4].to("cuda").bfloat16(), few[1][:4].to("cuda")
        made = evaluate(model, x, y, eps=0.2, effort="quick", trust=False, index=torch.arange(4))
        assert made.robust.device == HERE
