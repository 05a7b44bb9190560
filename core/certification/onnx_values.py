"""What the rules for ONNX operators share: the values of the network on its way, and how a rule gives its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.certification.affine import Affine, Shape
from core.certification.nodes import Graph, Node, Unbounded, add_affine
from core.networks.onnx_operators import Step


@dataclass
class Lowering:
    """A network on its way.

    Attributes:
        graph: what nodes are appended to.
        values: every value of the network for one image, in float64: only shapes are read, and constants.
        places: the node of each value that depends on the image.
    """

    graph: Graph
    values: Mapping[str, Tensor]
    places: dict[str, int]

    def shape(self, name: str) -> Shape:
        """Of a value, without the batch."""
        return tuple(self.values[name].shape[1:])

    def constant(self, name: str) -> Tensor:
        """A value that depends on no image, in the graph's dtype if it is no integer."""
        value = self.values[name]
        return value.to(self.graph.device, self.graph.dtype) if value.is_floating_point() else value

    def node(self, name: str) -> Node:
        """The node of a value."""
        return self.graph.nodes[self.places[name]]


def give(made: Lowering, step: Step, at: int) -> None:
    """Node `at` is what a step gives."""
    name = step.outputs[0]
    if made.graph.nodes[at].shape != made.shape(name):
        raise Unbounded(
            f"model: expected {step.op} to give values of shape {made.shape(name)}, got {made.graph.nodes[at].shape}"
        )
    made.places[name] = at


def give_affine(made: Lowering, step: Step, affine: Affine) -> None:
    """An affine map of its first input is what a step gives."""
    give(made, step, add_affine(made.graph, made.places[step.inputs[0]], affine))


def refused(step: Step, what: str) -> Unbounded:
    """The error for an operator that is used in a way that has no rule."""
    return Unbounded(f"model: expected {step.op} {what}")


def fitted(made: Lowering, step: Step, name: str, value: Tensor) -> Tensor:
    """A constant that broadcasts over an image's values without enlarging them, without the batch."""
    shape = made.shape(name)
    if value.ndim == len(shape) + 1 and len(value) == 1:
        value = value[0]
    if value.ndim > len(shape) or np.broadcast_shapes(value.shape, shape) != tuple(shape):
        raise refused(step, f"with constants that fit {shape}, got shape {tuple(value.shape)}")
    return value


def one(made: Lowering) -> Tensor:
    """The number 1."""
    return torch.ones((), dtype=made.graph.dtype, device=made.graph.device)
