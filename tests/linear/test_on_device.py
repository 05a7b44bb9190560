"""Linear models and images of a pretended accelerator: the exact answers of the CPU, on the images' side."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from core.linear import exact, targeted
from tests.pretended import HERE, Pretended

Made = dict[str, Tensor]


def _model() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    x = torch.rand(4, 1, 4, 4)
    return model, x, model(x).argmax(1)


def _smallest(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Made:
    found = exact.smallest(exact.affine_model(model, (1, 4, 4)), x, y, norm=norm)
    return {"distance": found.distance, "delta": found.delta, "rival": found.rival}


def _targeted(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Made:
    found = targeted.smallest_to(exact.affine_model(model, (1, 4, 4)), x, (y + 1) % 3, norm=norm)
    return {"distance": found.distance, "delta": found.delta, "rival": found.rival}


def _in_a_ball(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Made:
    linear = exact.affine_model(model, (1, 4, 4))
    margin, delta = exact.largest(linear, x, y, eps=0.1, norm="linf" if norm == "l0" else norm)
    return {"margin": margin, "delta": delta, "robust": exact.robust(linear, x, y, eps=0.1, norm=norm)}


def _frontier(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Made:
    return {"counts": exact.frontier(exact.affine_model(model, (1, 4, 4)), x, y, (0.2, 1.0))}


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
@pytest.mark.parametrize("ask", [_smallest, _targeted, _in_a_ball, _frontier])
def test_linear_on_the_device(ask: Callable[[nn.Module, Tensor, Tensor, str], Made], norm: str) -> None:
    """Every tensor of the answer is where the images are, and is the CPU's."""
    here = ask(*_model(), norm)
    with Pretended():
        model, x, y = _model()
        there = ask(model.to("cuda"), x.to("cuda"), y.to("cuda"), norm)
        assert {name: value.device for name, value in there.items()} == dict.fromkeys(there, HERE)
        found = {name: value.cpu() for name, value in there.items()}
    for name, value in here.items():
        assert torch.allclose(found[name].double(), value.double(), atol=1e-6), name
