"""A network on a part of a ball: the same graph without the ReLUs that are off there.

A ReLU that is off gives exactly 0, in any arithmetic: what it reads need not be known, and what reads it loses a
column. Places stay as they are, shapes shrink, and dense layers read past what only gives values another shape. At
small ε most ReLUs of dense layers are off.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from core.certification.affine import Dense, Reshape
from core.certification.bounds import Known
from core.certification.nodes import Graph


def reduced(graph: Graph, needed: dict[int, Tensor]) -> tuple[Graph, dict[int, Tensor]]:
    """The graph with the needed values alone of dense layers that nothing but ReLUs read, and dense layers those.

    Args:
        graph: see `graph.lower`.
        needed: for each node that ReLUs read, which of its values (*shape) are needed; the ReLUs of the others are off.

    Returns:
        The graph, and for each node that shrank which of its flat values are left, one at least.
    """
    made = Graph(graph.dtype, graph.device, unit=graph.unit)
    kept: dict[int, Tensor] = {}
    for place, node in enumerate(graph.nodes):
        parent = node.parents[0] if node.parents else -1
        while isinstance(node.affine, Dense) and isinstance(made.nodes[parent].affine, Reshape):
            parent = made.nodes[parent].parents[0]
        if isinstance(node.affine, Dense):
            weight, bias, shape = node.affine.weight, node.affine.bias, node.shape
            if parent in kept:
                weight = weight[:, kept[parent]]
            if place in needed and _may_shrink(graph, place):
                rows = needed[place].flatten().nonzero()[:, 0]
                rows = rows if len(rows) else rows.new_zeros(1)
                kept[place], shape = rows, (len(rows),)
                weight, bias = weight[rows], None if bias is None else bias[rows]
            dense = Dense(weight.contiguous(), bias, made.nodes[parent].shape, shape, terms=node.affine.terms)
            made.add(replace(node, affine=dense, shape=shape, parents=(parent,)))
        elif parent in kept:  # a ReLU, or other shapes
            kept[place], shape = kept[parent], made.nodes[parent].shape
            made.add(replace(node, affine=node.affine and Reshape(shape, shape), shape=shape))
        else:
            made.add(node)
    return made, kept


def _may_shrink(graph: Graph, place: int) -> bool:
    readers = _readers(graph, place)
    return all(graph.nodes[reader].kind == "relu" and _feeds_matrices(graph, reader) for reader in readers)


def _feeds_matrices(graph: Graph, place: int) -> bool:
    readers = _readers(graph, place)
    return bool(readers) and all(
        isinstance(graph.nodes[reader].affine, Dense)
        or (isinstance(graph.nodes[reader].affine, Reshape) and _feeds_matrices(graph, reader))
        for reader in readers
    )


def _readers(graph: Graph, place: int) -> list[int]:
    return [reader for reader, node in enumerate(graph.nodes) if place in node.parents]


def part_of(value: Tensor, kept: Tensor | None) -> Tensor:
    """What is left of values (N, *shape) of a node."""
    return value if kept is None else value.flatten(1)[:, kept]


def bounds_of_part(known: Known, kept: dict[int, Tensor]) -> Known:
    """What is left of nodes' bounds."""
    return {at: (part_of(low, kept.get(at)), part_of(high, kept.get(at))) for at, (low, high) in known.items()}


def put_back(value: Tensor, part: Tensor, kept: Tensor | None) -> Tensor:
    """Values (N, *shape) of a node, those that are left taken from `part`."""
    if kept is None:
        return part
    flat = value.flatten(1).clone()
    flat[:, kept] = part.to(flat.dtype)
    return flat.view_as(value)
