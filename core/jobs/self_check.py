"""Whether a device computes what the CPU does: one small attack and one proof on both, compared.

A driver, a card or a version of PyTorch that errs would give wrong verdicts without a word. The network has every layer
that most models are made of (convolution, batch normalisation, pooling, dense); logits and gradients are compared in
float32, in which verdicts are found, the attack and the proof in float64, where no decision hangs on rounding.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from core.attacks.engine.streams import Streams
from core.attacks.fixed_budget.pgd import pgd
from core.attacks.subject import toy
from core.certification.proof import certified_margins
from core.networks import catalogue as catalogue  # without TF32 in convolutions, as in every task

FLOAT32 = 1e-4
"""Largest difference of logits and gradients in float32, relative to the largest: TF32's ten bits exceed it."""
FLOAT64 = 1e-5
"""Largest difference of pixels and margins in float64."""
EPS, RADIUS = 0.1, 0.005
"""Budgets of the attack (l2) and of the proof (linf) with which some of the images are fooled, and some proven."""


class Differs(RuntimeError):
    """The device computes something else than the CPU; the message says what, and by how much."""


def compare(device: str) -> None:
    """Raise `Differs`, or whatever the device raises, unless it computes what the CPU does. Takes about a second.

    Random numbers of the process stay what they were.

    Args:
        device: such as "cuda" or "cuda:1".
    """
    model, x, y = toy()
    model = model.eval().requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        _near("the logits", _logits(model, x, "cpu"), _logits(model, x, device), FLOAT32)
        _near("the gradients", _slopes(model, x, y, "cpu"), _slopes(model, x, y, device), FLOAT32)
        model, x = model.double(), x.double()
        (ours, fooled), (theirs, there) = _attacked(model, x, y, "cpu"), _attacked(model, x, y, device)
        _near("the images that an attack made", ours, theirs, FLOAT64)
        if not torch.equal(fooled, there):
            raise Differs(f"an attack fooled {int(there.sum())} images, on the CPU {int(fooled.sum())}")
        _near("the margins of a proof", _proven(model, x, y, "cpu"), _proven(model, x, y, device), FLOAT64)


def _logits(model: nn.Module, x: Tensor, device: str) -> Tensor:
    logits: Tensor = _on(model, device)(x.to(device))
    return logits.cpu()


def _slopes(model: nn.Module, x: Tensor, y: Tensor, device: str) -> Tensor:
    leaf = x.to(device, copy=True).requires_grad_()
    with torch.enable_grad():
        loss = nn.functional.cross_entropy(_on(model, device)(leaf), y.to(device), reduction="sum")
    return torch.autograd.grad(loss, leaf)[0].cpu()


def _attacked(model: nn.Module, x: Tensor, y: Tensor, device: str) -> tuple[Tensor, Tensor]:
    streams = Streams.of(0, torch.arange(len(x), device=device))
    # in l2: a step along the sign of the gradient would hang on the sign of what should be 0
    options = {"eps": EPS, "norm": "l2", "steps": 4, "restarts": 2, "streams": streams}
    made = pgd(_on(model, device), x.to(device), y.to(device), **options)
    return made.x_adv.cpu(), made.success.cpu()


def _proven(model: nn.Module, x: Tensor, y: Tensor, device: str) -> Tensor:
    return certified_margins(_on(model, device), x.to(device), y.to(device), RADIUS, method="crown").cpu()


def _on(model: nn.Module, device: str) -> nn.Module:
    """A copy there: the model itself stays where it is."""
    return copy.deepcopy(model).to(device)


def _near(what: str, ours: Tensor, theirs: Tensor, most: float) -> None:
    """Raise `Differs` where the device's numbers are no numbers, or off by more than `most` of the largest."""
    size = ours.nan_to_num(0, 0, 0).abs().max().clamp(min=1e-30)
    same = ours == theirs  # infinite ones too
    apart = torch.where(same, 0, (ours - theirs).abs() / size).max().item() if ours.shape == theirs.shape else torch.nan
    if not apart <= most:
        raise Differs(f"{what} differ from the CPU's by {apart:.2g} of the largest, where {most:g} is allowed")
