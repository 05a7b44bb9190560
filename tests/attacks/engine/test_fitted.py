"""Models that bear less than others: layouts, changes in place, precision, batches, gradients; every attack on each."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.attacks import fgsm, jacobian, pgd, square
from core.attacks.engine.engine import frozen, gradient_step, predict
from core.attacks.engine.find_out import find_out
from core.attacks.engine.losses import Goal, predicted
from core.evaluation.robust.robust import evaluate
from tests.attacks.engine.body import Body

Attack = Callable[..., Any]


class View(Body):
    """As the tutorials of PyTorch and Foolbox: `view` refuses a feature map that is channels last."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return 4 * self.dense(F.relu(self.conv(x)).view(-1, 216))


class Strides(Body):
    """Reads memory by its strides: channels-last images give other numbers, and no error."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        seen = F.relu(self.conv(x))
        return 4 * self.dense(seen.as_strided((len(x), 216), (216, 1)))


class InPlace(Body):
    """Normalises the images that it is given, where they lie."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return super().forward(x.sub_(0.5).div_(0.5))


class Alone(Body):
    """Takes one image at a time, as a program that was exported with a batch of one."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        if len(x) != 1:
            raise RuntimeError(f"expected a batch of 1, got {len(x)}")
        return super().forward(x)


class Mixed(Body):
    """Mixed precision: float32 weights and images, bfloat16 inside."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits in bfloat16."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x)


class NoGradient(Body):
    """A step in it passes nothing back."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits that have no graph."""
        with torch.no_grad():
            return super().forward(x)


class BadGradient(Body):
    """A step in it has no backward pass at all."""

    class Step(torch.autograd.Function):
        """Forward only."""

        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            """The same values."""
            return x.clone()

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return super().forward(self.Step.apply(x))


class Inside(Body):
    """Differentiates itself in its forward pass, as purifying defences and models of energies do."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits after a step along the model's own gradient."""
        with torch.enable_grad():
            seen = x if x.requires_grad else x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(super().forward(seen).logsumexp(1).sum(), seen, create_graph=True)
        return super().forward(x - 0.3 * slope)


def _exported() -> nn.Module:
    example = torch.rand(3, 3, 8, 8)
    sizes = ({0: torch.export.Dim("n")},)
    return torch.export.export(Body().eval(), (example,), dynamic_shapes=sizes).module()


KINDS: dict[str, Callable[[], nn.Module]] = {
    "view": View,
    "strides": Strides,
    "in place": InPlace,
    "alone": Alone,
    "mixed": Mixed,
    "no gradient": NoGradient,
    "bad gradient": BadGradient,
    "inside": Inside,
    "exported": _exported,
    "half": lambda: Body().half(),
    "bfloat16": lambda: Body().bfloat16(),
}
TOLD = {"view", "strides", "in place", "alone", "mixed", "no gradient", "bad gradient", "half", "bfloat16"}
"""Kinds of which a note speaks."""


