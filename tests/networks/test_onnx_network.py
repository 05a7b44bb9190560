"""ONNX files: every operator as ONNX says, any batch, and each refusal in one sentence."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.networks import onnx_file
from core.networks.onnx_export import exported
from core.networks.onnx_network import OnnxNetwork
from tests.onnx_graphs import graph, node, one, random, referred
from tests.onnx_operators import OPERATORS, Case

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")


@pytest.mark.sampled(8)
@pytest.mark.parametrize("case", OPERATORS, ids=lambda case: f"{case.op}-{case.opset}")
def test_operators_compute_what_onnx_says(case: Case) -> None:
    """Against ONNX's reference evaluator; batches as image by image; in float64 as well."""
    data = case.file()
    network = OnnxNetwork(data, cut=False)
    x = torch.rand(2, *network.takes, generator=torch.Generator().manual_seed(3)) + case.positive * 0.1 - 0.5
    x = x.abs() + 0.1 if case.positive else x
    made = network(x)
    if not network.unchecked and not case.misread:
        theirs = torch.cat([referred(data, row[None]) for row in x])
        assert torch.allclose(made, theirs.reshape(made.shape), atol=1e-5, rtol=1e-4)
    double = copy.deepcopy(network).double()(x.double())
    assert double.dtype == torch.float64
    assert torch.allclose(double, made.double(), atol=1e-4, rtol=1e-4)
    assert torch.allclose(torch.cat([network(row[None]) for row in x]), made, atol=1e-5)


@pytest.mark.parametrize("opset", range(9, 22))
@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_any_number_of_images(opset: int, batch: str | int) -> None:
    """A batch that the graph fixes to 1 or to 4, by its input and by its Reshape, is any batch here."""
    weight = random(36, 5)
    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1, 1, 0, 0]),
        node("Relu", ["a"], ["b"]),
        node("Reshape", ["b", "shape"], ["c"]),
        node("MatMul", ["c", "v"], ["y"]),
    ]
    fixed = 1 if batch == "n" else int(batch)
    shape = np.array([-1 if batch == "n" else fixed, 36])
    held = {"w": random(1, 1, 2, 2), "v": weight, "shape": shape}
    network = OnnxNetwork(graph(nodes, held, takes=[batch, 1, 6, 6], opset=opset).SerializeToString())
    assert (network.takes, network.outputs, network.one_by_one) == ((1, 6, 6), 5, False)
    x = torch.rand(7, 1, 6, 6, requires_grad=True)
    made = network(x)
    assert torch.allclose(made, torch.cat([network(row[None]) for row in x]), atol=1e-5)
    made.sum().backward()
    assert x.grad is not None
    assert bool((x.grad != 0).any())
    assert network(x[:0]).shape == (0, 5)


@pytest.mark.parametrize("batch", [1, "n"])
def test_mixed_images_are_run_one_by_one(batch: Any) -> None:
    """A graph that subtracts the mean over the batch: each image is a batch of its own, and that is reported."""
    nodes = [node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1), node("Sub", ["x", "m"], ["z"])]
    nodes += [node("Add", ["z", "x"], ["y"])]
    network = OnnxNetwork(graph(nodes, {}, takes=[batch, 5]).SerializeToString())
    x = torch.rand(4, 5)
    assert network.one_by_one
    assert network.depends_on_batch == (batch == "n")
    assert torch.allclose(network(x), x)


def test_a_batch_in_the_middle_is_kept_apart() -> None:
    """A Reshape to (places, 1, values) with the batch second: no rewriting helps, one image at a time is right."""
    nodes = [
        node("Transpose", ["x"], ["a"], perm=[1, 0, 2]),
        node("Reshape", ["a", "shape"], ["b"]),
        node("Transpose", ["b"], ["c"], perm=[1, 0]),
        node("Flatten", ["c"], ["y"], axis=0),
    ]
    network = OnnxNetwork(graph(nodes, {"shape": np.array([3, 4])}, takes=[1, 3, 4]).SerializeToString())
    x = torch.rand(3, 3, 4)
    assert network.one_by_one
    assert torch.equal(network(x), x.transpose(1, 2).flatten(1))


