"""Read an ONNX file safely: one graph, from one float32 input to one output, that nothing outside the file belongs to.

No code runs, no other file is read: external data is refused before anything looks at it (files of that kind have read
whatever a path named, CVE-2024-27318 and its like).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LARGEST = (2 << 30) - 1
"""Bytes of an ONNX file at most: what one protobuf message can hold."""
OPSETS = range(9, 22)
"""Versions of ONNX's operators that are read."""
CONTROL = {"If", "Loop", "Scan", "SequenceMap"}
QUANTISED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"} | {
    "ConvInteger",
    "MatMulInteger",
}
RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
MISSING = "reading ONNX files needs two more packages: pip install -r requirements-onnx.txt, or adversarial-lab[onnx]"


@dataclass(frozen=True)
class OnnxFile:
    """A checked graph.

    Attributes:
        proto: the `onnx.ModelProto`, its local functions inlined.
        opset: version of the operators.
        input: name of its input.
        batch: the first dimension of the input; None for any.
        takes: the others.
        output: name of its output.
    """

    proto: Any
    opset: int
    input: str
    batch: int | None
    takes: tuple[int, ...]
    output: str


def read(data: bytes) -> OnnxFile:
    """The graph in the bytes of an ONNX file.

    Raises:
        ValueError: no ONNX file, a truncated one, one above `LARGEST`, or a graph that this program does not run; the
            message says which of these, and what was expected. Or onnx is not installed.
    """
    onnx = _package()
    if len(data) > LARGEST:
        raise ValueError(f"file: expected an ONNX file of at most {LARGEST:,} bytes, got one of {len(data):,}")
    proto = _parsed(onnx, data)
    _refuse_external(onnx, proto)
    proto = _inlined(onnx, proto)
    opset = _opset(proto)
    _refuse_operators(proto)
    try:
        onnx.checker.check_model(proto)
    except Exception as error:
        raise ValueError(f"file: expected a valid ONNX graph, got one that ONNX refuses: {first_line(error)}") from None
    name, batch, takes = _input(onnx, proto.graph)
    names = [output.name for output in proto.graph.output]
    if len(names) != 1:
        raise ValueError(f"file: expected an ONNX graph with one output, got {len(names)}: {', '.join(names)}")
    return OnnxFile(proto, opset, name, batch, takes, names[0])


def _package() -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.inliner
    except ImportError:
        raise ValueError(MISSING) from None
    return onnx


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _parsed(onnx: Any, data: bytes) -> Any:
    from google.protobuf.message import DecodeError

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except (DecodeError, RuntimeError):
        proto = None
    if proto is None or not proto.graph.node or not proto.opset_import:
        raise ValueError("file: expected a whole ONNX file, got one that is no ONNX graph or was cut off")
    return proto


def _messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all those inside it."""
    waiting = [message]
    while waiting:
        one = waiting.pop()
        yield one
        for kind, value in one.ListFields():
            if kind.type == kind.TYPE_MESSAGE:
                waiting.extend([value] if hasattr(value, "ListFields") else value)


def _refuse_external(onnx: Any, proto: Any) -> None:
    """Wherever a tensor is: initializers, attributes, subgraphs, functions, sparse tensors."""
    outside = [
        tensor.name or "(without a name)"
        for tensor in _messages(proto)
        if isinstance(tensor, onnx.TensorProto)
        and (tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL)
    ]
    if outside:
        raise ValueError(
            f"file: expected an ONNX file that holds all its weights, got one that keeps {_few(outside)} in other "
            "files (external data); save it as one file"
        )


def _few(names: list[str]) -> str:
    names = sorted(set(names))
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _inlined(onnx: Any, proto: Any) -> Any:
    if not proto.functions:
        return proto
    try:
        return onnx.inliner.inline_local_functions(proto)
    except Exception as error:
        raise ValueError(f"file: expected ONNX functions that can be inlined: {first_line(error)}") from None


def _opset(proto: Any) -> int:
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    version = int(versions.get("", versions.get("ai.onnx", 0)))
    if version not in OPSETS:
        raise ValueError(
            f"file: expected ONNX operators of opset {OPSETS[0]} to {OPSETS[-1]}, got {version or 'those of no opset'}"
        )
    return version


def _refuse_operators(proto: Any) -> None:
    nodes = list(proto.graph.node)
    custom = [f"{node.domain}.{node.op_type}" for node in nodes if node.domain not in ("", "ai.onnx")]
    if custom:
        raise ValueError(f"file: expected ONNX's own operators, got {_few(custom)}")
    for refused, what in ((CONTROL, "without control flow"), (QUANTISED, "in floating point, not quantised")):
        found = [node.op_type for node in nodes if node.op_type in refused]
        if found:
            raise ValueError(f"file: expected an ONNX graph {what}, got operators {_few(found)}")
    held = {tensor.name for tensor in proto.graph.initializer}
    _refuse_training(nodes, held, proto)


def _refuse_training(nodes: list[Any], held: set[str], proto: Any) -> None:
    """Batch norm that takes the statistics of the batch, and dropout that drops."""
    import onnx

    known = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in nodes:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                known[node.output[0]] = attribute.t
    for node in nodes:
        training = any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)
        if node.op_type == "BatchNormalization":
            training = training or len([name for name in node.output if name]) > 1
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
            mode = known.get(node.input[2])
            training = mode is None or bool(onnx.numpy_helper.to_array(mode).any())
        if training:
            raise ValueError(
                f"file: expected an ONNX graph for inference, got {node.op_type} in training mode; export the model "
                "in eval mode"
            )


def _input(onnx: Any, graph: Any) -> tuple[str, int | None, tuple[int, ...]]:
    """Name, batch and shape of one image of the input."""
    held = {tensor.name for tensor in graph.initializer} | {tensor.values.name for tensor in graph.sparse_initializer}
    inputs = [value for value in graph.input if value.name not in held]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise ValueError(f"file: expected an ONNX graph with one input, got {len(inputs)}: {names}")
    (value,) = inputs
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type != onnx.TensorProto.FLOAT:
        got = onnx.TensorProto.DataType.Name(kind.elem_type) if value.type.HasField("tensor_type") else "no tensor"
        raise ValueError(f"file: expected an ONNX graph of float32 images, got an input of {got.lower()}")
    sizes = [side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim]
    shown = "(" + ", ".join(str(side.dim_value or side.dim_param or "?") for side in kind.shape.dim) + ")"
    if len(sizes) < 2:
        raise ValueError(f"file: expected an input of a batch and the sizes of one image, got shape {shown}")
    if any(not size or size < 1 for size in sizes[1:]):
        raise ValueError(
            f"file: expected an input whose sizes are fixed but for the batch, got shape {shown}; export it with the "
            "size of the images"
        )
    batch = sizes[0] if sizes[0] and sizes[0] > 0 else None
    return value.name, batch, tuple(int(size) for size in sizes[1:] if size)
