"""Compare the values of a graph with those of ONNX's reference evaluator, node by node."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.networks.onnx_operators import Step

QUICK = 1e8
"""Multiplications up to which a node is compared: the evaluator is slow."""
CLOSE = 1e-4
"""How far numbers may differ, relative to the largest of them."""
OVERFLOWING = {"LogSoftmax", "Softplus", "ReduceLogSumExp", "Mish"}
"""Operators whose exponentials the evaluator lets overflow."""
LOWEST = -80.0
"""Logarithms below it are of numbers that float32 cannot hold."""


def one_node(proto: Any, node: Any, read: Sequence[str], held: Mapping[str, Tensor], opset: int | None = None) -> Any:
    """A model of one node: `read` are its inputs, `held` its constants."""
    import onnx

    def described(name: str) -> Any:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)

    graph = onnx.helper.make_graph(
        [node],
        "one node",
        [described(name) for name in read],
        [described(name) for name in node.output if name],
        [onnx.numpy_helper.from_array(value.detach().cpu().numpy(), name) for name, value in held.items()],
    )
    imports = proto.opset_import if opset is None else [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=proto.ir_version)


def compared(
    proto: Any, steps: Sequence[Step], values: Mapping[str, Tensor], own: frozenset[str]
) -> tuple[set[str], set[str]]:
    """Which operators give other numbers than ONNX's, and which could not be compared.

    Args:
        proto: the model.
        steps: what is computed.
        values: of every input and output, for some images.
        own: operators that have a function here; one that onnx2pytorch runs counts as wrong if it cannot be compared.
    """
    nodes = {node.output[0]: node for node in proto.graph.node}
    wrong: set[str] = set()
    unknown: set[str] = set()
    for step in steps:
        made = values[step.outputs[0]]
        too_large = work_of(step, values) > QUICK and step.op in own
        theirs = None if too_large or _misread(step) else _referred(proto, nodes[step.outputs[0]], step, values)
        if theirs is None:
            (unknown if step.op in own else wrong).add(step.op)
        elif not close(made, _held(step, made, theirs)):
            wrong.add(step.op)
    return wrong, unknown


def _held(step: Step, made: Tensor, theirs: Tensor) -> Tensor:
    """The evaluator's numbers, ours in the place of those that overflowed."""
    if step.op not in OVERFLOWING or made.shape != theirs.shape:
        return theirs
    return torch.where(theirs.isfinite() & (theirs > LOWEST), theirs.to(made.dtype), made)


def _misread(step: Step) -> bool:
    """What the evaluator of onnx 1.23 computes otherwise than the operator's definition says (found by trying)."""
    if step.op == "MaxPool":
        return bool(step.get("ceil_mode", 0)) or step.get("auto_pad") == "SAME_LOWER"
    if step.op in ("Softmax", "LogSoftmax", "Hardmax"):
        return step.opset < 13  # it does not join the axes from the given one on
    return step.op == "LRN"


def _referred(proto: Any, node: Any, step: Step, values: Mapping[str, Tensor]) -> Tensor | None:
    """The first output; None where the evaluator cannot run the node."""
    from onnx.reference import ReferenceEvaluator

    names = [name for name in dict.fromkeys(step.inputs) if name]
    # before opset 14 the evaluator mixes the statistics of the batch into batch norm
    opset = 15 if step.op == "BatchNormalization" and step.opset < 14 else None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            model = one_node(proto, node, names, {}, opset)
            made: Any = ReferenceEvaluator(model).run(None, {name: values[name].detach().numpy() for name in names})
        except Exception:
            return None
    return torch.from_numpy(np.array(made[0]))


def work_of(step: Step, values: Mapping[str, Tensor]) -> float:
    """About how many multiplications a step takes."""
    made = values[step.outputs[0]].numel()
    if step.op in ("Conv", "ConvTranspose"):
        return made * values[step.inputs[1]][0].numel()
    if step.op in ("Gemm", "MatMul"):
        return made * values[step.inputs[0]].shape[-1]
    if step.op.endswith("Pool") and step.get("kernel_shape"):
        return made * math.prod(step.get("kernel_shape")) * 100.0  # the evaluator walks these in Python
    return made * 1000.0 if step.op in ("Resize", "Upsample") else made


def close(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two values are the same up to rounding."""
    if ours.shape != theirs.shape:
        return False
    if not ours.is_floating_point():
        return bool((ours == theirs.to(ours.dtype)).all())
    theirs = theirs.to(ours.dtype)
    finite = theirs.isfinite()
    same = (ours == theirs) | (ours.isnan() & theirs.isnan())
    size = theirs[finite].abs().max() if finite.any() else torch.zeros(())
    return bool((same | ((ours - theirs).abs() <= CLOSE * size + 1e-6)).all())
