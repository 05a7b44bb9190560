"""Passes in bfloat16: nearly the logits and the gradient of float32, whatever the network is made of."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.kernels.half import half_logits
from core.networks.residual import PreActBlock

LAYOUTS = (torch.contiguous_format, torch.channels_last)


class Tied(nn.Module):
    """One convolution and one batch norm, each used twice, and a forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv, self.norm = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.last = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = F.relu(self.norm(self.first(x)))
        x = F.relu(self.norm(self.conv(x))) + 0.5 * x.mean(1, keepdim=True)
        return self.last(x.mean((2, 3)))


def settled(model: nn.Module) -> nn.Module:
    """In eval mode, with running statistics that are not those of a new layer, and frozen."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.3, 0.3)
            part.running_var.uniform_(0.5, 2)
    return model.eval().requires_grad_(False)


def networks() -> dict[str, nn.Module]:
    """One of each kind."""
    torch.manual_seed(0)
    residual = nn.Sequential(PreActBlock(3, 8, 1), PreActBlock(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    hooked = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    hooked[0].register_forward_hook(lambda module, given, made: made * 2)
    training = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    grouped = nn.Sequential(nn.Conv2d(3, 9, 3, groups=3, dilation=2), nn.GELU(), nn.Flatten(), nn.Linear(9 * 16, 5))
    made = {
        "residual": nn.Sequential(residual, nn.Linear(16, 5)),
        "hooked": hooked,
        "tied": Tied(),
        "grouped": grouped,
        "head of a convolution": nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 6), nn.Flatten()),
    }
    made = {name: settled(model) for name, model in made.items()}
    made["batch norm in training mode"] = training.requires_grad_(False)
    return made


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", networks())
def test_logits_and_gradients_are_nearly_those_of_float32(name: str, layout: torch.memory_format) -> None:
    """Off by a few units of bfloat16's rounding; float32 comes out, and the model is left as it was."""
    model = networks()[name]
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1)).contiguous(memory_format=layout)
    before = copy.deepcopy(model.state_dict())
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    exact, rounded = model(leaves[0]), half_logits(model, leaves[1], 5)
    slopes = [
        torch.autograd.grad((logits * torch.arange(5)).sum(), leaf)[0]
        for logits, leaf in zip((exact, rounded), leaves, strict=True)
    ]
    apart = (rounded - exact).abs().max() / (exact.amax() - exact.amin())
    assert 0 < apart < 4 * torch.finfo(torch.bfloat16).eps
    assert rounded.dtype == slopes[1].dtype == torch.float32
    assert F.cosine_similarity(*(slope.flatten(1) for slope in slopes)).min() > 0.98
    after = model.state_dict()
    left = [key for key in before if "running" not in key and "tracked" not in key]  # training mode moves these
    assert all(torch.equal(before[key], after[key]) for key in left)


@pytest.mark.parametrize("head", [nn.Linear(12, 5), nn.Conv2d(12, 5, 1)])
def test_layer_of_the_logits_is_not_rounded(head: nn.Module) -> None:
    """A network that is its head alone gives the logits of float32; with another number of classes it does not."""
    model = nn.Sequential(nn.Flatten(), head) if isinstance(head, nn.Linear) else nn.Sequential(head, nn.Flatten())
    x = torch.rand(4, 12, 1, 1)
    with torch.no_grad():
        assert torch.equal(half_logits(model, x, 5), model(x))
        assert not torch.equal(half_logits(model, x, 4), model(x))
