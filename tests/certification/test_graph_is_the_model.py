# ruff: noqa: D102  # what the modules compute is all there is to say of them
"""A proof is of the model at hand: altered layers are refused or bounded right, and the model's answers looked at."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from core.attacks import exhaustive, pgd
from core.attacks.sparse.first_layer import FirstLayer
from core.certification import agreement, proof
from core.certification.ball import Ball
from core.certification.exact import verify
from core.certification.false_proof import FalseProof
from core.certification.graph import Unbounded, lower
from core.certification.proof import certified_margins, proven
from core.evaluation.robust.robust import evaluate
from core.kernels.sequence import Sequence
from core.linear.exact import affine_model, smallest
from core.networks.catalogue import build
from core.networks.residual import PreActBlock
from tests.certification.altered import (
    ALTERED,
    SHAPE,
    Make,
    Named,
    conv_replaced,
    dense,
    hooked,
    layers,
    parametrised,
    pre_hooked,
    pruned,
    replaced,
    weight_norm,
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", ALTERED)
def test_altered_layers_have_no_bounds(name: str) -> None:
    """Whatever makes a layer compute something else than its class says, the network has no graph."""
    torch.manual_seed(0)
    with pytest.raises(Unbounded, match=r"^model: expected "):
        lower(ALTERED[name]().eval(), SHAPE)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["sequence with an operation before", "forward pre-hook", "parametrised"])
def test_altered_models_are_neither_proven_nor_spared_by_evaluation(name: str) -> None:
    """Every function that proves refuses, and `evaluate` attacks all images, as it does where the model is wrapped."""
    torch.manual_seed(0)
    model, x = ALTERED[name]().eval(), torch.rand(40, *SHAPE)
    y = model(x).argmax(1)
    for prove in (proven, certified_margins, verify):
        with pytest.raises(Unbounded):
            prove(model, x, y, 0.01)
    wrapped = Held(model)
    own, other = (evaluate(made, x, y, eps=0.01, effort="quick", trust=False) for made in (model, wrapped))
    assert own.robust_accuracy == pytest.approx(other.robust_accuracy)


class Held(nn.Module):
    """A wrapper, so that nothing is certified."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


@contextmanager
def everywhere(change: Callable[..., Any]) -> Iterator[None]:
    """A forward hook of all modules."""
    handle = nn.modules.module.register_module_forward_hook(change)
    try:
        yield
    finally:
        handle.remove()


def test_hooks_of_all_modules_are_seen() -> None:
    """They are no attribute of any module."""
    model = dense().eval()
    with everywhere(lambda module, inputs, output: 2 * output), pytest.raises(Unbounded, match="all modules"):
        lower(model, SHAPE)
    assert lower(model, SHAPE).relus


def test_forward_replaced_for_a_class_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact class is there, and computes something else."""
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: x.abs())
    with pytest.raises(Unbounded, match="one ReLU with a forward that was replaced"):
        lower(dense(), SHAPE)


SAME: dict[str, Make] = {
    "subclasses that define no more than how they are made": Named,
    "train mode": lambda: dense(nn.Dropout(0.9)).train(),
    "lazy, once it has seen images": lambda: _seen(nn.Sequential(nn.Flatten(), nn.LazyLinear(5))),
    "layers in sequences, one of them twice": lambda: dense(*[nn.Sequential(nn.Linear(32, 32), nn.ReLU())] * 2),
    "weight norm, folded in": lambda: _folded(weight_norm()),
    "compiled in place": lambda: _compiled(dense()),
    "first layer in place": lambda: nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True), *layers()),
    "pooling with tuples": lambda: nn.Sequential(
        nn.AvgPool2d((2, 2), (2, 2), (0, 0)), nn.AdaptiveMaxPool2d((None, 2)), nn.Flatten(), nn.Linear(8, 5)
    ),
    "shortcut of a block": lambda: nn.Sequential(PreActBlock(1, 2, 2), nn.Flatten(), nn.Linear(32, 5)),
}


def _seen(model: nn.Module) -> nn.Module:
    model(torch.zeros(1, *SHAPE))
    return model


def _folded(model: nn.Module) -> nn.Module:
    parametrize.remove_parametrizations(model[1], "weight")  # type: ignore[index]
    return model


def _compiled(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", SAME)
def test_what_has_bounds_is_bounded_right(name: str) -> None:
    """The graph is the model in eval mode, which comes back as it was, and no attack fools what is proven."""
    torch.manual_seed(0)
    model, x = SAME[name](), torch.rand(20, *SHAPE)
    mode = model.training
    with torch.no_grad():
        y = copy.deepcopy(model).eval()(x.clone()).argmax(1)
    sure = proven(model, x, y, 0.005, method="crown")
    assert model.training == mode
    assert sure.any()
    assert not (pgd(model, x, y, eps=0.005, steps=20).success & sure).any()
    graph = lower(model, SHAPE, torch.float64)
    torch.testing.assert_close(graph.forward(x.double())[-1].float(), model.eval()(x.clone()), rtol=1e-4, atol=1e-5)


class Slightly(nn.Linear):
    """A layer whose rule is wrong by a little."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1e-3


