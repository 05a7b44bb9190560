"""What `onnx_network` needs of nodes: their attributes and tensors, their size, and onnx2pytorch for some of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.networks.onnx_check import one_node
from core.networks.onnx_file import MISSING
from core.networks.onnx_operators import TYPES


def tensor_of(tensor: Any) -> Tensor:
    """An ONNX tensor as torch's. Raises ValueError for a type that this program does not compute with."""
    import onnx

    if tensor.data_type not in TYPES:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
        raise ValueError(f"file: expected weights of float32, got {tensor.name or 'a constant'} of {kind}")
    try:
        return torch.from_numpy(np.array(onnx.numpy_helper.to_array(tensor)))
    except Exception:
        name, shape = tensor.name or "a constant", tuple(tensor.dims)
        raise ValueError(f"file: expected weights that fit their shapes, got {name} of shape {shape}") from None


def attributes_of(node: Any) -> dict[str, Any]:
    """The attributes of a node: numbers, lists, text, and tensors as torch's."""
    import onnx

    made: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, onnx.TensorProto):
            value = tensor_of(value)
        made[attribute.name] = value
    return made


class Converted(nn.Module):
    """One node, run by onnx2pytorch."""

    def __init__(self, proto: Any, node: Any, constant: Mapping[str, Tensor]) -> None:
        super().__init__()
        try:
            from onnx2pytorch import ConvertModel
        except ImportError:
            raise ValueError(MISSING) from None
        read = [name for name in dict.fromkeys(node.input) if name and name not in constant]
        held = {name: constant[name] for name in dict.fromkeys(node.input) if name in constant}
        self.chosen = [at for at, name in enumerate(name for name in node.input if name) if name in read]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.body = ConvertModel(one_node(proto, node, read, held)).eval().requires_grad_(False)

    def forward(self, *args: Tensor) -> Any:
        """The outputs of the node for all of its inputs, constant ones too."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.body(*(args[at] for at in self.chosen))
