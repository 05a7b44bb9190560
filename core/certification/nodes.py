"""What a network is for proofs: a graph of affine maps, ReLUs, tanh and sums, and how such graphs are put together.

Max-pooling becomes ReLUs, since max(a, b) = b + relu(a - b); the logistic function is a tanh of half its argument.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from core.certification.affine import Affine, Conv, Gather, Scale, Shape

Kind = Literal["input", "affine", "relu", "tanh", "add"]
CURVED = ("relu", "tanh")
"""Kinds that are not linear."""


class Unbounded(ValueError):
    """The network has a layer without a rule, or computes something else than its layers do."""


@dataclass(frozen=True)
class Node:
    """One step of the network.

    Attributes:
        kind: "input", "affine" (of one parent), "relu" and "tanh" (of one), "add" (of two, the second times `sign`).
        shape: of its value, without the batch.
        parents: places of the nodes that it reads.
        affine: the map of an affine node.
        sign: 1 or -1.
        max_of: two nodes whose maximum a sum is known to be.
        pool: the node, window and stride of a max-pooling that a sum is known to be.
    """

    kind: Kind
    shape: Shape
    parents: tuple[int, ...] = ()
    affine: Affine | None = None
    sign: int = 1
    max_of: tuple[int, int] | None = None
    pool: tuple[int, tuple[int, int], tuple[int, int]] | None = None


@dataclass
class Graph:
    """Nodes in the order of the forward pass; the last one is the logits.

    Attributes:
        dtype, device: of the weights.
        nodes: the steps.
        stems: what `crown.stem_of` keeps.
        unit: the unit roundoff of the arithmetic that bounds are to hold for; 0: exact arithmetic.
    """

    dtype: torch.dtype
    device: torch.device
    nodes: list[Node] = field(default_factory=list)
    stems: dict[int, tuple[dict[int, Tensor], Tensor]] = field(default_factory=dict)
    unit: float = 0.0

    def add(self, node: Node) -> int:
        """Append a node and return its place."""
        self.nodes.append(node)
        return len(self.nodes) - 1

    @property
    def relus(self) -> list[int]:
        """Places of the ReLUs."""
        return [place for place, node in enumerate(self.nodes) if node.kind == "relu"]

    @property
    def before_relus(self) -> list[int]:
        """Places of what the ReLUs read, each once, in order."""
        return sorted({self.nodes[place].parents[0] for place in self.relus})

    @property
    def smooth(self) -> bool:
        """Whether it has a non-linearity that is no ReLU."""
        return any(node.kind == "tanh" for node in self.nodes)

    @property
    def before_curves(self) -> list[int]:
        """Places of what ReLUs and tanh read, each once, in order."""
        return sorted({node.parents[0] for node in self.nodes if node.kind in CURVED})

    def forward(self, x: Tensor) -> list[Tensor]:
        """The value of every node for images (N, C, H, W)."""
        values: list[Tensor] = []
        for node in self.nodes:
            if node.kind == "input":
                values.append(x)
            elif node.kind == "affine":
                assert node.affine is not None
                values.append(node.affine(values[node.parents[0]]))
            elif node.kind == "relu":
                values.append(values[node.parents[0]].clamp(min=0))
            elif node.kind == "tanh":
                values.append(values[node.parents[0]].tanh())
            else:
                first, second = (values[parent] for parent in node.parents)
                values.append(first + node.sign * second)
        return values


# ---------------------------------------------------------------- making nodes


def add_relu(graph: Graph, at: int) -> int:
    """A ReLU of node `at`."""
    return graph.add(Node("relu", graph.nodes[at].shape, (at,)))


def add_tanh(graph: Graph, at: int) -> int:
    """The hyperbolic tangent of node `at`."""
    return graph.add(Node("tanh", graph.nodes[at].shape, (at,)))


def add_sigmoid(graph: Graph, at: int) -> int:
    """The logistic function of node `at`: (1 + tanh(x / 2)) / 2."""
    half = torch.tensor(0.5, dtype=graph.dtype, device=graph.device)
    at = add_tanh(graph, add_affine(graph, at, Scale(half, 0 * half, graph.nodes[at].shape)))
    return add_affine(graph, at, Scale(half, half, graph.nodes[at].shape))


def image_at(graph: Graph, at: int, layer: str) -> Shape:
    """The shape (C, H, W) of what a layer of images reads."""
    shape = graph.nodes[at].shape
    if len(shape) != 3:
        raise Unbounded(f"model: expected {layer} of values (C, H, W), got values of shape {shape}")
    return shape


def add_affine(graph: Graph, at: int, affine: Affine) -> int:
    """An affine map of node `at`."""
    return graph.add(Node("affine", affine.shape_out, (at,), affine))


def add_maximum(graph: Graph, at: int, kernel: tuple[int, int], stride: tuple[int, int]) -> int:
    """A node for each place of the window, then maxima of pairs, of pairs of those, and so on."""
    channels, height, width = image_at(graph, at, "max-pooling")
    rows = torch.arange((height - kernel[0]) // stride[0] + 1, device=graph.device) * stride[0]
    columns = torch.arange((width - kernel[1]) // stride[1] + 1, device=graph.device) * stride[1]
    corner = rows[:, None] * width + columns
    whole = torch.arange(channels, device=graph.device)[:, None, None] * height * width + corner
    shape = tuple(whole.shape)
    places = [i * width + j for i in range(kernel[0]) for j in range(kernel[1])]
    found = [add_affine(graph, at, Gather((whole + place).flatten(), graph.nodes[at].shape, shape)) for place in places]
    while len(found) > 1:
        larger = [add_larger(graph, a, b) for a, b in zip(found[::2], found[1::2], strict=False)]
        found = larger + found[2 * len(larger) :]
    if len(places) > 1:
        graph.nodes[found[0]] = replace(graph.nodes[found[0]], pool=(at, kernel, stride))
    return found[0]


def add_larger(graph: Graph, a: int, b: int) -> int:
    """The maximum of two nodes."""
    shape = graph.nodes[a].shape
    apart = graph.add(Node("add", shape, (a, b), sign=-1))
    above = graph.add(Node("relu", shape, (apart,)))
    return graph.add(Node("add", shape, (b, above), max_of=(a, b)))


def add_average(graph: Graph, at: int, kernel: tuple[int, int], stride: tuple[int, int]) -> int:
    """The mean of each window."""
    shape = image_at(graph, at, "average pooling")
    area = kernel[0] * kernel[1]
    weight = torch.full((shape[0], 1, *kernel), 1 / area, dtype=graph.dtype, device=graph.device)
    return add_affine(graph, at, Conv(weight, None, shape, stride, (0, 0), (1, 1), shape[0]))


def count(shape: Shape) -> int:
    """Values of this shape."""
    return torch.Size(shape).numel()
