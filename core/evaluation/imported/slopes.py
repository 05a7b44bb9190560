"""Whether gradients reach the images, are finite, and agree with differences of the network's own answers."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from core.evaluation.imported.behaviour import FAILURES, LARGE
from core.evaluation.imported.findings import Finding

FEW = 4
"""Images whose gradients are compared with differences."""
WAYS = 6
"""Random directions an image along which gradients are compared with differences."""
TITLE = "Do gradients reach the images, and are they right?"
_ADVICE = "Attacks that follow gradients will look too weak: trust only square, simba, hop_skip_jump, sparse_rs."


def slopes(model: nn.Module, x: Tensor, *, random: bool = False) -> Finding:
    """The finding on gradients of the difference between the two largest logits.

    Where the network can be computed in float64, differences are taken there.

    Args:
        model: images to logits, frozen, in eval mode.
        x: (N, C, H, W) in [0, 1]; gradients are taken of all of them, differences of the first `FEW`.
        random: its answers differ from call to call, or with the batch: no differences are taken.
    """
    images = _off_the_kinks((x if x[:1].numel() < LARGE else x[:1]).clamp(0.02, 0.98))
    try:
        slope = _slope(model, images)
    except torch.OutOfMemoryError:
        raise
    except FAILURES as error:
        why = (str(error) or type(error).__name__).splitlines()[0][:160]
        return Finding("gradients", TITLE, "doubt", f"There are no gradients: a backward pass ends in: {why}", _ADVICE)
    if slope is None:
        return Finding("gradients", TITLE, "doubt", "No gradient reaches the images.", _ADVICE)
    n, flat = len(images), slope.flatten(1)
    if not bool(flat.isfinite().all()):
        bad = int((~flat.isfinite().all(1)).sum())
        return Finding("gradients", TITLE, "doubt", f"The gradient of {bad} of {n} images is not finite.", _ADVICE)
    none, zeros = int((flat == 0).all(1).sum()), float((flat == 0).double().mean())
    if none:
        said = f"The gradient of {none} of {n} images is exactly 0 everywhere: outputs are saturated or rounded."
        return Finding("gradients", TITLE, "doubt", said, _ADVICE)
    share = f"{zeros:.0%} of its entries are exactly 0"
    if random:
        return Finding(
            "gradients",
            TITLE,
            "note",
            f"The gradient of {n} images is finite; {share}. Its answers change with calls or batches.",
        )
    images = images[:FEW]
    precise = _in_float64(model, images)
    wrong, compared, unit = _disagreements(*(precise or (model, images)), ways=WAYS if len(images) > 1 else 2)
    if wrong > compared / 4:
        said = f"The gradient disagrees with differences of the logits in {wrong} of {compared} directions ({unit})."
        return Finding("gradients", TITLE, "doubt", said, _ADVICE)
    said = (
        f"The gradient of {n} images is finite; of {len(images)} it agrees with differences of the logits ({unit}); "
        f"{share}."
    )
    return Finding("gradients", TITLE, "fine" if zeros < 0.5 else "note", said)


def _off_the_kinks(images: Tensor) -> Tensor:
    """The images with faint noise.

    On an even background all values under a max pooling are the same, and their maximum has no slope.
    """
    generator = torch.Generator().manual_seed(0)
    return images + 0.01 * torch.rand(images.shape, generator=generator).to(images)


def _gap(logits: Tensor, order: Tensor) -> Tensor:
    return logits.gather(1, order[:, :1])[:, 0] - logits.gather(1, order[:, 1:2])[:, 0]


def _slope(model: nn.Module, images: Tensor) -> Tensor | None:
    leaf = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = model(leaf)
        if not logits.requires_grad:
            return None
        order = logits.detach().argsort(1, descending=True)
        (slope,) = torch.autograd.grad(_gap(logits, order).sum(), leaf, allow_unused=True)
    return slope


def _in_float64(model: nn.Module, images: Tensor) -> tuple[nn.Module, Tensor] | None:
    """The network and images in float64; None where it cannot be computed there, or answers something else."""
    try:
        wide = copy.deepcopy(model).double()
        with torch.no_grad():
            there, here = wide(images.double()), model(images)
        if there.dtype != torch.float64 or not torch.allclose(there.float(), here, rtol=1e-2, atol=1e-2):
            return None
    except torch.OutOfMemoryError:
        return None
    except (*FAILURES, NotImplementedError):
        return None
    return wide, images.double()


def _disagreements(model: nn.Module, images: Tensor, ways: int) -> tuple[int, int, str]:
    """In how many directions the gradient is not the slope of the logits, of how many, and the precision."""
    exact = images.dtype == torch.float64
    step, loose = (1e-6, 1e-3) if exact else (2e-3, 0.2)
    slope = _slope(model, images)
    assert slope is not None
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        order = model(images).argsort(1, descending=True)
        wrong = 0
        for _ in range(ways):
            way = torch.randn(images.shape, generator=generator, dtype=torch.float64).to(images)
            way = torch.where(slope.sign() * way > 0, way, -way)  # along the gradient, so that the slope is not near 0
            there, back = (_gap(model(images + sign * step * way), order) for sign in (1, -1))
            found = (there - back) / (2 * step)
            said = (slope * way).flatten(1).sum(1)
            wrong += int(((found - said).abs() > loose * torch.maximum(found.abs(), said.abs())).sum())
    return wrong, ways * len(images), "float64" if exact else "float32"
