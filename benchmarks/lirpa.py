"""auto_LiRPA 0.3, the newest that a registry has, beside torch and numpy that came years after it.

It was written for torch below 1.13 and numpy 1; four names that it wants have gone since. They are put back here before
it is imported: `numpy.lib.arraysetops.isin` (now `numpy.isin`), `torch.onnx.symbolic_helper._set_opset_version` (now a
field), attributes of traced nodes by index, and the types by which the exporter's constants were told. Nothing of its
own code is changed, so its bounds and its seconds are its own.
"""

from __future__ import annotations

import sys
import types
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.certification.bounds import margin_rows

METHODS = ("IBP", "CROWN", "CROWN-Optimized")
BATCH = {"IBP": 256, "CROWN": 16, "CROWN-Optimized": 16}
"""Images at once, as many as ours."""


def imported() -> Any:
    """The library. Raises ImportError where it is missing, or cannot be made to work with this torch."""
    old = types.ModuleType("numpy.lib.arraysetops")
    vars(old)["isin"] = np.isin
    sys.modules.setdefault("numpy.lib.arraysetops", old)
    from torch.onnx import symbolic_helper
    from torch.onnx._internal.torchscript_exporter._globals import GLOBALS

    def set_version(version: int) -> None:
        GLOBALS.export_onnx_opset_version = version

    symbolic_helper._set_opset_version = set_version  # type: ignore[attr-defined]
    setattr(torch._C.Node, "__getitem__", _attribute)  # noqa: B010  # typed as a class that has none
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import auto_LiRPA  # type: ignore[import-not-found]
    return auto_LiRPA


def _attribute(node: Any, name: str) -> Any:
    return getattr(node, node.kindOf(name))(name)


def margins(model: nn.Sequential, x: Tensor, y: Tensor, eps: float, method: str) -> Tensor:
    """Smallest margins (N,), as far as `method` proves them: its defaults, in float32 and without any allowance.

    Raises:
        ImportError: it cannot be used here.
    """
    library, found = imported(), []
    centre, rest = model[0], model[1:]  # it multiplies by constants of four dimensions only: it gets centred images
    for rows in torch.arange(len(x)).split(BATCH[method]):
        image, label = centre(x[rows]), y[rows]
        bounded = library.BoundedModule(rest, image, verbose=False)
        low, high = centre((x[rows] - eps).clamp(min=0)), centre((x[rows] + eps).clamp(max=1))
        ball = library.PerturbationLpNorm(norm=float("inf"), eps=eps, x_L=low, x_U=high)
        apart = margin_rows(rest(image).shape[1], label, image)
        others = torch.ones(apart.shape[:2], dtype=torch.bool).scatter(1, label[:, None], False)
        apart = apart[others].view(len(rows), -1, apart.shape[2])
        with torch.set_grad_enabled(method == "CROWN-Optimized"):
            least, _ = bounded.compute_bounds(x=(library.BoundedTensor(image, ball),), C=apart, method=method)
        found.append(least.detach().amin(1))
    return torch.cat(found)
