"""ONNX operators in many settings: what the tests of the network and of its lowering go through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.onnx_graphs import one, random


@dataclass(frozen=True)
class Case:
    """One operator on an image, in one version.

    Attributes:
        op: the operator.
        opset: version of the operators.
        held: its further inputs.
        takes: the shape of its input.
        more: its attributes.
    """

    op: str
    opset: int
    held: Mapping[str, np.ndarray] | None
    takes: Sequence[Any]
    more: Mapping[str, Any]

    def file(self) -> bytes:
        """The graph."""
        return one(self.op, self.takes, self.opset, held=self.held, **self.more)

    @property
    def positive(self) -> bool:
        """Whether it takes numbers above 0."""
        return self.op in ("Sqrt", "Log", "Pow", "Reciprocal", "Mod")

    @property
    def misread(self) -> bool:
        """Whether the reference evaluator computes something else than the definition, or cannot."""
        shaped = self.op == "ConvTranspose" and "output_shape" in self.more
        return (
            shaped
            or (self.op == "BatchNormalization" and self.opset < 14)
            or (
                self.op in ("Pad", "Resize")
                and (self.opset < 11 or (self.op == "Pad" and min(ints(*(self.held or {}).get("p", [0]))) < 0))
            )
        )


def ints(*values: Any) -> np.ndarray:
    """Integers."""
    return np.array(values, dtype=np.int64)


def floats(*values: float) -> np.ndarray:
    """Numbers."""
    return np.array(values, dtype=np.float32)


def _operators() -> list[Case]:
    """Every operator in many settings and versions."""
    made: list[Case] = []

    def add(
        op: str,
        ops: Sequence[int] = (9, 11, 13, 17, 20, 21),
        held: Mapping[str, np.ndarray] | None = None,
        takes: Sequence[Any] = ("n", 4, 9, 8),
        **more: Any,
    ) -> None:
        made.extend(Case(op, opset, held, takes, more) for opset in ops)

    for op in (
        *("Abs", "Neg", "Exp", "Erf", "Floor", "Relu", "Sigmoid", "Sin"),
        *("Softplus", "Softsign", "Tanh", "Identity", "Elu", "Selu", "LeakyRelu", "HardSigmoid"),
        *("Reciprocal", "Sign", "Atan", "Ceil", "Cos"),
    ):
        add(op)
    add("Round", (11, 17))
    add("Sqrt")
    add("Log")
    add("Celu", (12, 17))
    add("HardSwish", (14, 17))
    add("Mish", (18, 20))
    add("Gelu", (20, 21))
    add("Gelu", (20,), approximate="tanh")
    for al in (0.0, 0.3, 1.5):
        add("LeakyRelu", alpha=al)
        add("Elu", alpha=al)
        add("Celu", (12,), alpha=al + 0.1)
    for op in (*("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu"),):
        add(op, held={"c": np.abs(random(8)) + 0.5})
        add(op, held={"c": np.abs(random(4, 1, 1)) + 0.5})
    add("Sum", held={"c": random(4, 1, 1), "d": random(8)})
    add("Mean", held={"c": random(4, 1, 1), "d": random(8)})
    add("Mod", (10, 13), held={"c": np.abs(random(8)) + 1}, fmod=1)
    add("Clip", (9,), min=-0.3, max=0.4)
    add("Clip", (9,), min=-0.3)
    add("Clip", (9,), max=0.2)
    add("Clip", (11, 12, 13, 17, 21), held={"lo": np.float32(-0.3), "hi": np.float32(0.4)})
    add("Clip", (11, 13, 21), held={"lo": np.float32(-0.3)})
    for ax in (1, 2, 3, -1):
        for op in ("Softmax", "LogSoftmax"):
            add(op, ((9, 11, 13, 17) if ax > 0 else (11, 13, 17)), axis=ax)
    add("Softmax")
    add("LogSoftmax")
    for tb in (0, 1):
        for al, be in ((1.0, 1.0), (0.5, 2.0)):
            add(
                "Gemm",
                held={"w": random(5, 7) if tb else random(7, 5), "b": random(5)},
                takes=["n", 7],
                transB=tb,
                alpha=al,
                beta=be,
            )
            add(
                "Gemm",
                held={"w": random(5, 7) if tb else random(7, 5), "b": random(1, 5)},
                takes=["n", 7],
                transB=tb,
                alpha=al,
                beta=be,
            )
    add("Gemm", (11, 17), held={"w": random(7, 5)}, takes=["n", 7])
    add("MatMul", held={"w": random(8, 3)})
    add("MatMul", held={"w": random(4, 8, 3)})
    W = random(6, 4, 3, 2, scale=0.3)
    B = random(6)
    for st in ([1, 1], [2, 3]):
        for pa in ([0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 2, 1], [2, 0, 0, 1]):
            for d in ([1, 1], [2, 1]):
                add("Conv", (9, 11, 17, 21), held={"w": W, "b": B}, strides=st, pads=pa, dilations=d)
    for ap in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        for st in ([1, 1], [2, 3]):
            add("Conv", (9, 11, 17), held={"w": W, "b": B}, strides=st, auto_pad=ap)
    add("Conv", held={"w": random(6, 2, 3, 3)}, group=2, pads=[1, 1, 1, 1])
    add("Conv", held={"w": random(4, 1, 3, 3)}, group=4)
    add("Conv", held={"w": random(5, 4, 3)}, takes=["n", 4, 9])
    add("Conv", held={"w": random(5, 4, 3, 2, 2)}, takes=["n", 4, 5, 5, 4])
    for a in (
        {},
        {"strides": [2, 2]},
        {"strides": [2, 3], "pads": [1, 0, 0, 1]},
        {"strides": [2, 2], "output_padding": [1, 1]},
        {"strides": [2, 2], "output_shape": [18, 16]},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
        {"strides": [3, 2], "output_shape": [24, 17]},
        {"dilations": [2, 1]},
    ):
        add("ConvTranspose", (9, 11, 17), held={"w": random(4, 6, 3, 2), "b": B}, **a)
    add("ConvTranspose", (11,), held={"w": random(4, 3, 3, 2)}, group=2)
    for k in ([2, 2], [3, 2]):
        for st in ([1, 1], [2, 2], [3, 2]):
            for pa in ([0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]):
                for ce in (0, 1):
                    o = (10, 11, 17, 19, 21)
                    add("MaxPool", o, kernel_shape=k, strides=st, pads=pa, ceil_mode=ce)
                    for inc in (0, 1):
                        add("AveragePool", o, kernel_shape=k, strides=st, pads=pa, ceil_mode=ce, count_include_pad=inc)
    for ap in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        for st in ([1, 1], [2, 3]):
            add("MaxPool", kernel_shape=[3, 2], strides=st, auto_pad=ap)
            add("AveragePool", kernel_shape=[3, 2], strides=st, auto_pad=ap)
            add("AveragePool", kernel_shape=[3, 2], strides=st, auto_pad=ap, count_include_pad=1)
    add("MaxPool", (9, 17), kernel_shape=[3, 3])
    add("AveragePool", (9, 17), kernel_shape=[3, 3])
    add("MaxPool", (10, 17), kernel_shape=[2, 2], dilations=[2, 3])
    add("AveragePool", (19, 21), kernel_shape=[2, 2], dilations=[2, 3])
    add("AveragePool", (19, 21), kernel_shape=[2, 2], dilations=[2, 1], pads=[1, 1, 0, 1], ceil_mode=1, strides=[2, 2])
    add("MaxPool", takes=["n", 4, 9], kernel_shape=[2])
    add("AveragePool", takes=["n", 4, 5, 5, 5], kernel_shape=[2, 2, 2])
    add("GlobalAveragePool")
    add("GlobalMaxPool")
    st = {"s": random(4) + 1, "b": random(4), "m": random(4), "v": np.abs(random(4)) + 0.1}
    add("BatchNormalization", held=st)
    add("BatchNormalization", held=st, epsilon=0.1)
    add("BatchNormalization", held=st, takes=["n", 4])
    add("InstanceNormalization", held={"s": random(4), "b": random(4)}, epsilon=0.1)
    add("LayerNormalization", (17, 20), held={"s": random(8), "b": random(8)})
    add("LayerNormalization", (17, 20), held={"s": random(9, 8), "b": random(9, 8)}, axis=2, epsilon=0.01)
    add("LayerNormalization", (17,), held={"s": random(8)})
    add("GroupNormalization", (21,), held={"s": random(4), "b": random(4)}, num_groups=2)
    add("LRN", size=3, alpha=0.1, beta=0.6, bias=2.0)
    add("LRN", size=2)
    P = ints(0, 0, 1, 2, 0, 1, 0, 3)
    for m in ("constant", "reflect", "edge"):
        add("Pad", (9,), pads=P.tolist(), mode=m)
        add("Pad", (11, 13, 17, 21), held={"p": P}, mode=m)
    add("Pad", (9,), pads=P.tolist(), value=0.7)
    add("Pad", (11, 17), held={"p": P, "v": np.float32(0.7)})
    add("Pad", (18,), held={"p": ints(1, 2, 0, 1), "v": np.float32(0.7), "a": ints(-1, 2)})
    add("Pad", (19,), held={"p": P}, mode="wrap")
    add("Pad", (11,), held={"p": ints(0, 0, -1, 1, 0, 0, 2, -2)})
    for op in (
        *(
            "ReduceMean",
            "ReduceSum",
            "ReduceMax",
            "ReduceMin",
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSumExp",
            "ReduceSumSquare",
        ),
    ):
        for ax in ([2, 3], [-1], [1]):
            for k in (0, 1):
                n13 = 13 if op == "ReduceSum" else 18
                add(op, [o for o in (9, 11, 13, 17) if o < n13], axes=ax, keepdims=k)
                add(op, [o for o in (13, 17, 18, 20, 21) if o >= n13], held={"a": ints(*ax)}, keepdims=k)
    add("Reshape", held={"s": ints(0, 4, -1)})
    add("Reshape", held={"s": ints(-1, 72)}, takes=["n", 4, 9, 2])
    add("Reshape", held={"s": ints(0, 0, 72)})
    add("Reshape", (14, 21), held={"s": ints(-1, 36, 8)}, allowzero=1)
    add("Flatten", axis=1)
    add("Flatten")
    add("Flatten", (11,), axis=-3)
    add("Transpose", perm=[0, 2, 3, 1])
    add("Transpose", perm=[0, 3, 1, 2])
    add("Squeeze", (9, 11), takes=["n", 4, 1, 1], axes=[2, 3])
    add("Squeeze", (13, 17), takes=["n", 4, 1, 1], held={"a": ints(2, -1)})
    add("Unsqueeze", (9, 11), axes=[1, 3])
    add("Unsqueeze", (13,), held={"a": ints(1, -1)})
    add("Concat", held={}, axis=1)
    add("Concat", takes=[1, 4, 9, 8], held={"c": random(1, 2, 9, 8)}, axis=1)
    add("Slice", (9,), starts=[1, 0], ends=[3, -1], axes=[1, 3])
    add("Slice", (10, 11, 13), held={"s": ints(1, -1), "e": ints(3, -100), "a": ints(1, 3), "t": ints(1, -2)})
    add("Slice", (13,), held={"s": ints(-5), "e": ints(2**62), "a": ints(2)})
    add("Slice", (11,), held={"s": ints(8), "e": ints(0), "a": ints(2), "t": ints(-3)})
    add("Gather", held={"i": ints(2, -1, 0)}, axis=1)
    add("Gather", held={"i": np.array(1)}, axis=2)
    add("Gather", held={"i": ints(2, 1, 0, 3).reshape(2, 2)}, axis=3)
    add("Tile", held={"r": ints(1, 2, 1, 3)})
    add("DepthToSpace", blocksize=2)
    add("DepthToSpace", (11,), blocksize=2, mode="CRD")
    add("SpaceToDepth", takes=["n", 4, 8, 8], blocksize=2)
    add("Dropout", (9, 11), ratio=0.5)
    add("Dropout", (12, 13, 17), held={"r": np.float32(0.5)})
    add("Cast", to=1)
    add("Einsum", (12,), equation="nchw->nwc")
    add("Resize", (10,), held={"s": floats(1, 1, 2, 2)}, mode="nearest")
    for m in ("nearest", "linear", "cubic"):
        for t in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
            add(
                "Resize",
                (11, 18),
                held={"r": floats(), "s": floats(), "sizes": ints(1, 4, 5, 12)},
                mode=m,
                coordinate_transformation_mode=t,
                exclude_outside=1 if m == "cubic" else 0,
            )
            for nm in ("floor", "ceil", "round_prefer_ceil"):
                add(
                    "Resize",
                    (11, 18),
                    held={"r": floats(), "s": floats(1, 1, 1.25, 3)},
                    mode="nearest",
                    coordinate_transformation_mode=t,
                    nearest_mode=nm,
                )
            add(
                "Resize",
                (11, 13, 18),
                held={"r": floats(), "s": floats(1, 1, 2, 1.5)},
                mode=m,
                coordinate_transformation_mode=t,
            )
    add("Upsample", (9,), held={"s": floats(1, 1, 2, 2)}, mode="nearest")
    add("CumSum", (11, 14), held={"a": np.array(1)})
    add("LpPool", (9, 11, 18), kernel_shape=[2, 2])
    add("Hardmax", (13, 17))
    add("Shrink")
    add("MeanVarianceNormalization", axes=[2, 3])
    add("LpNormalization", axis=1)
    add("ReduceProd", (11,), axes=[1])
    add("GatherElements", (11, 13), held={"i": np.zeros((1, 4, 9, 8), dtype=np.int64)}, takes=[1, 4, 9, 8], axis=1)
    add("ScatterND", (11,), held={"i": ints(0, 0, 0).reshape(1, 3), "u": random(1, 8)}, takes=[1, 4, 9, 8])
    return made


OPERATORS = _operators()
"""Every case."""
