"""Networks made by others, as the store keeps them: a graph in ONNX, or weights and the name of an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from core.networks import architectures, weight_files
from core.networks.layers import Shape
from core.networks.onnx_network import OnnxNetwork
from core.specs import ImportSpec

GRAPH = "model.onnx"
"""The file of an imported graph."""


@dataclass(frozen=True)
class Body:
    """A network as it was read, and what the store keeps of it.

    Attributes:
        network: in eval mode; from what it takes to what it answers with.
        takes: shape of one image as the network takes it, without the batch; (C, H, W) of the data set for an
            architecture that takes any size.
        outputs: numbers that it answers with, an image.
        arrays, blobs: see `store.Outcome`.
        notes: sentences on what was decided while it was read.
    """

    network: nn.Module
    takes: tuple[int, ...]
    outputs: int
    arrays: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read(spec: ImportSpec, data: bytes, shape: Shape, classes: int) -> Body:
    """The network in the bytes of a file.

    Args:
        spec: what the file is said to be.
        data: its bytes.
        shape: (C, H, W) of the data set's images.
        classes: of the data set.

    Raises:
        ValueError: see `OnnxNetwork`, `weight_files.read` and `architectures.fill`.
    """
    if spec.route == "onnx":
        network = OnnxNetwork(data)
        return Body(network, network.takes, network.outputs, blobs={GRAPH: data})
    notes: list[str] = []
    weights = weight_files.read(data, notes)
    outputs = architectures.outputs_of(spec.architecture, weights, classes)
    takes = architectures.takes(spec.architecture, shape, resize=spec.resize, crop=spec.crop, weights=weights)
    made = of_weights(spec.architecture, outputs, weights, takes)
    kept = {name: value.numpy() for name, value in made.state_dict().items()}
    return Body(made, takes, outputs, arrays={"weights": kept}, notes=tuple(notes))


def of_graph(data: bytes) -> nn.Module:
    """The network of an ONNX file that was compared when it was imported. Raises ValueError: see `OnnxNetwork`."""
    return OnnxNetwork(data, compare=False)


def of_weights(architecture: str, outputs: int, weights: Mapping[str, Tensor], shape: Shape) -> nn.Module:
    """An architecture with these weights, in eval mode. Raises ValueError: see `architectures`."""
    model = architectures.build(architecture, shape, outputs, weights)
    architectures.fill(model, architecture, weights)
    return model.eval()