@pytest.fixture
def lying(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules take `Slightly` for a linear layer."""
    from core.certification import graph

    monkeypatch.setitem(graph.RULES, Slightly, graph.RULES[nn.Linear])
    monkeypatch.setitem(graph.FORWARDS, Slightly, Slightly.forward)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("method", proof.METHODS)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.usefixtures("lying")
def test_graph_that_is_not_the_model_proves_nothing(method: str, norm: str) -> None:
    """A thousandth is found, whatever the bounds and the norm, and said; nothing is proven."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), Slightly(32, 5)).eval(), torch.rand(9, *SHAPE)
    y = model(x).argmax(1)
    for prove in (proven, certified_margins):
        with pytest.raises(Unbounded, match=r"differ from theirs by 0\.001, where rounding explains .*e-0"):
            prove(model, x, y, 1e-3, norm=norm, method=method)
    if method == proof.METHODS[0]:  # what follows has a method of its own
        with pytest.raises(Unbounded, match="nothing is proven"):
            verify(model, x, y, 1e-3, norm=norm)
        assert evaluate(model, x, y, eps=1e-3, norm=norm, effort="quick", trust=False).proven_accuracy == 0


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_certificate_that_the_model_contradicts_stops_the_run(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of too small a ball: the image is named, by its index where it has one."""
    torch.manual_seed(0)
    model, x = dense().eval(), torch.rand(300, *SHAPE)
    y = model(x).argmax(1)
    eps = {"linf": 0.3, "l2": 2.0, "l1": 40.0}[norm]
    around = Ball.around

    def smaller(x: Tensor, eps: Any, norm: str = "linf", dtype: torch.dtype | None = None) -> Ball:
        made, tiny = around(x, eps, norm, dtype), around(x, 1e-4, norm, dtype)
        return Ball(made.x, made.eps, norm, tiny.low, tiny.high)

    honest = agreement._queried
    monkeypatch.setattr(proof.Ball, "around", smaller)
    monkeypatch.setattr(
        agreement, "_queried", lambda model, ball, x, y: honest(model, around(x, eps, norm, torch.float64), x, y)
    )
    index = torch.arange(1000, 1300)
    with pytest.raises(FalseProof, match=r"^image 1\d\d\d: proven within ε = ") as found:
        certified_margins(model, x, y, eps, norm=norm, method="ibp", index=index)
    assert 1000 <= found.value.index < 1300
    if norm == "linf":
        monkeypatch.setattr(proof, "_nearly_proven", lambda model, x, y, eps, batch: torch.ones_like(y).bool())
        with pytest.raises(FalseProof, match=r"^image 1\d\d\d: "):
            evaluate(model, x, y, eps=eps, effort="quick", index=index)


def test_proven_image_that_the_last_look_finds_fooled_stops_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proofs of images that are misclassified: no figure comes out of it."""
    from core.evaluation.robust import robust

    torch.manual_seed(0)
    model, x = dense().eval(), torch.rand(4, *SHAPE)
    y = (model(x).argmax(1) + torch.tensor([0, 0, 1, 0])) % 5
    monkeypatch.setattr(robust, "certified", lambda of: torch.ones_like(of.y).bool())
    with pytest.raises(FalseProof, match=r"^image 22: proven within ε = 0\.1 in linf, yet misclassified there"):
        evaluate(model, x, y, eps=0.1, effort="quick", index=torch.arange(20, 24))


@pytest.mark.parametrize("eps", [1e-3, 0.01, 0.3])
def test_quick_look_at_a_few_images_hides_no_proof(eps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is proven is what is proven without it; where bounds are far, other images are not bounded at all."""
    torch.manual_seed(0)
    model, x = dense(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()).eval(), torch.rand(96, *SHAPE)
    y = model(x).argmax(1)
    asked: list[int] = []
    whole = proof.margin_bounds

    def counted(model: nn.Module, x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
        asked.append(len(x))
        return whole(model, x, y, eps)

    monkeypatch.setattr(proof, "margin_bounds", counted)
    looked = proven(model, x, y, eps)
    assert sum(asked) == (proof.LOOK if eps == 0.3 else 96 + proof.LOOK)
    monkeypatch.setattr(proof, "LOOK", len(x))
    assert torch.equal(looked, proven(model, x, y, eps))
    assert looked.any() == (eps < 0.3)


def test_half_precision_is_not_proven() -> None:
    """The allowance for rounding is float32's."""
    model, x = dense().eval(), torch.rand(3, *SHAPE)
    y = model(x).argmax(1)
    for dtype in (torch.bfloat16, torch.float16):
        with pytest.raises(Unbounded, match="expected float32 or float64 for a proof, got torch"):
            proven(copy.deepcopy(model).to(dtype), x.to(dtype), y, 1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(Unbounded, match="nothing is proven"):
        proven(model, x, y, 1e-3)


def test_numbers_that_float32_cannot_hold_prove_nothing() -> None:
    """In float64 the margin is clear; the model computes infinity less infinity, and gives NaN or the wrong class."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.ReLU(), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        model[1].weight.fill_(1e37)
        model[1].bias.zero_()
        model[3].weight.copy_(torch.tensor([[2.0, -1.0], [-1.0, 1.0]]))
        model[3].bias.zero_()
    x, y = torch.full((2, *SHAPE), 0.5), torch.zeros(2, dtype=torch.int64)
    for method in proof.METHODS:
        assert not proven(model, x, y, 0.4, method=method).any()
    assert (verify(model, x, y, 0.4, time_limit=1).verdict != "proven").all()


def test_enumeration_asks_the_model_where_its_first_layer_is_altered() -> None:
    """Hooks and replaced methods: no rank-one updates, and every change is tried on the model itself."""
    torch.manual_seed(0)
    assert FirstLayer.of(dense(), torch.rand(SHAPE)) is not None
    for make in (pre_hooked, hooked, replaced):
        model, x = make().eval(), torch.rand(2, *SHAPE)
        assert FirstLayer.of(model, x[0]) is None
        y = model(x).argmax(1)
        found = exhaustive(model, x, y, levels=3)
        images = x[0].flatten().repeat(64 * 3, 1)
        for row in range(64 * 3):
            images[row, row // 3] = row % 3 / 2
        flips = (model(images.view(-1, *SHAPE)).argmax(1) != y[0]).sum()
        assert found.trace["single_flips"][0] == flips


def test_first_layer_that_is_not_what_it_seems_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its logits are compared with the model's on a few changed images."""
    model = dense().eval()
    assert FirstLayer.of(model, torch.rand(SHAPE)) is not None
    monkeypatch.setattr(nn.Flatten, "forward", lambda self, x: x.flatten(1).square())
    assert FirstLayer.of(model, torch.rand(SHAPE)) is None


def test_quick_gradients_are_not_those_of_altered_layers() -> None:
    """Training asks autograd instead."""
    assert Sequence.of(dense(), "cpu") is not None
    for make in (pre_hooked, hooked, replaced, conv_replaced, parametrised, pruned):
        assert Sequence.of(make(), "cpu") is None
    with everywhere(lambda module, inputs, output: 2 * output):
        assert Sequence.of(dense(), "cpu") is None


class Capped(nn.Module):
    """Affine on images that are not bright."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 64, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).clamp(max=0.999).pow(1) @ self.weight.T


class Striped(Capped):
    """Affine but where the first pixel is half and the second dark: no image that is drawn at random."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        seldom = (flat[:, :1] == 0.5) & (flat[:, 1:2] == 0)
        return flat @ self.weight.T + 5 * seldom


def test_linear_solvers_refuse_what_is_not_affine_everywhere() -> None:
    """Kinks that uniform images do not show: at the edge of the box, behind a ReLU, and at the very image."""
    with pytest.raises(ValueError, match="affine in the pixels, got some that are off by"):
        affine_model(Capped(), SHAPE)
    quiet = nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.ReLU(), nn.Linear(2, 3)).eval()
    with torch.no_grad():
        quiet[1].weight.fill_(1.0)
        quiet[1].bias.fill_(-1e-3)  # it switches where the image is nearly black
    with pytest.raises(ValueError, match="affine in the pixels, got"):
        affine_model(quiet, SHAPE)
    found = affine_model(Striped(), SHAPE)
    x = torch.rand(3, *SHAPE)
    y = found.logits(x).argmax(1)
    assert smallest(found, x, y, norm="linf").distance.isfinite().any()
    x[1, 0, 0, :2] = torch.tensor([0.5, 0.0])
    with pytest.raises(ValueError, match="off by 5 at image 1"):
        smallest(found, x, y, norm="linf")


def test_bundled_architectures_keep_their_bounds() -> None:
    """Nothing of the project's own is refused."""
    for network in ("linear", "mlp", "cnn", "lenet", "strided", "resnet_small"):
        assert lower(build(network, (1, 12, 12), 5), (1, 12, 12)).nodes[-1].shape == (5,)
    assert lower(build("mlp", (1, 8, 8), 2, scalar=True), SHAPE).nodes[-1].shape == (2,)
