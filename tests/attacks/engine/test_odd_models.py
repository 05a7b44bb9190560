"""Models whose logits, gradients or making are odd: what attacks find in them is found in the plain model, too."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.attacks import fgsm, fmn, jacobian, pgd, square
from core.attacks.engine.engine import predict
from core.attacks.engine.losses import predicted
from core.attacks.minimal.minimum import minimum
from core.certification.graph import Unbounded
from core.certification.proof import proven
from core.evaluation.robust.robust import evaluate
from tests.attacks.engine.body import Body


class RuledOut(Body):
    """Rules its last class out by a constant, as models of many tasks do; its other logits have a common part."""

    def __init__(self, constant: float, common: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.constant, self.common, self.scale = constant, common, scale

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        logits = super().forward(x)
        return torch.cat([logits[:, :3], torch.full_like(logits[:, :1], self.constant)], 1) * self.scale + self.common


@pytest.mark.sampled(2)
@pytest.mark.parametrize("constant", [-1e9, torch.finfo(torch.float32).min, -torch.inf])
def test_a_class_that_is_ruled_out_hides_no_success(constant: float) -> None:
    """The allowance for rounding is that of the other classes' logits, and no attack aims at the true class."""
    model, x = RuledOut(constant).eval(), torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    y = predicted(model(x))
    for result in (fmn(model, x, y, norm="l2"), minimum(model, x, y, norm="linf", budget=100)):
        assert result.success.all()
    assert pgd(model, x, y, eps=0.5).success.all()


@pytest.mark.parametrize("scale", [2.0**-100, 2.0**100])
def test_logits_of_an_extreme_size_hide_no_success(scale: float) -> None:
    """Squares of gradients stay numbers; a Jacobian is the model's own all the same."""
    model, x = RuledOut(0.0, scale=scale).eval(), torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    y = predicted(model(x))
    found = pgd(model, x, y, eps=5.0, norm="l2")
    assert found.success.all()
    assert any("extreme size" in note for note in found.notes)
    plain = jacobian(RuledOut(0.0).eval(), x, y)
    torch.testing.assert_close(jacobian(model, x, y) / scale, plain, rtol=1e-3, atol=1e-5)


def test_a_common_part_of_the_logits_widens_the_allowance() -> None:
    """Differences of logits around 1e4 are coarse: a success must be one in float64, too."""
    model, x = RuledOut(0.0, common=1e4).eval(), torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    y = predicted(model(x))
    result = minimum(model, x, y, norm="linf", budget=100)
    exact = predicted(copy.deepcopy(model).double()(result.x_adv.double()))
    assert result.success.any()
    assert (exact != y)[result.success].all()


class Reentrant(Body):
    """Recomputes its activations by the older kind of checkpoint, which refuses gradients of chosen inputs."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        out: Tensor = checkpoint(super().forward, x, use_reentrant=True)
        return out


def _of_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return Body()


class Wide(Body):
    """Takes float32 images and computes in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        """Logits in float64."""
        return super().forward(x.double())


@pytest.mark.filterwarnings("ignore:None of the inputs")
@pytest.mark.parametrize("make", [Reentrant, _of_inference_mode, Wide])
def test_gradients_come_through_all_the_same(make: Callable[[], nn.Module]) -> None:
    """Attacks find what they find in the plain model, and leave the odd one as it is."""
    plain, x = Body().eval(), torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    y, model = predicted(plain(x)), make().eval()
    flags = [parameter.requires_grad for parameter in model.parameters()]
    for attack in (fgsm, pgd):
        assert torch.equal(
            attack(model, x, y, eps=0.3).success,  # type: ignore[operator]
            attack(plain, x, y, eps=0.3).success,  # type: ignore[operator]
        )
    torch.testing.assert_close(jacobian(model, x), jacobian(plain, x), rtol=1e-3, atol=1e-5)
    assert fmn(model, x, y, norm="l2", steps=30).success.all()
    assert [parameter.requires_grad for parameter in model.parameters()] == flags


class Neighbours(Body):
    """Normalises by the statistics of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return super().forward(x - 4 * (x.mean(0) - 0.5))


def test_where_neighbours_matter_a_success_is_one_alone_and_among_them() -> None:
    """And a note says that they matter."""
    model, x = Neighbours().eval(), torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    y = predicted(model(x))
    result = fmn(model, x, y, norm="l2")
    alone = predicted(torch.cat([model(one) for one in result.x_adv.split(1)]))
    assert ((alone != y) & (predicted(model(result.x_adv)) != y))[result.success].all()
    assert any("other images of its batch" in note for note in result.notes)


def test_answers_that_share_their_memory_are_all_kept() -> None:
    """A model may write each answer where the last one is."""

    class Reused(Body):
        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            if out.requires_grad:
                return out
            self.room: Tensor = getattr(self, "room", torch.zeros(8, 4))
            self.room[: len(x)] = out
            return self.room[: len(x)]

    x = torch.rand(6, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(predict(Reused().eval(), x, batch=2), Body()(x), rtol=1e-5, atol=1e-5)


def _layers() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4)).eval()


MADE: dict[str, Callable[[nn.Module], nn.Module]] = {
    "scripted": torch.jit.script,
    "frozen script": lambda model: torch.jit.freeze(torch.jit.script(model)),
    "traced": lambda model: torch.jit.trace(model, torch.rand(2, 3, 8, 8)),
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "parallel": nn.DataParallel,
}


FUNCTIONS: tuple[Any, ...] = (pgd, square, fgsm)


def _images(plain: nn.Module) -> tuple[Tensor, Tensor]:
    x = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(6))
    return x, plain(x).argmax(1)


@functools.cache
def of_the_plain_module() -> tuple[list[int], float]:
    """How many images each function fools in it, and its robust accuracy."""
    plain = _layers()
    x, y = _images(plain)
    counts = [int(function(plain, x, y, eps=0.1).success.sum()) for function in FUNCTIONS]
    return counts, evaluate(plain, x, y, eps=0.05, effort="quick", trust=False).robust_accuracy


@pytest.mark.sampled(4)
@pytest.mark.filterwarnings("ignore")  # scripts are deprecated; the compiler warns of what it cannot trace
@pytest.mark.parametrize("kind", MADE)
def test_modules_that_pytorch_makes_of_others_are_attacked_alike(kind: str) -> None:
    """Each fools as many images as the module itself, by gradients and by queries, and is evaluated; none is proven."""
    plain = _layers()
    model = MADE[kind](_layers())
    x, y = _images(plain)
    counts, robust_accuracy = of_the_plain_module()
    for function, count in zip(FUNCTIONS, counts, strict=True):
        made = function(model, x, y, eps=0.1)
        assert abs(int(made.success.sum()) - count) <= 1
        assert (plain(made.x_adv).argmax(1) != y)[made.success].all()
    found = evaluate(model, x, y, eps=0.05, effort="quick", trust=False)
    assert abs(found.robust_accuracy - robust_accuracy) <= 0.05
    if kind != "compiled":  # whose layers are those of the module
        with pytest.raises(Unbounded):
            proven(model, x, y, 0.001)
