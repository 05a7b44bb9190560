"""A network from an ONNX file as a module: read safely, run node by node, and compared with ONNX's own numbers.

Most operators are torch functions of this program (`onnx_operators`, `onnx_windows`); the rest are run by onnx2pytorch,
one node at a time. At construction every node is compared with ONNX's reference evaluator, and batches with images one
by one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from core.networks import onnx_file
from core.networks.onnx_check import close, compared
from core.networks.onnx_operators import FUNCTIONS, Step
from core.networks.onnx_resize import RESIZES
from core.networks.onnx_rest import Converted, attributes_of, tensor_of
from core.networks.onnx_shapes import SHAPES
from core.networks.onnx_windows import WINDOWS

KNOWN = {**FUNCTIONS, **SHAPES, **WINDOWS, **RESIZES}
"""The functions of this program, by operator."""
CUTS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
THROUGH = {"Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze"}
"""Operators that only move values."""
SHAPED = {
    "Resize",
    "Upsample",
    "Reshape",
    "Expand",
    "Slice",
    "Tile",
    "Pad",
    "Unsqueeze",
    "Squeeze",
    "Split",
    "ConstantOfShape",
    "Range",
} | {name for name in FUNCTIONS if name.startswith("Reduce")}
"""Operators whose further inputs are numbers that stay on the CPU."""


class OnnxNetwork(nn.Module):
    """The graph of an ONNX file, for any number of images; in eval mode, its weights frozen.

    A Softmax, LogSoftmax or Sigmoid at its end is cut off (`cut`): the predictions stay the same, and gradients are not
    lost where it is saturated.

    Attributes:
        takes: shape of one image as the graph takes it, without the batch.
        outputs: numbers that it answers with, an image.
        proto: the checked `onnx.ModelProto`, without its weights.
        steps: what is computed, in order.
        ends_in: "softmax", "log_softmax" or "sigmoid" where the graph ends in one; else "".
        cut: whether that end is cut off.
        one_by_one: whether images are run one at a time, as the graph allows no batch or mixes its images.
        depends_on_batch: whether it is a graph for batches that mixes the images of a batch.
        random: its random operators.
        unchecked: operators whose numbers ONNX's reference evaluator gave none to compare with, or not in time.
    """

    def __init__(self, data: bytes, *, cut: bool = True, compare: bool = True) -> None:
        """Read the graph in the bytes of a file.

        Args:
            data: the file.
            cut: whether to cut off a last softmax or sigmoid.
            compare: whether to compare every node with ONNX's reference evaluator, which takes seconds on large
                networks: not needed for a file that was compared before.

        Raises:
            ValueError: see `onnx_file.read`; or a graph that answers with something else than numbers for each class,
                or computes what ONNX says it does not.
        """
        super().__init__()
        file = onnx_file.read(data)
        self.proto, self.opset, self.takes = file.proto, file.opset, file.takes
        self.input, self.output, self.batch = file.input, file.output, file.batch or 1
        self.random = tuple(
            sorted({node.op_type for node in file.proto.graph.node if node.op_type in onnx_file.RANDOM})
        )
        self.weights = nn.ParameterList()
        self.places: dict[str, int] = {}
        self.folded: dict[str, torch.Size] = {}
        self.integers: dict[str, Tensor] = {}
        self.others = nn.ModuleDict()
        self.any_batch: dict[str, tuple[int, ...]] = {}
        self.one_by_one = self.depends_on_batch = self.cut = False
        self.unchecked: tuple[str, ...] = ()
        self.ends_in = ""
        self.rest: dict[str, int] = {}
        self._read_constants()
        self.steps = self._steps()
        self.eval().requires_grad_(False)
        with torch.no_grad():
            values = self._first_values()
            self.outputs = self._outputs_of(values[self.output])
            if compare and not self.random:
                self._compare(values)
            self._cut_end(values, cut)
            self._fit_batches(values, file.batch)
        self._drop_unread()

    def forward(self, x: Tensor) -> Tensor:
        """What the graph answers with for inputs (N, *takes): (N, outputs)."""
        if tuple(x.shape[1:]) != self.takes:
            raise ValueError(f"x: expected inputs of shape (N, {self.takes}), got {tuple(x.shape)}")
        if self.one_by_one and len(x) != self.batch:
            return torch.cat([self._answer(row[None]) for row in x]) if len(x) else x.new_zeros(0, self.outputs)
        return self._answer(x)

    def train(self, mode: bool = True) -> Self:
        """The graph is one for inference: it stays in eval mode."""
        return super().train(False)

    def values(self, x: Tensor) -> dict[str, Tensor]:
        """Every value of the graph for inputs (N, *takes), constants too."""
        known = {**self.constants(), self.input: x}
        for step in self.steps:
            self._run(step, known)
        return known

    def constants(self) -> dict[str, Tensor]:
        """The values that no input changes, by name."""
        found = dict(self.integers)
        for name, place in self.places.items():
            weight = self.weights[place]
            found[name] = weight.view(self.folded[name]) if name in self.folded else weight
        return found

    # ------------------------------------------------------------ running

    def _answer(self, x: Tensor) -> Tensor:
        made = self._last(x)
        if made.numel() != len(x) * self.outputs:
            raise ValueError(f"x: expected a graph that takes batches of {len(x)}, got output {tuple(made.shape)}")
        return made.reshape(len(x), self.outputs)

    def _last(self, x: Tensor) -> Tensor:
        """The output, values forgotten after their last use."""
        known: dict[str, Tensor] = {**self.constants(), self.input: x}
        last = {name: at for at, step in enumerate(self.steps) for name in step.inputs}
        for at, step in enumerate(self.steps):
            self._run(step, known)
            for name in step.inputs:
                if last[name] == at and name != self.output:
                    known.pop(name, None)
        return known[self.output]

    def _run(self, step: Step, known: dict[str, Tensor]) -> None:
        args = [known[name] if name else None for name in step.inputs]
        device = next((arg.device for arg in args if arg is not None and arg.device.type != "cpu"), None)
        if device is not None and step.op not in SHAPED:
            args = [None if arg is None else arg.to(device) for arg in args]
        dtype = known[self.input].dtype if self.input in known else torch.float32
        made = self._computed(replace(step, dtype=dtype), args, known)
        made = made if isinstance(made, tuple | list) else (made,)
        known.update({name: value for name, value in zip(step.outputs, made, strict=False) if name})

    def _computed(self, step: Step, args: list[Tensor | None], known: Mapping[str, Tensor]) -> Any:
        name = step.outputs[0]
        if self.any_batch:
            if name in self.any_batch:
                assert args[0] is not None
                return args[0].reshape(-1, *self.any_batch[name][1:])
            if step.op == "Concat" and step.get("axis") != 0:
                count = max(len(arg) for arg in args if arg is not None)
                args = [arg.expand(count, *arg.shape[1:]) if arg is not None and len(arg) == 1 else arg for arg in args]
        if step.op in KNOWN:
            return KNOWN[step.op](step, *args)
        return self.others[str(self.rest[name])](*[arg for arg in args if arg is not None])

    # ------------------------------------------------------------ construction

    def _keep(self, name: str, value: Tensor) -> None:
        if value.is_floating_point():
            self.places[name] = len(self.weights)
            if value.ndim > 4:  # `to(memory_format=...)` refuses parameters of more dimensions
                self.folded[name] = value.shape
                value = value.flatten()
            self.weights.append(nn.Parameter(value.detach().clone(), requires_grad=False))
        else:
            self.integers[name] = value

    def _read_constants(self) -> None:
        for tensor in self.proto.graph.initializer:
            self._keep(tensor.name, tensor_of(tensor))
        if self.proto.graph.sparse_initializer:
            raise ValueError("file: expected dense weights, got sparse ones")

    def _steps(self) -> list[Step]:
        """The nodes that depend on the input; the others are computed here, once."""
        steps: list[Step] = []
        needed = self._needed()
        constant = dict(self.constants())
        unknown = []
        for place, node in enumerate(self.proto.graph.node):
            if not needed.intersection(node.output):
                continue
            step = Step(node.op_type, self.opset, attributes_of(node), tuple(node.input), tuple(node.output))
            try:
                if node.op_type not in KNOWN:
                    self.rest[node.output[0]] = place
                    self.others[str(place)] = Converted(self.proto, node, constant)
                if step.op not in onnx_file.RANDOM and all(name in constant for name in step.inputs if name):
                    before = set(constant)
                    self._run(step, constant)
                    for name in constant.keys() - before:
                        self._keep(name, constant[name])
                    continue
            except Exception:
                unknown.append(node.op_type)
                continue
            steps.append(step)
        if unknown:
            raise ValueError(f"file: expected operators that this program runs, got {', '.join(sorted(set(unknown)))}")
        return steps

    def _needed(self) -> set[str]:
        needed = {self.output}
        for node in reversed(self.proto.graph.node):
            if needed.intersection(node.output):
                needed.update(node.input)
        return needed

    def _first_values(self) -> dict[str, Tensor]:
        x = torch.rand(self.batch, *self.takes, generator=torch.Generator().manual_seed(0))
        known = {**self.constants(), self.input: x}
        bad = []
        for step in self.steps:
            if not all(name in known for name in step.inputs if name):
                continue
            try:
                self._run(step, known)
            except Exception as error:
                bad.append(f"{step.op} ({onnx_file.first_line(error)})")
        if bad:
            raise ValueError(f"file: expected operators that this program runs, got {'; '.join(bad[:5])}")
        return known

    def _outputs_of(self, made: Tensor) -> int:
        if not isinstance(made, Tensor):
            raise ValueError("file: expected a graph that answers with numbers, got something else")
        shape = tuple(made.shape)
        rest = [side for side in (shape[1:] if shape[:1] == (self.batch,) else shape) if side != 1]
        if not made.is_floating_point():
            raise ValueError(
                f"file: expected a graph that answers with a number for each class, got {str(made.dtype)[6:]} values"
            )
        if len(rest) > 1 or (shape[:1] != (self.batch,) and self.batch != 1):
            raise ValueError(
                f"file: expected one number a class for each image, got an output of shape {shape} for "
                f"{self.batch} image{'s' * (self.batch != 1)}"
            )
        return rest[0] if rest else 1

    def _compare(self, values: Mapping[str, Tensor]) -> None:
        """Refuse a graph whose nodes do not give ONNX's own numbers, for two inputs."""
        own, draw = frozenset(KNOWN), torch.Generator().manual_seed(1)
        other = torch.randn(self.batch, *self.takes, generator=draw)
        unknown: set[str] = set()
        for at in (values, self.values(other)):
            wrong, more = compared(self.proto, self.steps, at, own)
            unknown |= more
            if wrong:
                raise ValueError(
                    f"file: expected operators that give ONNX's own numbers here, got others from "
                    f"{', '.join(sorted(wrong))}"
                )
        self.unchecked = tuple(sorted(unknown))

    def _cut_end(self, values: Mapping[str, Tensor], cut: bool) -> None:
        made_by = {name: place for place, step in enumerate(self.steps) for name in step.outputs}
        name = self.output
        while name in made_by and self.steps[made_by[name]].op in THROUGH:
            name = self.steps[made_by[name]].inputs[0]
        if name not in made_by or self.steps[made_by[name]].op not in CUTS:
            return
        place = made_by[name]
        step = self.steps[place]
        if step.op != "Sigmoid" and (self.outputs == 1 or not self._over_classes(step, values[step.inputs[0]])):
            return
        self.ends_in, self.cut = CUTS[step.op], cut
        if cut:
            self.steps[place] = Step("Identity", step.opset, {}, step.inputs, step.outputs)

    def _over_classes(self, step: Step, x: Tensor) -> bool:
        """Whether a softmax is over the classes of each image."""
        if step.opset >= 13:
            return x.shape[step.get("axis", -1)] == self.outputs
        return math.prod(x.shape[step.get("axis", 1) % x.ndim :]) == self.outputs

    def _fit_batches(self, values: Mapping[str, Tensor], declared: int | None) -> None:
        """Find how to run batches so that they give what single images give; else one by one."""
        if self.random:
            return
        count = 3 if self.outputs != 3 else 2
        draw = torch.Generator().manual_seed(2)
        x = torch.rand(count, *self.takes, generator=draw)
        single = self._single(x, values, declared)
        if single is not None and _same_as(self, x, single):
            return
        runs = declared is None and _runs(self, x)
        self.any_batch = {
            step.outputs[0]: tuple(values[step.outputs[0]].shape)
            for step in self.steps
            if step.op == "Reshape" and step.inputs[1] in self.integers and values[step.outputs[0]].ndim > 1
        } or {"": ()}
        if single is not None and _same_as(self, x, single):
            return
        self.any_batch = {}
        if self.batch != 1:
            raise ValueError(
                f"file: expected a first dimension that is the batch, 1 or of any size, got one of {self.batch} that "
                "is none"
            )
        self.one_by_one, self.depends_on_batch = True, runs

    def _single(self, x: Tensor, values: Mapping[str, Tensor], declared: int | None) -> Tensor | None:
        """The answers for images one by one, in the batch that the graph is for: repeated, where it is larger."""
        if declared in (None, 1):
            return torch.cat([self._answer(row[None]) for row in x])
        made = []
        for row in x:
            other = values[self.input].clone()
            other[0] = row
            made.append(self._answer(other)[:1])
        return torch.cat(made)

    def _drop_unread(self) -> None:
        """Forget weights that no step reads, and the file's copy of all of them."""
        del self.proto.graph.initializer[:]
        read = {name for step in self.steps for name in step.inputs} | {self.output}
        kept = [(name, self.weights[place]) for name, place in self.places.items() if name in read]
        self.weights = nn.ParameterList([value for _, value in kept]).requires_grad_(False)
        self.places = {name: place for place, (name, _) in enumerate(kept)}
        self.integers = {name: value for name, value in self.integers.items() if name in read}


def _same_as(network: OnnxNetwork, x: Tensor, single: Tensor) -> bool:
    try:
        return close(network._answer(x), single)
    except Exception:
        return False


def _runs(network: OnnxNetwork, x: Tensor) -> bool:
    try:
        network._answer(x)
    except Exception:
        return False
    return True
