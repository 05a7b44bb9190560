"""The pretended accelerator itself: it forgives nothing that a real one does not, and computes what the CPU does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.pretended import HERE, Generator, Pretended


def there(*shape: int) -> Tensor:
    """Random numbers of the device."""
    return torch.rand(*shape, device="cuda")


MISTAKES: dict[str, Callable[[], Any]] = {
    "mixed sum": lambda: there(4, 3) + torch.rand(4, 3),
    "mixed product": lambda: torch.rand(4, 3) @ there(3, 2),
    "a number of the device for a tensor of the CPU": lambda: torch.rand(3) * there(1)[0],
    "mixed choice": lambda: torch.where(torch.rand(3) > 0.5, there(3), 0),
    "joined": lambda: torch.cat([there(2, 3), torch.rand(2, 3)]),
    "joined numbers": lambda: torch.stack([there(1)[0], torch.tensor(1.0)]),
    "numpy": lambda: there(3).numpy(),
    "factory without a device": lambda: there(3) - torch.zeros(3),
    "labels of the CPU": lambda: nn.functional.cross_entropy(there(3, 4), torch.tensor([0, 1, 2])),
    "network of the CPU": lambda: nn.Linear(3, 2)(there(4, 3)),
    "images of the CPU": lambda: nn.Conv2d(1, 2, 3).to("cuda")(torch.rand(1, 1, 8, 8)),
    "index of the device": lambda: torch.rand(4)[torch.tensor([0, 2], device="cuda")],
    "mask of the device": lambda: torch.rand(4)[there(4) > 0.5],
    "gather": lambda: there(4, 3).gather(1, torch.zeros(4, 1, dtype=torch.int64)),
    "scatter": lambda: torch.zeros(3).scatter_(0, torch.tensor([1]), there(1)),
    "item assignment by a mask": lambda: torch.zeros(3).__setitem__(torch.tensor([True, True, False]), there(2)),
    "item assignment of values of the CPU": lambda: there(3).__setitem__(torch.tensor([0, 1]), torch.rand(2)),
    "sum in place": lambda: torch.zeros(()).add_(there(1)[0]),
    "generator of the CPU": lambda: torch.rand(3, device="cuda", generator=torch.Generator()),
    "generator of the device": lambda: torch.rand(3, generator=torch.Generator("cuda")),
    "generator of the CPU, in place": lambda: there(3).normal_(generator=torch.Generator()),
}
"""What raises on a real device too."""


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_raises(name: str) -> None:
    """A RuntimeError, or a TypeError from `numpy`, as on CUDA."""
    with Pretended(), pytest.raises((RuntimeError, TypeError), match=r"device|numpy|generator"):
        MISTAKES[name]()


ALLOWED: dict[str, Callable[[], Any]] = {
    "a number of the CPU": lambda: there(3) + torch.tensor(1.0),
    "a number in place": lambda: there(3).mul_(torch.tensor(2.0)),
    "an index of the CPU": lambda: there(4)[torch.tensor([0, 2])],
    "a list": lambda: there(4)[[0, 2]],
    "a copy across": lambda: there(3).copy_(torch.rand(3)),
    "a row assigned": lambda: _assigned(),
    "like another": lambda: torch.zeros_like(there(3)).new_tensor([1, 2]),
    "moved": lambda: torch.rand(3).to(there(1)),
    "by name": lambda: torch.rand(3).cuda(),
    "a generator": lambda: torch.rand(3, device="cuda", generator=torch.Generator("cuda")),
    "a network": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).to("cuda")(there(2, 1, 8, 8)),
}
"""What a real device takes; each gives a tensor that is there."""


def _assigned() -> Tensor:
    made = there(2, 3)
    made[0] = torch.rand(3)
    return made


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed_is_there(name: str) -> None:
    """No error, and the result is on the device."""
    with Pretended():
        made = ALLOWED[name]()
        assert (made.device, made.is_cuda, made.get_device()) == (HERE, True, 0)
        assert made.cpu().device.type == made.to("cpu").device.type == "cpu"
        assert made.cpu().isfinite().all()


def test_it_trains_and_differentiates_as_the_cpu() -> None:
    """The same weights after steps of each optimiser, gradients on the device, copies that stay there."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    x, y = torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1])

    def steps(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        for optimiser in (
            torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, fused=True),
            torch.optim.Adam(model.parameters(), 0.01, fused=True),
        ):
            for _ in range(2):
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                assert all(value.grad is not None and value.grad.device == x.device for value in model.parameters())
                optimiser.step()
        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(model(leaf).square().sum(), leaf)
        return slope

    with Pretended():
        moved = copy.deepcopy(plain).to("cuda")
        assert {value.device for value in copy.deepcopy(moved).state_dict().values()} == {HERE}
        found = steps(moved, x.to("cuda"), y.to("cuda"))
        assert found.device == HERE
        found, weights = found.cpu(), {name: value.cpu() for name, value in moved.state_dict().items()}
    assert torch.allclose(found, steps(plain, x, y), atol=1e-5)
    for name, value in plain.state_dict().items():
        assert torch.allclose(weights[name], value, atol=1e-5), name


def test_a_device_without_double_precision() -> None:
    """Apple's: float64 is refused there, on the CPU it stays."""
    with Pretended(float64=False):
        x = there(3)
        for mistake in (x.double, lambda: torch.tensor([1.0], dtype=torch.float64, device="cuda")):
            with pytest.raises(TypeError, match="float64"):
                mistake()
        assert x.cpu().double().dtype == torch.float64


def test_nothing_of_it_stays() -> None:
    """Afterwards there is no such device, `meta` is PyTorch's own, and generators are as they were."""
    before = torch.cuda.is_available(), torch.Generator
    with Pretended():
        assert torch.cuda.is_available()
        assert torch.Generator is Generator
        assert torch.empty(3, device="meta").is_meta
    assert (torch.cuda.is_available(), torch.Generator) == before
    assert torch.empty(3, device="meta").is_meta
    assert (torch.rand(3) + torch.rand(3)).device.type == "cpu"
