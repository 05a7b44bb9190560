"""Networks made by others as graphs for proofs: graph equals network, bounds hold, and what has no rule is refused."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from core.attacks import pgd
from core.certification.ball import Ball
from core.certification.bounds import intervals, rounding
from core.certification.crown import crown_bounds, lower_bounds
from core.certification.curves import above, below
from core.certification.exact import verify
from core.certification.graph import lower
from core.certification.nodes import Graph, Unbounded
from core.certification.proof import METHODS, TINY, certified_margins
from core.networks.framed import Framed
from core.networks.onnx_export import exported
from core.networks.onnx_network import OnnxNetwork
from core.specs import Framing
from tests.onnx_graphs import graph, node, random
from tests.onnx_operators import OPERATORS, Case

LOWERED = {
    *("Neg", "Relu", "Sigmoid", "Tanh", "Identity", "LeakyRelu", "Add", "Sub", "Mul", "Div", "PRelu", "Clip", "Gemm"),
    *("MatMul", "Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "Pad"),
    *("ReduceMean", "ReduceSum", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Slice"),
    *("Gather", "DepthToSpace", "SpaceToDepth", "Dropout", "Cast"),
}
"""Operators with a rule."""


def points(low: Tensor, high: Tensor, count: int = 24) -> Tensor:
    """Corners and points between (count, N, …)."""
    share = torch.rand(count, *low.shape, dtype=low.dtype, generator=torch.Generator().manual_seed(1))
    share[: count // 3] = share[: count // 3].round()
    return low + (high - low) * share


def check_bounds(made: Graph, x: Tensor, eps: float) -> None:
    """Intervals, linear bounds of every curve and of the outputs, against points of the ball."""
    ball = Ball.around(x.float(), eps, "linf", torch.float64)
    inside = points(ball.low, ball.high)
    values = [value.unflatten(0, inside.shape[:2]) for value in made.forward(inside.flatten(0, 1))]
    for (low, high), value in zip(intervals(made, ball.low, ball.high), values, strict=True):
        assert (value >= low - 1e-9).all()
        assert (value <= high + 1e-9).all()
    known = crown_bounds(made, ball)
    for place, (low, high) in known.items():
        assert (values[place] >= low - 1e-9).all()
        assert (values[place] <= high + 1e-9).all()
    rows = torch.randn(len(x), 4, *made.nodes[-1].shape, dtype=torch.float64)
    found = lower_bounds(made, ball, len(made.nodes) - 1, rows, known)
    assert ((values[-1][:, :, None] * rows).sum(-1) >= found - 1e-9).all()


@pytest.mark.sampled(6)
@pytest.mark.parametrize("case", [c for c in OPERATORS if c.op in LOWERED], ids=lambda c: f"{c.op}-{c.opset}")
def test_operators_are_lowered_right(case: Case) -> None:
    """The graph is the network in float64, rounding covers float32's, and bounds contain what images give."""
    network = OnnxNetwork(case.file(), cut=False)
    try:
        made = lower(network, network.takes, torch.float64)
    except Unbounded as error:
        assert str(error).startswith(f"model: expected {case.op} ")  # noqa: PT017 - which settings these are is below
        assert unusual(case)
        return
    x = torch.rand(4, *network.takes, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = copy.deepcopy(network).double()
    values = made.forward(x)
    assert torch.allclose(values[-1], exact(x), atol=1e-9, rtol=1e-9)
    quick = x.float()
    values = made.forward(quick.double())
    apart = (network(quick).double() - values[-1]).abs()
    assert (apart <= rounding(made, [(value, value) for value in values])).all()
    if x.ndim == 4:
        check_bounds(made, x[:2], 0.1)


def unusual(case: Case) -> bool:
    """Settings without a rule: three dimensions, padding in front of a maximum, mirrors, products of matrices."""
    more, held = case.more, case.held or {}
    padded = any(more.get("pads", ())) or "SAME" in more.get("auto_pad", "") or more.get("ceil_mode", 0)
    return (
        len(case.takes) > 4
        or (case.op == "MaxPool" and (padded or "dilations" in more or len(case.takes) < 4))
        or (case.op == "Pad" and (more.get("mode", "constant") != "constant" or min(held.get("p", [0])) < 0))
        or (case.op == "MatMul" and held["w"].ndim > 2)
        or case.op == "Concat"
    )


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 0.3, 3.0, 40.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lines_around_tanh(scale: float, dtype: torch.dtype) -> None:
    """No line cuts tanh anywhere, whatever the interval; where it is narrow the lines are near."""
    draw = torch.Generator().manual_seed(0)
    ends = (torch.randn(2, 3000, dtype=torch.float64, generator=draw) * scale + torch.randn(3000, generator=draw)).to(
        dtype
    )
    low, high = ends.amin(0), ends.amax(0)
    low[:3], high[:3] = torch.tensor([0.0, -1.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    (steep, upper), (flat, lower_end) = above(low, high), below(low, high)
    x = low.double() + (high - low).double() * torch.linspace(0, 1, 501, dtype=torch.float64)[:, None]
    room = 0.0 if dtype == torch.float64 else 1e-6 * scale
    assert (x.tanh() <= steep.double() * x + upper.double() + room).all()
    assert (x.tanh() >= flat.double() * x + lower_end.double() - room).all()
    gap = (steep - flat).double() * x + (upper - lower_end).double()
    assert (gap[250] <= 2.01 + room).all()  # in the middle
    narrow = (high - low) < 1e-3
    assert (gap[:, narrow] <= 1e-5).all()


def network_of(activation: Sequence[Any], opset: int = 13, classes: int = 4) -> OnnxNetwork:
    """A small convolutional network with one kind of activation, its batch fixed to 1."""
    nodes = [
        *(node("Sub", ["x", "mean"], ["a"]), node("Div", ["a", "std"], ["b"])),
        node("Conv", ["b", "w", "wb"], ["c"], strides=[2, 2], pads=[1, 1, 0, 0]),
        *activation,
        node("Conv", ["d", "v"], ["e"], auto_pad="SAME_UPPER"),
        *(node("Add", ["e", "d"], ["f"]), node("Relu", ["f"], ["g"])),
        node("AveragePool", ["g"], ["h"], kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1]),
        *(node("Reshape", ["h", "shape"], ["i"]), node("Gemm", ["i", "u", "ub"], ["y"], transB=1, alpha=0.5)),
    ]
    held = {
        **{"mean": np.float32([[[0.2]]]), "std": np.float32([[[0.5]]]), "w": random(4, 1, 3, 3, scale=0.4)},
        **{"wb": random(4, scale=0.3), "v": random(4, 4, 3, 3, scale=0.2), "shape": np.array([1, -1])},
        **{"u": random(classes, 16, scale=2.0), "ub": random(classes)},
    }
    return OnnxNetwork(graph(nodes, held, takes=[1, 1, 8, 8], opset=opset).SerializeToString())


ACTIVATIONS = {
    "relu": [node("Relu", ["c"], ["d"])],
    "leaky": [node("LeakyRelu", ["c"], ["d"], alpha=0.2)],
    "clip": [node("Clip", ["c", "", ""], ["d"])],
    "sigmoid": [node("Sigmoid", ["c"], ["d"])],
    "tanh": [node("Tanh", ["c"], ["d"])],
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("method", METHODS)
def test_no_proven_image_is_fooled(name: str, method: str) -> None:
    """PGD at the ε at which each image is proven; and some are proven."""
    model = Framed(network_of(ACTIVATIONS[name]), Framing(mean=(0.5,), std=(0.5,))).eval()
    x = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = model(x).argmax(1)
    eps = 0.01
    sure = certified_margins(model, x, y, eps, method=method) > TINY
    assert sure.any()
    attack = pgd(model, x, y, eps=eps, steps=20, restarts=2)
    assert not (attack.success & sure).any()


def test_methods_climb_for_tanh() -> None:
    """Linear bounds are as tight as intervals or tighter, on the whole."""
    model = Framed(network_of(ACTIVATIONS["tanh"]), Framing()).eval()
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = model(x).argmax(1)
    first, last = (certified_margins(model, x, y, 0.05, method=method) for method in ("ibp", "crown"))
    assert (last >= first).all()
    assert (last > first).any()


def test_complete_verification_wants_relus() -> None:
    """A clear sentence, and the method that does."""
    model = Framed(network_of(ACTIVATIONS["sigmoid"]), Framing()).eval()
    x = torch.rand(2, 1, 8, 8)
    with pytest.raises(Unbounded, match="network of ReLUs for complete verification, got one with tanh or sigmoid"):
        verify(model, x, model(x).argmax(1), 0.01)


FRAMINGS = {
    "mean and std": Framing(mean=(0.1, 0.2, 0.3), std=(0.2, 0.3, 0.4)),
    "bgr": Framing(channels="bgr", mean=(0.1, 0.2, 0.3), std=(1.0,)),
    "nhwc": Framing(layout="nhwc", channels="bgr"),
    "flat": Framing(shape=(192,)),
    "flat nhwc": Framing(layout="nhwc", shape=(192, 1)),
    "crop": Framing(crop=6),
    "smaller and crop": Framing(resize=7, crop=6, mean=(0.5,), std=(0.25,)),
    "larger": Framing(resize=12),
    "classes": Framing(classes=(2, 0, 1)),
    "fewer classes": Framing(classes=(2, 1)),
}


@pytest.mark.parametrize("name", FRAMINGS)
@pytest.mark.parametrize("size", [(8, 8), (9, 8)])
def test_framings_are_lowered_right(name: str, size: tuple[int, int]) -> None:
    """Each step of a framing, and their bounds."""
    framing = FRAMINGS[name]
    if framing.shape is not None and size != (8, 8):
        size = (8, 8)
    given = Framed(nn.Identity(), framing).given(torch.zeros(1, 3, *size))
    body = nn.Sequential(nn.Flatten(), nn.Linear(given.numel(), 3), nn.ReLU(), nn.Linear(3, 3))
    model = Framed(body, framing).eval()
    made = lower(model, (3, *size), torch.float64)
    x = torch.rand(3, 3, *size, dtype=torch.float64)
    assert torch.allclose(made.forward(x)[-1], copy.deepcopy(model).double()(x), atol=1e-6)
    quick = x.float()
    values = made.forward(quick.double())
    assert ((model(quick) - values[-1]).abs() <= rounding(made, [(v, v) for v in values]) + 1e-6).all()
    check_bounds(made, x[:2], 0.05)


def test_scores_and_probabilities() -> None:
    """One score is (0, s); probabilities have no bounds."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    x = torch.rand(3, 1, 4, 4)
    made = lower(Framed(body, Framing(outputs="score")), (1, 4, 4), torch.float64)
    assert torch.allclose(made.forward(x.double())[-1].float(), Framed(body, Framing(outputs="score"))(x), atol=1e-6)
    for outputs in ("probability", "probabilities"):
        with pytest.raises(Unbounded, match=f"answers with {outputs}: cut the softmax"):
            lower(Framed(body, Framing(outputs=outputs)), (1, 4, 4))


def test_refused_operators_are_all_named() -> None:
    """At once, with what is known."""
    nodes = [node("Exp", ["x"], ["a"]), node("Softmax", ["a"], ["b"]), node("Relu", ["b"], ["y"])]
    network = OnnxNetwork(graph(nodes, {}, takes=["n", 5]).SerializeToString())
    with pytest.raises(Unbounded, match=r"expected ONNX operators that have bounds, .* got Exp, Softmax"):
        lower(network, (5,))


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([node("Mul", ["x", "x"], ["z"])], "Mul by constants"),
        ([node("MatMul", ["x", "x"], ["z"])], "MatMul of an image's values with one constant matrix"),
        ([node("Cast", ["x"], ["a"], to=7), node("Cast", ["a"], ["z"], to=1)], "Cast to float32"),
        ([node("Gather", ["x", "twice"], ["z"], axis=1)], "Gather that takes each value once at most"),
    ],
)
def test_uses_without_a_rule_are_refused(nodes: list[Any], words: str) -> None:
    """What is no affine map of one image."""
    held = {"twice": np.array([1, 1, 0, 2])}
    data = graph([*nodes, node("Flatten", ["z"], ["y"])], held, takes=[1, 4, 4]).SerializeToString()
    network = OnnxNetwork(data)
    with pytest.raises(Unbounded, match=words):
        lower(network, network.takes)


def test_networks_of_torchvision_are_traced() -> None:
    """A residual network with a padded maximum: its graph is the network."""
    torch.manual_seed(0)
    body = torchvision.models.resnet.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=3).eval()
    model = Framed(body, Framing(mean=(0.5,), std=(0.25,))).eval().requires_grad_(False)
    x = torch.rand(2, 3, 32, 32)
    made = lower(model, (3, 32, 32), torch.float64)
    assert torch.allclose(made.forward(x.double())[-1].float(), model(x), atol=1e-4)
    hooked = Framed(body, Framing())
    body.layer1.register_forward_hook(lambda module, inputs, output: -output)
    with pytest.raises(Unbounded, match="with a forward hook"):
        lower(hooked, (3, 32, 32))


class Squared(nn.Module):
    """No layer that is known."""

    def forward(self, x: Tensor) -> Tensor:
        """Squares."""
        return x.flatten(1).square()


def test_unknown_bodies_are_refused() -> None:
    """A class of nobody's is not traced: it may compute something else for other images."""
    with pytest.raises(Unbounded, match="got Squared"):
        lower(Framed(Squared(), Framing()), (1, 4, 4))


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 21])
def test_trained_networks_are_certified_alike_as_onnx(opset: int) -> None:
    """The same network as layers and as a graph in ONNX: the same bounds, up to rounding."""
    torch.manual_seed(1)
    layers = nn.Sequential(
        *(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)),
    ).eval()
    nodes = OnnxNetwork(exported(layers, (1, 8, 8)))
    x = torch.rand(6, 1, 8, 8)
    y = layers(x).argmax(1)
    for method in ("ibp", "crown"):
        ours, theirs = (certified_margins(model, x, y, 0.02, method=method) for model in (layers, nodes))
        assert torch.allclose(ours, theirs, atol=1e-4)
