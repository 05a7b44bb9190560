"""A network from an ONNX file: read safely, checked, and run by onnx2pytorch."""

from __future__ import annotations

from torch import Tensor, nn


class OnnxNetwork(nn.Module):
    """The graph of an ONNX file as a module, for any batch size."""

    takes: tuple[int, ...]
    outputs: int

    def __init__(self, data: bytes) -> None:
        super().__init__()
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """What the graph answers with."""
        raise NotImplementedError