@pytest.mark.parametrize(
    ("op", "opset", "more", "word"),
    [
        ("Softmax", 11, {"axis": 1}, "softmax"),
        ("Softmax", 17, {"axis": -1}, "softmax"),
        ("LogSoftmax", 13, {"axis": 1}, "log_softmax"),
        ("Sigmoid", 9, {}, "sigmoid"),
    ],
)
def test_last_softmax_is_cut(op: str, opset: int, more: Mapping[str, Any], word: str) -> None:
    """The logits before it, the same prediction; and on request the whole."""
    nodes = [
        node("Gemm", ["x", "w"], ["a"]) if opset > 10 else node("MatMul", ["x", "w"], ["a"]),
        node(op, ["a"], ["b"], **more),
        node("Identity", ["b"], ["y"]),
    ]
    data = graph(nodes, {"w": random(6, 4, scale=5)}, takes=["n", 6], opset=opset).SerializeToString()
    cut, whole = OnnxNetwork(data), OnnxNetwork(data, cut=False)
    assert (cut.ends_in, cut.cut, whole.ends_in, whole.cut) == (word, True, word, False)
    x = torch.rand(9, 6)
    logits = x @ torch.from_numpy(random(6, 4, scale=5))
    assert torch.allclose(cut(x), logits, rtol=1e-4, atol=1e-3)
    assert torch.allclose(whole(x), referred(data, x), atol=1e-5, rtol=1e-4)


def test_a_softmax_over_something_else_stays() -> None:
    """Over the places of an image: no probabilities of classes."""
    nodes = [node("Softmax", ["x"], ["a"], axis=1), node("Flatten", ["a"], ["y"])]
    network = OnnxNetwork(graph(nodes, {}, takes=["n", 3, 4]).SerializeToString())
    assert (network.ends_in, network.cut) == ("", False)


def test_it_stays_in_eval_mode_and_frozen() -> None:
    """`train()` and `requires_grad` of its weights."""
    network = OnnxNetwork(one("Conv", ["n", 1, 4, 4], held={"w": random(2, 1, 3, 3)})).train()
    assert not network.training
    assert [value.requires_grad for value in network.parameters()] == [False]
    with pytest.raises(ValueError, match=r"expected inputs of shape .*got \(2, 1, 5, 4\)"):
        network(torch.zeros(2, 1, 5, 4))


def test_random_operators_are_reported() -> None:
    """They run; who judges the network is told."""
    nodes = [node("RandomNormalLike", ["x"], ["r"]), node("Add", ["x", "r"], ["y"])]
    network = OnnxNetwork(graph(nodes, {}, takes=["n", 5]).SerializeToString())
    assert network.random == ("RandomNormalLike",)
    x = torch.rand(3, 5)
    assert not torch.equal(network(x), network(x))


# ---------------------------------------------------------------- refusals

LINEAR = [node("MatMul", ["x", "w"], ["y"])]
HELD = {"w": random(6, 4)}


