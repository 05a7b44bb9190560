"""Interval bounds: between what values every node stays while the image moves inside a ball; and float32's rounding.

Source: Gowal et al. 2018, arXiv 1810.12715 (IBP). A network is bounded node by node, so the bounds hold but are loose
where it was not trained for them. They are differentiable, in the images' dtype and rounded to nearest: good for
training. Verdicts come from `proof`, which computes in float64 and subtracts what `rounding` allows.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from core.certification.ball import check_box, exact_eps
from core.certification.graph import lower
from core.certification.nodes import Graph

Bounds = tuple[Tensor, Tensor]
Known = dict[int, Bounds]
"""Bounds of nodes by their places."""
CURVE_UNITS = 16
"""Units that float32's tanh and logistic function may be wrong by; PyTorch's are within 4."""
LARGEST = torch.finfo(torch.float32).max
"""Where a sum may exceed it, float32 may give infinity and then NaN."""


def interval(module: nn.Module, low: Float[Tensor, "n ..."], high: Float[Tensor, "n ..."]) -> Bounds:
    """Bounds of the module's output for inputs between `low` and `high`, in its shape; differentiable.

    Raises:
        Unbounded: see `graph.lower`.
    """
    return intervals(lower(module, tuple(low.shape[1:]), low.dtype), low, high)[-1]


def linf_box(x: Float[Tensor, "n c h w"], eps: float | Float[Tensor, " n"]) -> Bounds:
    """Lowest and highest image of the linf ball, inside the box [0, 1]; one ε for all or one per image."""
    check_box(x)
    room = exact_eps(eps, x).to(x.dtype).view(-1, 1, 1, 1)
    return (x - room).clamp(min=0), (x + room).clamp(max=1)


def margin_bounds(
    model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], eps: float | Float[Tensor, " n"]
) -> Float[Tensor, "n k"]:
    """Lower bounds of logit y minus logit k for every image of the ball and every class k; 0 for k = y.

    A last linear layer is joined with the difference of the logits, which is tighter than bounding each logit.

    Args:
        model: pixels to logits, made of layers that `interval` knows.
        x: (N, C, H, W) in [0, 1].
        y: (N,) int64 classes.
        eps: of the linf ball, one or (N,).

    Raises:
        ValueError: a bad ε, or images outside [0, 1].
        Unbounded: a layer without a rule.
    """
    graph = lower(model, tuple(x.shape[1:]), x.dtype)
    rows = margin_rows(graph.nodes[-1].shape[0], y, x)
    return interval_margins(graph, intervals(graph, *linf_box(x, eps), lean=True), rows)


def margin_rows(classes: int, y: Int[Tensor, " n"], like: Tensor) -> Float[Tensor, "n k k"]:
    """Rows true - other, one per class; row y is zero."""
    one = torch.eye(classes, dtype=like.dtype, device=like.device)
    return one[y][:, None] - one


def intervals(
    graph: Graph, low: Tensor, high: Tensor, known: Known | None = None, *, lean: bool = False
) -> list[Bounds]:
    """Bounds of every node for inputs between `low` and `high`; `known` bounds of nodes are taken where tighter.

    With `lean` the nodes that the last one's bounds do not depend on, inside a max-pooling, get the input's bounds.
    """
    made: list[Bounds] = []
    wanted = _wanted(graph) if lean else range(len(graph.nodes))
    for place in range(len(graph.nodes)):
        made.append(interval_at(graph, place, made, (low, high), known or {}) if place in wanted else made[0])
    return made


def _wanted(graph: Graph) -> set[int]:
    """The nodes that the last one's bounds are computed from; those of a pooling are computed from its input."""
    wanted = {0, len(graph.nodes) - 1}
    for place in range(len(graph.nodes) - 1, 0, -1):
        if place in wanted:
            node = graph.nodes[place]
            wanted.update(node.parents if node.pool is None else (node.pool[0],))
    return wanted


def interval_at(graph: Graph, place: int, made: list[Bounds], ends: Bounds, known: Known) -> Bounds:
    """Bounds of one node from those of the nodes before it."""
    node = graph.nodes[place]
    if node.kind == "input":
        low, high = ends
    elif node.kind == "affine":
        assert node.affine is not None
        low, high = made[node.parents[0]]
        middle, half = node.affine((low + high) / 2), node.affine.spread((high - low) / 2)
        low, high = middle - half, middle + half
    elif node.kind == "relu":
        low, high = (F.relu(end) for end in made[node.parents[0]])
    elif node.kind == "tanh":
        low, high = (end.tanh() for end in made[node.parents[0]])
    elif node.pool is not None:
        at, window, stride = node.pool
        low, high = (F.max_pool2d(end, window, stride) for end in made[at])
    elif node.max_of is not None:
        (low_a, high_a), (low_b, high_b) = (made[parent] for parent in node.max_of)
        low, high = torch.maximum(low_a, low_b), torch.maximum(high_a, high_b)
    else:
        (low_a, high_a), (low_b, high_b) = (made[parent] for parent in node.parents)
        low, high = (low_a + low_b, high_a + high_b) if node.sign > 0 else (low_a - high_b, high_a - low_b)
    if graph.unit:
        error = own_error(graph, place, made)
        low, high = low - error, high + error
    if place in known:
        low, high = torch.maximum(low, known[place][0]), torch.minimum(high, known[place][1])
    return low, high


