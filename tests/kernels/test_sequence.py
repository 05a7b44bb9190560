"""Passes through plain sequences: the gradient is autograd's, and they are taken only where the layers are known."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from core.kernels.sequence import Sequence
from core.networks.catalogue import build
from core.networks.layers import Shape
from core.networks.plain import cnn, lenet, linear, mlp, strided
from core.training import crafting
from core.training.crafting import pgd_images


def odd(shape: Shape, outputs: int) -> nn.Sequential:
    """Settings that the project's own networks do not use, in a sequence of sequences."""
    body = nn.Sequential(nn.Conv2d(shape[0], 5, (3, 2), stride=(2, 1), padding=(1, 0), bias=False), nn.ReLU())
    pool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)
    inner = nn.Sequential(body, nn.Identity(), pool, nn.Conv2d(5, 4, 3), nn.Flatten(), nn.ReLU(), nn.LazyLinear(9))
    model = nn.Sequential(inner, nn.ReLU(), nn.Linear(9, outputs, bias=False))
    model(torch.zeros(1, *shape))
    return model


def by_autograd(model: nn.Module, x: Tensor, toward: Tensor) -> Tensor:
    """The gradient of the sum of the logits, weighed by `toward`."""
    leaf = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad((model(leaf) * toward).sum(), leaf)
    return gradient


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 13, 11), (3, 12, 12)])
@pytest.mark.parametrize("network", [linear, mlp, cnn, lenet, strided, odd])
def test_gradient_is_that_of_autograd(
    network: Callable[[Shape, int], nn.Sequential], shape: Shape, layout: torch.memory_format
) -> None:
    """In double precision, for every network that is a plain sequence; twice, and the weights stay as they are."""
    torch.manual_seed(0)
    model = network(shape, 4).double().eval().to(memory_format=layout)
    before = copy.deepcopy(model.state_dict())
    x = torch.rand(6, *shape, dtype=torch.float64).contiguous(memory_format=layout)
    toward = torch.randn(6, 4, dtype=torch.float64)
    sequence = Sequence.of(model, "cpu")
    assert sequence is not None
    for images, by in ((x, toward), (x[:2].flip(0), toward[2:4])):
        found = sequence.gradient(images, lambda logits, by=by: by)
        torch.testing.assert_close(found, by_autograd(model, images, by), rtol=1e-10, atol=1e-12)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_gradient_in_half_precision_is_as_good_as_autograds() -> None:
    """Within autocast it is computed in bfloat16 like the network itself, no further from the exact one."""
    torch.manual_seed(0)
    model, x, toward = build("strided", (1, 12, 12), 4).eval(), torch.rand(16, 1, 12, 12), torch.randn(16, 4)
    exact = by_autograd(model, x, toward)
    sequence = Sequence.of(model, "cpu")
    assert sequence is not None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen: list[torch.dtype] = []
        found = sequence.gradient(x, lambda logits: (seen.append(logits.dtype), toward.to(logits.dtype))[1])
        usual = by_autograd(model, x, toward)
    assert seen == [torch.bfloat16]
    assert 0 < (found - exact).norm() <= 1.5 * (usual - exact).norm()


def test_what_is_not_a_known_sequence_goes_by_autograd() -> None:
    """Shortcuts, other layers and settings, hooks, compiled calls, a dense layer before flattening, other devices."""
    plain = build("cnn", (1, 8, 8), 10)
    assert Sequence.of(plain, "cpu") is not None
    assert Sequence.of(plain, "cuda") is None
    assert Sequence.of(build("resnet_small", (1, 8, 8), 10), "cpu") is None
    tail = (nn.Flatten(), nn.LazyLinear(2))
    for layer in (
        nn.Tanh(),
        nn.Conv2d(1, 2, 3, dilation=2),
        nn.Conv2d(2, 2, 3, groups=2),
        nn.Conv2d(1, 2, 3, padding="same"),
        nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"),
        nn.Linear(8, 8),
        nn.Flatten(2),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3)),
    ):
        assert Sequence.of(nn.Sequential(layer, *tail), "cpu") is None
    hook = plain[1].register_forward_hook(lambda module, args, out: None)
    assert Sequence.of(plain, "cpu") is None
    hook.remove()
    assert Sequence.of(plain, "cpu") is not None
    plain.compile(backend="eager")
    assert Sequence.of(plain, "cpu") is None


@pytest.mark.parametrize("classes", [True, False])
def test_moved_images_are_the_same_either_way(classes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """PGD by a sequence and by autograd move the images alike, away from classes or from probabilities."""
    torch.manual_seed(0)
    model, x = build("strided", (1, 8, 8), 10).train(), torch.rand(12, 1, 8, 8)
    aim = torch.arange(12) % 10 if classes else torch.rand(12, 10).softmax(1)
    made = []
    for way in (Sequence.of, lambda model, device: None):
        monkeypatch.setattr(crafting.Sequence, "of", way)
        torch.manual_seed(1)
        made.append(pgd_images(model, x, aim, 0.1, steps=4, relative_step=0.4))
    assert (made[0] - x).abs().max() > 0.09
    assert ((made[0] - made[1]).abs() > 1e-6).float().mean() < 0.005  # the sign of a gradient of nearly nothing
    assert model.training
