"""What `onnx_network` needs of nodes: their attributes and tensors, their size, and onnx2pytorch for some of them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.networks.onnx_operators import TYPES, Step


def tensor_of(tensor: Any) -> Tensor:
    """An ONNX tensor as torch's. Raises ValueError for a type that this program does not compute with."""
    import onnx

    if tensor.data_type not in TYPES:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
        raise ValueError(f"file: expected weights of float32, got {tensor.name or 'a constant'} of {kind}")
    return torch.from_numpy(np.array(onnx.numpy_helper.to_array(tensor)))


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


def work_of(step: Step, values: Mapping[str, Tensor]) -> float:
    """About how many multiplications a step takes."""
    if step.outputs[0] not in values:
        return 0
    made = values[step.outputs[0]].numel()
    if step.op in ("Conv", "ConvTranspose"):
        return made * values[step.inputs[1]][0].numel()
    if step.op in ("Gemm", "MatMul"):
        return made * values[step.inputs[0]].shape[-1]
    if step.op.endswith("Pool") and step.get("kernel_shape"):
        return made * math.prod(step.get("kernel_shape")) * 10  # the reference evaluator walks these in Python
    return made


class Converted(nn.Module):
    """One node, run by onnx2pytorch."""

    def __init__(self, proto: Any, node: Any, constant: Mapping[str, Tensor]) -> None:
        super().__init__()
        import onnx

        try:
            from onnx2pytorch import ConvertModel
        except ImportError:
            from core.networks.onnx_file import MISSING

            raise ValueError(MISSING) from None
        held = [
            onnx.numpy_helper.from_array(constant[name].detach().cpu().numpy(), name)
            for name in dict.fromkeys(node.input)
            if name in constant
        ]
        read = [name for name in dict.fromkeys(node.input) if name and name not in constant]
        graph = onnx.helper.make_graph(
            [node],
            "one node",
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in read],
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in node.output if name],
            held,
        )
        self.proto = onnx.helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
        self.chosen = [at for at, name in enumerate(name for name in node.input if name) if name in read]
        self.read: list[str] = read
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            copy = onnx.ModelProto()
            copy.CopyFrom(self.proto)
            self.body = ConvertModel(copy).eval().requires_grad_(False)

    def forward(self, *args: Tensor) -> Any:
        """The outputs of the node for all of its inputs, constant ones too."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.body(*(args[at] for at in self.chosen))

    def reference(self, *args: Tensor) -> Tensor | None:
        """The first output by ONNX's own evaluator; None where it cannot run the node."""
        from onnx.reference import ReferenceEvaluator

        given: dict[str, Any] = {self.read[at]: args[place].numpy() for at, place in enumerate(self.chosen)}
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                made = ReferenceEvaluator(self.proto).run(None, given)
            except Exception:
                return None
        return torch.from_numpy(np.array(made[0]))
