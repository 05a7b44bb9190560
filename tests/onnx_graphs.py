"""Small ONNX graphs, made by the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

FLOAT = 1


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    """One node."""
    from onnx import helper

    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """Numbers around 0."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def graph(
    nodes: Sequence[Any],
    held: Mapping[str, np.ndarray],
    *,
    takes: Sequence[Any],
    opset: int = 17,
    output: Sequence[str] = ("y",),
    inputs: Sequence[str] = ("x",),
    kind: int = FLOAT,
    domains: Sequence[str] = (),
) -> Any:
    """A model of inputs "x", with the batch first in `takes`, and outputs "y"."""
    from onnx import helper, numpy_helper

    made = helper.make_graph(
        list(nodes),
        "made for a test",
        [helper.make_tensor_value_info(name, kind, list(takes)) for name in inputs],
        [helper.make_tensor_value_info(name, FLOAT, ["n", "k"]) for name in output],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    return helper.make_model(made, opset_imports=imports, ir_version=8 if opset < 19 else 9 if opset < 21 else 10)


def one(
    op: str, takes: Sequence[Any], opset: int = 17, *, held: Mapping[str, np.ndarray] | None = None, **more: Any
) -> bytes:
    """One operator on the input and `held`, and all numbers of its output as logits."""
    held = dict(held or {})
    last = [
        node(op, ["x", *held], ["z"], **more),
        node("Flatten", ["z"], ["y"], axis=1),
    ]
    return graph(last, held, takes=takes, opset=opset).SerializeToString()


def referred(data: bytes, x: Tensor) -> Tensor:
    """What ONNX's reference evaluator gives."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load_model_from_string(data)
    with np.errstate(all="ignore"):
        (made,) = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x.numpy()})
    return torch.from_numpy(np.array(made))