def external(where: str) -> bytes:
    """A graph one of whose tensors is said to lie in another file."""
    from onnx import TensorProto, helper

    tensor = TensorProto(name="w", data_type=1, dims=[6, 4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    inner = helper.make_graph([helper.make_node("Identity", ["w"], ["z"])], "in", [], [], [tensor])
    model = graph(LINEAR, HELD, takes=["n", 6])
    if where == "initializer":
        model.graph.initializer[0].CopyFrom(tensor)
    elif where == "constant":
        model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
        del model.graph.initializer[:]
    elif where == "subgraph":
        model.graph.node.append(helper.make_node("If", ["x"], ["q"], then_branch=inner, else_branch=inner))
    elif where == "sparse":
        model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    else:
        function = helper.make_function(
            "local", "F", ["a"], ["b"], [helper.make_node("Constant", [], ["b"], value=tensor)], []
        )
        model.functions.append(function)
    return model.SerializeToString()


@pytest.mark.parametrize("where", ["initializer", "constant", "subgraph", "sparse", "function"])
def test_external_data_is_refused_unread(where: str) -> None:
    """Wherever it hides; the file that it names is not opened."""
    with pytest.raises(ValueError, match="keeps w in other files"):
        OnnxNetwork(external(where))


def dropout(mode: bool) -> list[Any]:
    """A dropout that drops, or not."""
    return [
        node("Dropout", ["x", "r", "t"], ["z"]),
        node("MatMul", ["z", "w"], ["y"]),
    ]


STATISTICS = {name: np.abs(random(6)) for name in ("s", "b", "m", "v")}
BAD = {
    "no ONNX": (b"hello, world" * 20, "no ONNX graph or was cut off"),
    "empty": (b"", "no ONNX graph or was cut off"),
    "cut off": (graph(LINEAR, HELD, takes=["n", 6]).SerializeToString()[:-60], "no ONNX graph or was cut off"),
    "two inputs": (graph(LINEAR, HELD, takes=["n", 6], inputs=("x", "u")), "one input, got 2: x, u"),
    "no input": (graph(LINEAR, {**HELD, "x": random(2, 6)}, takes=["n", 6]), "one input, got 0: none"),
    "two outputs": (
        graph([*LINEAR, node("Relu", ["y"], ["z"])], HELD, takes=["n", 6], output=("y", "z")),
        "one output, got 2: y, z",
    ),
    "free sides": (graph(LINEAR, HELD, takes=["n", "k"]), r"sizes are fixed but for the batch, got shape \(n, k\)"),
    "no image": (graph(LINEAR, HELD, takes=[6]), r"a batch and the sizes of one image, got shape \(6\)"),
    "no batch": (
        graph([node("Flatten", ["x"], ["z"], axis=0), *[node("MatMul", ["z", "w"], ["y"])]], {"w": random(18, 4)},
              takes=[3, 6]),
        r"got an output of shape \(1, 4\) for 3 images",
    ),
    "a custom operator": (
        graph([node("Mine", ["x"], ["z"], domain="my.own"), *LINEAR], HELD, takes=["n", 6], domains=("my.own",)),
        r"ONNX's own operators, got my.own.Mine",
    ),
    "an old opset": (graph(LINEAR, HELD, takes=["n", 6], opset=8), "opset 9 to 21, got 8"),
    "a new opset": (graph(LINEAR, HELD, takes=["n", 6], opset=22), "opset 9 to 21, got 22"),
    "quantised": (
        graph([node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])],
              {}, takes=["n", 6]),
        "not quantised, got operators DequantizeLinear, DynamicQuantizeLinear",
    ),
    "integers": (graph(LINEAR, HELD, takes=["n", 6], kind=7), "float32 images, got an input of int64"),
    "halves": (graph(LINEAR, HELD, takes=["n", 6], kind=10), "float32 images, got an input of float16"),
    "half weights": (
        graph([node("Cast", ["h"], ["w"], to=1), *LINEAR], {"h": random(6, 4).astype(np.float16)}, takes=["n", 6]),
        "weights of float32, got h of float16",
    ),
    "training": (
        graph([node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y", "p", "q"], training_mode=1)], STATISTICS,
              takes=["n", 6]),
        "for inference, got BatchNormalization in training mode",
    ),
    "training, before": (
        graph([node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y", "p", "q", "o", "l"])], STATISTICS,
              takes=["n", 6], opset=9),
        "for inference, got BatchNormalization in training mode",
    ),
    "dropping": (
        graph(dropout(True), {**HELD, "r": np.float32(0.5), "t": np.array(True)}, takes=["n", 6]),
        "for inference, got Dropout in training mode",
    ),
    "no classes": (graph([node("Relu", ["x"], ["y"])], {}, takes=["n", 6, 7]), r"an output of shape \(1, 6, 7\)"),
    "class numbers": (
        graph([node("ArgMax", ["x"], ["y"], axis=1)], {}, takes=["n", 6]),
        "answers with a number for each class, got int64",
    ),
    "enormous": (
        graph([node("ConstantOfShape", ["s"], ["z"]), node("Add", ["x", "z"], ["y"])],
              {"s": np.array([1 << 20, 1 << 20])}, takes=["n", 6]),
        "got ConstantOfShape",
    ),
    "shapes that do not fit": (graph(LINEAR, {"w": random(7, 4)}, takes=["n", 6]), "got MatMul"),
    "an operator with strings": (
        graph([node("StringNormalizer", ["x"], ["y"])], {}, takes=["n", 6]), "answers with numbers, got",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refused_in_one_sentence(name: str) -> None:
    """Each names what came."""
    data, words = BAD[name]
    data = data if isinstance(data, bytes) else data.SerializeToString()
    with pytest.raises(ValueError, match=words) as raised:
        OnnxNetwork(data)
    assert str(raised.value).startswith("file: expected")
    assert "\n" not in str(raised.value)


def test_dropout_of_inference_is_none() -> None:
    """With its mode false."""
    held = {**HELD, "r": np.float32(0.5), "t": np.array(False)}
    network = OnnxNetwork(graph(dropout(False), held, takes=["n", 6]).SerializeToString())
    x = torch.rand(3, 6)
    assert torch.allclose(network(x), x @ torch.from_numpy(HELD["w"]), atol=1e-5)


def test_large_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above what one protobuf message holds."""
    monkeypatch.setattr(onnx_file, "LARGEST", 100)
    with pytest.raises(ValueError, match="at most 100 bytes, got one of"):
        OnnxNetwork(graph(LINEAR, HELD, takes=["n", 6]).SerializeToString())


def test_every_cut_is_refused_or_the_same() -> None:
    """A file that was cut off anywhere, or in which a byte was changed, is never another network without a word."""
    data = graph(LINEAR, HELD, takes=["n", 6]).SerializeToString()
    for end in range(0, len(data), 7):
        with pytest.raises(ValueError, match="file: expected"):
            OnnxNetwork(data[:end])


def test_wrong_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a function here not what ONNX says, the graph would be refused."""
    from core.networks import onnx_network

    monkeypatch.setitem(onnx_network.KNOWN, "LeakyRelu", lambda step, x: torch.relu(x))
    with pytest.raises(ValueError, match="ONNX's own numbers here, got others from LeakyRelu"):
        OnnxNetwork(one("LeakyRelu", ["n", 5]))


# ---------------------------------------------------------------- modules in memory


class Noisy(nn.Module):
    """Random."""

    def forward(self, x: Tensor) -> Tensor:
        """Another answer every time."""
        return x.flatten(1) + torch.randn(len(x), x[0].numel())


class Mixing(nn.Module):
    """Of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        """What is above the batch's mean."""
        return x.flatten(1) - 0.5 * x.flatten(1).mean(0)


class Passing(nn.Module):
    """A gradient of its own."""

    def forward(self, x: Tensor) -> Tensor:
        """Rounded, with the gradient of the identity."""
        return (x.round() - x).detach().flatten(1) + x.flatten(1)


class Failing(nn.Module):
    """No operator of ONNX."""

    def forward(self, x: Tensor) -> Tensor:
        """Singular values."""
        return torch.linalg.svdvals(x[:, 0]) + x.flatten(1)[:, :4]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Noisy(), "answers the same on every call, but it draws random numbers"),
        (Mixing(), "differs from itself image by image"),
        (Passing(), "differs from its ONNX file in the gradient"),
        (Failing(), "can be exported to ONNX"),
    ],
)
def test_modules_that_onnx_cannot_express(module: nn.Module, words: str) -> None:
    """The sentence names the way that takes them."""
    with pytest.raises(ValueError, match=words) as raised:
        exported(module, (1, 4, 4))
    assert "core.evaluation.evaluate" in str(raised.value)


def test_modules_are_exported_for_any_batch() -> None:
    """Answers and gradients agree; dropout and batch norm are those of eval mode; the mode stays as it was."""
    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Dropout(0.5), nn.Linear(16, 5)),
    )
    module[1].running_mean.uniform_(-1, 1)
    network = OnnxNetwork(exported(module, (1, 8, 8)))
    assert module.training
    x = torch.rand(6, 1, 8, 8)
    assert torch.allclose(network(x), module.eval()(x), atol=1e-5)
    assert (network.takes, network.outputs, network.one_by_one) == ((1, 8, 8), 5, False)


def test_weights_of_five_dimensions_move_with_the_memory_format() -> None:
    """As `load_model` asks for it."""
    network = OnnxNetwork(one("Add", ["n", 2, 2, 2, 3], held={"c": random(1, 2, 1, 2, 3)}))
    x = torch.rand(3, 2, 2, 2, 3)
    before = network(x)
    assert torch.equal(network.to(memory_format=torch.channels_last)(x), before)


def test_copies_are_of_their_own() -> None:
    """A deep copy in float64 leaves the network as it is."""
    network = OnnxNetwork(one("Conv", ["n", 1, 4, 4], held={"w": random(2, 1, 3, 3)}))
    assert copy.deepcopy(network).double()(torch.rand(2, 1, 4, 4).double()).dtype == torch.float64
    assert network(torch.rand(2, 1, 4, 4)).dtype == torch.float32