def interval_margins(graph: Graph, made: list[Bounds], rows: Float[Tensor, "n m k"]) -> Float[Tensor, "n m"]:
    """The smallest value of functions of the logits, the last affine layers joined with them."""
    place, constant = len(graph.nodes) - 1, torch.zeros(rows.shape[:2], dtype=rows.dtype, device=rows.device)
    value: Tensor = rows
    while graph.nodes[place].kind == "affine" and graph.nodes[place].parents[0] != 0:
        affine = graph.nodes[place].affine
        assert affine is not None
        constant = constant + affine.constant(value)
        value, place = affine.back(value), graph.nodes[place].parents[0]
    low, high = made[place]
    middle, half = ((low + high) / 2).flatten(1), ((high - low) / 2).flatten(1)
    flat = value.flatten(2)
    return (flat @ middle[..., None] - flat.abs() @ half[..., None])[..., 0] + constant


UNIT = 2.0**-24
"""Float32's unit roundoff."""


def own_error(graph: Graph, place: int, made: list[Bounds]) -> Tensor | float:
    """How far the arithmetic of `graph.unit` may take one node from what is exact for the values that it reads.

    `made` bounds those values, as that arithmetic gives them. See `rounding` for the bound of a sum.
    """
    node, unit = graph.nodes[place], graph.unit
    if node.kind == "affine":
        assert node.affine is not None
        if node.affine.terms == 0:  # values are moved, not computed
            return 0.0
        low, high = made[node.parents[0]]
        parts = node.affine.size(torch.maximum(low.abs(), high.abs()))
        share = _share(node.affine.terms, unit)
        return share * parts.where(parts < LARGEST, torch.inf)
    if node.kind == "tanh":
        return CURVE_UNITS * unit
    if node.kind == "add" and node.max_of is None:  # a pooling compares and does not compute
        sizes = [torch.maximum(made[parent][0].abs(), made[parent][1].abs()) for parent in node.parents]
        return 2 * unit * (sizes[0] + sizes[1])
    return 0.0


def noise_at(graph: Graph, place: int, made: list[Bounds], before: list[Tensor]) -> Tensor:
    """How far rounding may take a node from what is exact for the outputs of the ReLUs and tanh that it sees.

    Linear bounds (`crown.backward`) pass from such an output to what it reads; what rounding adds there counts by the
    coefficient that it has, signs and all. That is much less than `rounding`, which carries every error through all
    layers by absolute weights.
    """
    node, nothing = graph.nodes[place], torch.zeros_like(made[place][0])
    if node.kind in ("input", "relu"):
        return nothing
    own = own_error(graph, place, made)
    if node.kind == "tanh":
        return nothing + own
    if node.kind == "affine":
        assert node.affine is not None
        return node.affine.spread(before[node.parents[0]]) + own
    return sum((before[parent] for parent in node.parents), nothing) + own


def noises(graph: Graph, made: list[Bounds]) -> list[Tensor]:
    """`noise_at` of every node, for bounds of every node that hold in the arithmetic of `graph.unit`."""
    found: list[Tensor] = []
    for place in range(len(graph.nodes)):
        found.append(noise_at(graph, place, made, found))
    return found


def _share(terms: int, unit: float) -> float:
    share = min(terms + 4, 10 * math.sqrt(terms + 4)) * unit
    return share / (1 - share)


def in_float32(known: Known) -> Known:
    """The same bounds rounded to float32, for searches whose results are evaluated again."""
    return {place: (low.float(), high.float()) for place, (low, high) in known.items()}


def rounding(graph: Graph, made: list[Bounds], unit: float = UNIT) -> Tensor:
    """How far float32 may take each logit (N, K) from the exact one, anywhere in the bounded region.

    The a priori bound of sums of products, in any order of summation, carried through the network: an error e before an
    affine map is |W| e after it, plus gamma (|W| |x| + |b|). For n products gamma is n units (Higham 2002, section
    3.5), or 10 sqrt(n) units where that is less: exceeded with a probability below 1e-20 if the roundings of one
    sum are independent (Higham and Mary 2019, theorem 2.4).

    It covers direct convolutions and matrix products, in any order and blocking. It does not cover convolutions by
    other products (Winograd's, or a Fourier transform), which cuDNN may choose on CUDA, nor arithmetic coarser than
    float32 (TF32, bfloat16): a proof holds for the network as a CPU evaluates it. Where float32 may overflow, the error
    is infinite or NaN, so that nothing is proven.

    Args:
        graph: in float64.
        made: bounds of every node, see `intervals`.
        unit: the unit roundoff; float32's.
    """
    return roundings(graph, made, unit)[-1]


def roundings(graph: Graph, made: list[Bounds], unit: float = UNIT) -> list[Tensor]:
    """`rounding` of every node."""
    errors: list[Tensor] = []
    for node in graph.nodes:
        if node.kind == "input":
            errors.append(torch.zeros_like(made[0][0]))
        elif node.kind == "affine":
            assert node.affine is not None
            before = errors[node.parents[0]]
            if node.affine.terms == 0:  # values are moved, not computed
                errors.append(node.affine(before))
                continue
            low, high = made[node.parents[0]]
            size = torch.maximum(low.abs(), high.abs()) + before
            parts = node.affine.size(size)
            parts = parts.where(parts < LARGEST, torch.inf)
            errors.append(node.affine.spread(before) + _share(node.affine.terms, unit) * parts)
        elif node.kind == "relu":
            errors.append(errors[node.parents[0]])
        elif node.kind == "tanh":  # its slope is at most 1; its value, at most 1, is computed to a few units
            errors.append(errors[node.parents[0]] + CURVE_UNITS * unit)
        elif node.max_of is not None:  # a pooling compares and does not compute
            errors.append(torch.maximum(*(errors[parent] for parent in node.max_of)))
        else:
            sizes = [torch.maximum(made[parent][0].abs(), made[parent][1].abs()) for parent in node.parents]
            total = sum(errors[parent] for parent in node.parents)
            errors.append(total + 2 * unit * (sizes[0] + sizes[1] + total))
    return errors
