"""Networks made up so that what is to be found out about them is known, and how they are examined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from core.evaluation.imported.examine import examine
from core.evaluation.imported.findings import Examination, Finding
from core.specs import ImportSpec

Images = tuple[nn.Module, Tensor, Tensor]
NAMES = tuple("0123456789")


class Made(nn.Module):
    """A network on pixels in [0, 1] behind what undoes a framing, and before what changes its answers."""

    def __init__(self, network: nn.Module, before: Callable[..., Tensor], after: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self.before, self.after = network, before, after

    def forward(self, x: Tensor) -> Any:
        """The answer."""
        return self.after(self.network(self.before(x)))


def same(x: Tensor) -> Tensor:
    """What it was given."""
    return x


def asked(**fields: Any) -> ImportSpec:
    """What is asked of an import; nothing but what is given."""
    return ImportSpec(data="digits28", label="made", route="onnx", digest="0" * 64, **fields)


def told(network: nn.Module, x: Tensor, y: Tensor, takes: tuple[int, ...] | None = None, **fields: Any) -> Examination:
    """The examination of a network."""
    names = NAMES[: int(y.max()) + 1]
    taken = tuple(x.shape[1:]) if takes is None else takes
    return examine(network.eval(), x, y, asked=asked(**fields), class_names=names, takes=taken)


def finding(made: Examination, name: str) -> Finding:
    """One of the findings."""
    return next(one for one in made.findings if one.name == name)
