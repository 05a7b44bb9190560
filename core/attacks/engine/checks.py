"""What attacks refuse: by the argument's name, what was expected, and what came."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from core import epsilon
from core.attacks.engine.engine import fast_layout, frozen, is_batch
from core.attacks.engine.find_out import FAILURES
from core.attacks.engine.geometry import rounded_down
from core.attacks.engine.masks import Masked

NO_EPS = object()
"""Says to `check` that an attack has no budget: None is a budget that was forgotten."""


def check(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: object = NO_EPS,
    y_target: Tensor | None = None,
    eps_limit: float = 1.0,
) -> Tensor:
    """Refuse bad input with the argument's name, what was expected and what came.

    Args:
        model: must give logits (N, K), K >= 2.
        x: (N, C, H, W) floating point, finite, in [0, 1], N >= 1.
        y: (N,) int64 in [0, K), on the images' device.
        eps: a number or (N,), finite, from 0 to `eps_limit`; `NO_EPS` for an attack without a budget.
        y_target: like `y`.
        eps_limit: 1 for linf, where more has no meaning; may be inf.

    Returns:
        The budget as (N,) in the images' dtype and device, see `check_eps` (zeros if there is none).

    Raises:
        ValueError: with the argument's name.
    """
    classes = check_images(model, x)
    _check_labels("y", y, x, classes)
    if y_target is not None:
        _check_labels("y_target", y_target, x, classes)
    return check_eps(0.0 if eps is NO_EPS else eps, x, eps_limit)


def check_budget(budget: int | None, minimum: int) -> None:
    """Refuse a budget of passes that is too small for anything useful."""
    if budget is not None and budget < minimum:
        raise ValueError(f"budget: expected at least {minimum}, got {budget}")


def check_images(model: nn.Module, x: Tensor) -> int:
    """Refuse what is no model, or no batch of its images (see `check`); returns the model's number of classes."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if isinstance(x, Tensor) and x.ndim == 4 and len(x) == 0:
        raise ValueError("x: expected at least one image, got none")
    if not is_batch(x):
        got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        if isinstance(x, Tensor) and (x.is_meta or x.layout != torch.strided):
            got += f", {x.layout}, on {x.device}"
        raise ValueError(f"x: expected a floating-point tensor (N, C, H, W), got {got}")
    low, high = x.min().item(), x.max().item()
    if not (low >= 0 and high <= 1):  # false for NaN too
        raise ValueError(f"x: expected finite values in [0, 1], got {low:g} to {high:g}")
    with frozen(model), torch.no_grad():
        try:
            logits = model(fast_layout(x[:1]))
        except torch.OutOfMemoryError:
            raise
        except FAILURES as error:
            if isinstance(error, ValueError) and isinstance(model, Masked):  # a mask of another size says so itself
                raise
            images = f"{x.dtype} images of shape {tuple(x.shape[1:])}"
            raise ValueError(
                f"model: expected one that takes {images}, got the error: {str(error) or repr(error)}"
            ) from error
    if isinstance(logits, Tensor) and not logits.is_floating_point():
        raise ValueError(f"model: expected logits in floating point, got {logits.dtype}")
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"model: expected logits (N, K) with K >= 2, got {got} for one image")
    return logits.shape[1]


def check_eps(eps: object, x: Tensor, limit: float = 1.0, name: str = "eps") -> Tensor:
    """The budget as (N,) in the images' dtype and device, rounded down where that dtype cannot hold it.

    ε is a float64 number. Rounded down, every image of the ball is within ε to the last bit in float64 too; rounded to
    nearest, half of all ε would let images out of the ball (`core.epsilon`).

    Args:
        eps: a number, or a tensor, an array or a list of N numbers, each finite and in [0, limit]. A number may be a
            `Fraction` or a text such as "8/255".
        x: (N, C, H, W) the images.
        limit: may be inf.
        name: of the argument, for errors.

    Raises:
        ValueError: anything else, None included.
    """
    if eps is None or isinstance(eps, bytes | bool | np.bool_) or getattr(eps, "dtype", None) == torch.bool:
        raise ValueError(f"{name}: expected a number or {len(x)} numbers, got {eps!r}")
    try:
        eps = [epsilon.parse(one) for one in eps] if isinstance(eps, list | tuple) else epsilon.parse(eps)
    except ValueError as error:
        raise ValueError(f"{name}: {error}, got {eps!r}") from None
    try:
        exact = torch.as_tensor(eps, dtype=torch.float64).to_dense().to(device=x.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: expected a number or {len(x)} numbers, got {type(eps).__name__}: {error}") from error
    if exact.ndim > 1 or (exact.ndim == 1 and len(exact) != len(x)):
        raise ValueError(f"{name}: expected a number or shape ({len(x)},), got shape {tuple(exact.shape)}")
    good = (exact >= 0) & (exact <= limit) & exact.isfinite()
    if not good.all():
        span = "of 0 or more" if limit == torch.inf else f"in [0, {limit:g}]"
        value = exact[~good].flatten()[0].item()
        hint = f"; grey levels of 255 are {value:g}/255 here" if limit == 1 < value <= 255 else ""
        raise ValueError(f"{name}: expected finite budgets {span}, got {value:g}{hint}")
    return rounded_down(exact.detach(), x.dtype).expand(len(x)).clone()


def check_x_init(x_init: Tensor | None, x: Tensor) -> None:
    """Refuse points to start from that are no images like those of `x`."""
    if x_init is None:
        return
    if not isinstance(x_init, Tensor) or x_init.shape != x.shape:
        got = tuple(x_init.shape) if isinstance(x_init, Tensor) else type(x_init).__name__
        raise ValueError(f"x_init: expected shape {tuple(x.shape)}, as x, got {got}")
    if x_init.dtype != x.dtype or x_init.device != x.device:
        raise ValueError(f"x_init: expected {x.dtype} on {x.device}, as x, got {x_init.dtype} on {x_init.device}")
    low, high = x_init.min().item(), x_init.max().item()
    if not (low >= 0 and high <= 1):  # false for NaN too
        raise ValueError(f"x_init: expected finite values in [0, 1], got {low:g} to {high:g}")


def _check_labels(name: str, labels: Tensor, x: Tensor, classes: int) -> None:
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != x.shape[:1]:
        got = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"{name}: expected an int64 tensor of shape ({len(x)},), got {got}")
    if labels.device != x.device:
        raise ValueError(f"{name}: expected device {x.device}, as x, got {labels.device}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"{name}: expected classes from 0 to {classes - 1}, got {labels.min().item()} to {labels.max().item()}"
        )


def check_counts(**counts: int) -> None:
    """Raises ValueError for a count below 1, by its name."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}: expected at least 1, got {count}")


def check_positive(**values: float) -> None:
    """Raises ValueError for a value that is not positive and finite, by its name."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}: expected a positive number, got {value}")