def made(kind: str) -> tuple[nn.Module, Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """The model, images, the model's own classes of them, and how a user asks it: one image at a time, on a copy."""
    model = KINDS[kind]()
    if kind != "exported":
        model = model.eval()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        x = torch.rand(5, 3, 8, 8)
    x = x.to(next(model.parameters()).dtype)

    def asked(images: Tensor) -> Tensor:
        return predicted(torch.cat([model(one.clone()).detach().float() for one in images.contiguous().split(1)]))

    return model, x, asked(x), asked


@pytest.mark.sampled(21)
@pytest.mark.parametrize("kind", KINDS)
def test_every_attack_bears_every_kind_of_model(attack: Attack, name: str, kind: str) -> None:
    """No crash, no NaN; images in the box and in their dtype; the caller's stay; each success is one to the user."""
    model, x, y, asked = made(kind)
    before = x.clone()
    options: dict[str, Any] = {"y_target": (y + 1) % 4} if name == "generator" else {}
    more = {"budget": 60} if name.startswith("minimum") else {}
    result = attack(model, x, y, **options, **more)
    assert torch.equal(x, before)
    assert result.x_adv.dtype == x.dtype
    assert not result.x_adv.requires_grad
    assert ((result.x_adv >= 0) & (result.x_adv <= 1)).all()  # false for NaN
    found = asked(result.x_adv)
    wanted = found == options["y_target"] if options else found != y
    assert not (result.success & ~wanted).any()
    if kind in TOLD and not (kind.endswith("gradient") and name in WITHOUT):
        assert result.notes


WITHOUT = {"square-linf", "square-l2", "simba-linf", "simba-l2", "hop_skip_jump-linf", "hop_skip_jump-l2"}
WITHOUT |= {"exhaustive", "sparse_rs", "one_pixel"}
"""Attacks that take no gradient, and so look for none."""


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_bears_every_kind_of_model(kind: str) -> None:
    """A figure or a sentence; what is found fools the model as the user asks it."""
    model, x, y, asked = made(kind)
    before = x.clone()
    result = evaluate(model, x, y, eps=0.1, effort="quick", trust=False)
    assert torch.equal(x, before)
    fallen = ~result.robust
    assert fallen.any() or kind.endswith("gradient")
    assert bool(result.notes) >= (kind in TOLD)
    if kind not in ("half", "bfloat16"):  # whose images come back in float32, and are rounded for them
        assert (asked(result.x_adv)[fallen] != y[fallen]).all()


@pytest.mark.parametrize("kind", ["view", "strides", "in place"])
def test_gradient_of_an_odd_model_is_its_own(kind: str) -> None:
    """The jacobian is that of the model on contiguous copies."""
    model, x, y, _ = made(kind)
    got = jacobian(model, x, y)
    leaf = x.clone().requires_grad_()
    (own,) = torch.autograd.grad(model(leaf * 1.0).gather(1, y[:, None]).sum(), leaf)
    torch.testing.assert_close(got, own, rtol=1e-3, atol=1e-5)


def test_gradient_inside_a_forward_pass_is_differentiated(digits: tuple[Tensor, Tensor]) -> None:
    """A quicker way back must not cut a graph that the model itself goes through (thin convolutions)."""
    model, x, y, _ = made("inside")
    with frozen(model):
        _, slope = gradient_step(model, x, Goal.of(y, None), "margin")
        leaf = x.clone().requires_grad_()
        (own,) = torch.autograd.grad(Goal.of(y, None).loss(model(leaf), "margin").sum(), leaf)
    assert (slope - own).norm() < 1e-3 * own.norm()
    assert own.norm() > 0


def test_plain_models_are_taken_as_they_are(net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """Nothing stands between an attack and a model that bears everything."""
    with frozen(net):
        assert find_out(net, digits[0][:4]).everything
    assert pgd(net, digits[0][:4], digits[1][:4], eps=0.1).notes == ()


def test_looking_at_a_model_draws_no_random_numbers() -> None:
    """A model with noise of its own sees the same draws with and without the look."""
    state = torch.get_rng_state()
    model, x, _, _ = made("view")
    with frozen(model):
        find_out(model, x)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("function", [fgsm, pgd, square])
def test_tensors_with_a_graph_or_of_inference_mode_are_taken(function: Attack) -> None:
    """Images, labels and budgets leave their graphs at the door; what comes out has none."""
    model = Body().eval()
    with torch.inference_mode():
        x = torch.rand(4, 3, 8, 8)
        y = model(x).argmax(1)
    plain = function(model, x.clone(), y.clone(), eps=0.1)
    for images, labels in ((x, y), (x.clone().requires_grad_(), y)):
        with torch.inference_mode():
            again = function(model, images, labels, eps=torch.full((4,), 0.1, dtype=torch.float64))
        assert torch.equal(again.x_adv, plain.x_adv)
        assert not again.x_adv.requires_grad
        assert not again.x_adv.is_inference()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_fails_on_its_images_is_refused_in_a_sentence() -> None:
    """Its own error stands in the refusal."""
    x, y = torch.rand(3, 1, 8, 8), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"model: expected one that takes torch.float32 images of shape \(1, 8, 8\)"):
        pgd(Body().eval(), x, y, eps=0.1)


def test_predictions_of_an_odd_model_are_those_of_the_user() -> None:
    """`Fitted` changes no logit."""
    model, x, _, _ = made("view")
    from core.attacks.engine.engine import admitted

    with admitted(copy.deepcopy(model), x) as fit:
        torch.testing.assert_close(predict(fit, x), model(x).detach(), rtol=1e-5, atol=1e-6)


class Rounded(Mixed):
    """Mixed precision whose logits come back in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits in float32."""
        return super().forward(x).float()


def test_half_precision_inside_is_seen_behind_float32_logits() -> None:
    """Their type says nothing of how they were computed."""
    with frozen(Rounded().eval()) as model:
        assert find_out(model, torch.rand(2, 3, 8, 8)).inside == torch.bfloat16


def test_what_is_no_ordinary_tensor_is_refused_by_name() -> None:
    """Images of another kind or without pixels, logits that are whole numbers, layers without weights."""
    model, y = Body().eval(), torch.zeros(2, dtype=torch.int64)
    x = torch.rand(2, 3, 8, 8)
    for images in (x.to("meta"), x.to(torch.float8_e4m3fn), x.to_sparse(), x[:, :0]):
        for call in (pgd, evaluate):
            with pytest.raises(ValueError, match=r"^x: expected"):
                call(model, images, y, eps=0.1)  # type: ignore[operator]
    whole = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    whole.register_forward_hook(lambda module, given, out: out.long())
    with pytest.raises(ValueError, match=r"^model: expected logits in floating point"):
        square(whole, x, y, eps=0.1)
    with pytest.raises(ValueError, match=r"^model: expected weights, got 1\.weight"):
        pgd(nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), x, y, eps=0.1)
    for begin in (x.double(), x * float("nan"), x + 1):
        with pytest.raises(ValueError, match=r"^x_init: expected"):
            square(model, x, y, eps=0.1, x_init=begin)
