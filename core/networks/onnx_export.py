"""A module in memory as an ONNX file that computes the same, gradients included."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from core.networks.draws import drawn_by
from core.networks.onnx_network import OnnxNetwork
from core.networks.table import device_of

OPSET = 17
INSTEAD = "core.evaluation.evaluate(model, x, y, ...) takes it as it is"
NEAR = 1e-4
"""How far answers may differ, relative to the largest."""
SLOPES_NEAR = 0.02
"""The same for gradients and their length: where rounding turns a ReLU, a gradient jumps."""


def exported(module: nn.Module, takes: tuple[int, ...], images: Tensor | None = None) -> bytes:
    """The ONNX file of a module in eval mode, for any batch size; the module's mode is as before afterwards.

    It is compared with the module on random inputs in [0, 1] and on images, in batches and one by one, with the
    gradient.

    Args:
        module: takes float32 (N, *takes).
        takes: shape of one image.
        images: (M, *takes) in [0, 1], on the CPU; a few, as a branch may tell them from random inputs. They are given
            as they are, in −1…1 and in 0…255: which of these the module is for is not known yet.

    Raises:
        ValueError: it cannot be exported, it draws random numbers, or the file computes something else than the module.
    """
    modes = {part: part.training for part in module.modules()}
    device = device_of(module)
    x = torch.rand(7, *takes, generator=torch.Generator().manual_seed(0))
    x[3:5], x[5:] = 0.1 * x[3:5], 1 - 0.1 * x[5:]  # dark and bright ones: a branch may ask for it
    if images is not None:
        faint = 0.01 * torch.rand(images.shape, generator=torch.Generator().manual_seed(1))
        images = 0.98 * images + faint  # on an even background the largest of equal values has no slope
        x = torch.cat([x, images, 2 * images - 1, 255 * images])
    x = x.to(device)
    try:
        module.eval()
        if _draws(module, x):
            raise ValueError(
                f"model: expected one that answers the same on every call, but it draws random numbers, which its ONNX "
                f"file may do without; {INSTEAD}"
            )
        theirs = _of_itself(module, x)
        data = _written(module, x[:2])
        ours = _answered(OnnxNetwork(data, cut=False, compare=False).to(device), x)
        _check("its ONNX file", ours[0], theirs[0])
        good = theirs[1].flatten(1).isfinite().all(1)
        for rows in (slice(0, 7), slice(7, None)):  # a jump on one image is little beside all of them
            slope = theirs[1][rows][good[rows]]
            apart, size = (ours[1][rows][good[rows]] - slope).norm(), slope.norm()
            if not apart <= SLOPES_NEAR * size + 1e-7:
                raise ValueError(
                    f"model: expected one that agrees with its export, but it differs from its ONNX file in the "
                    f"gradient by {float(apart / size):.2g} of its length; {INSTEAD}"
                )
    finally:
        for part, mode in modes.items():
            part.training = mode
    return data


def _written(module: nn.Module, x: Tensor) -> bytes:
    out: Any = io.BytesIO()
    quick = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # ONNX has no such operator
        with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (x,),
                out,
                dynamo=False,
                opset_version=OPSET,
                input_names=["x"],
                output_names=["y"],
                dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
            )
    except Exception as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"model: expected one that can be exported to ONNX, got {said}; {INSTEAD}") from None
    finally:
        torch.backends.mha.set_fastpath_enabled(quick)
    return out.getvalue()


def _draws(module: nn.Module, x: Tensor) -> bool:
    try:
        return drawn_by(lambda: module(x))
    except Exception:  # what fails is told by `_of_itself`
        return False


def _of_itself(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What the module answers, and its gradient: the same in every call, and image by image."""
    try:
        first, again = _answered(module, x), _answered(module, x)
        single = torch.cat([_answered(module, row[None])[0] for row in x])
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"model: expected one that takes batches and gives gradients, got {said}; {INSTEAD}") from None
    _check("itself when it is called again", again[0], first[0])
    _check("itself image by image", single, first[0])
    return first


def _check(what: str, ours: Tensor, theirs: Tensor) -> None:
    good = theirs.isfinite().all(1)
    near = ours.shape == theirs.shape and torch.equal(ours.isfinite().all(1), good)
    if near and bool(good.any()):
        # each image by its own size, as answers to 0…255 may be hundreds of times larger; and by that of most others
        size = theirs[good].abs().amax(1)
        far = (ours[good] - theirs[good]).abs().amax(1)
        near = bool((far <= NEAR * torch.maximum(size, size.median()) + 1e-7).all())
    if not near:
        raise ValueError(f"model: expected one that agrees with its export, but it differs from {what}; {INSTEAD}")


def _answered(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Answers (N, K), and the gradient of their sum, weighted, to the input."""
    with torch.enable_grad():
        given = x.detach().clone().requires_grad_()
        out = module(given)
        out = out.reshape(len(x), -1)
        weight = torch.linspace(0.5, 1.5, out.numel(), device=x.device).view_as(out)
        (slope,) = torch.autograd.grad((out * weight).sum(), given)
    return out.detach(), slope
