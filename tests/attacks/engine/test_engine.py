"""Frozen models, random streams, verification, input checks."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.attacks.engine import checks, engine
from core.attacks.engine.adam import adam_move
from core.attacks.engine.engine import frozen, gradient_step
from core.attacks.engine.losses import Goal
from core.attacks.engine.result import finish
from core.attacks.engine.streams import Streams


class Counting(nn.Module):
    """A model that writes to a buffer at every call, also in eval mode, as some users' do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Count the call and give logits."""
        self.calls += 1
        return self.layer(x.flatten(1))


def test_frozen_puts_everything_back_even_after_an_error() -> None:
    """Modes (mixed ones too), requires_grad, .grad and buffers are as before."""
    model = nn.Sequential(Counting(), nn.BatchNorm1d(3), nn.Dropout())
    model[1].eval()
    model[0].layer.bias.requires_grad_(False)
    model[0].layer.weight.grad = torch.ones(3, 4)

    def stop() -> None:
        with engine.frozen(model):
            assert not any(module.training for module in model.modules())
            assert not any(parameter.requires_grad for parameter in model.parameters())
            model(torch.rand(2, 1, 2, 2))
            assert model[0].calls == 1
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop()
    assert [model.training, model[0].training, model[1].training, model[2].training] == [True, True, False, True]
    assert model[0].layer.weight.requires_grad
    assert not model[0].layer.bias.requires_grad
    assert torch.equal(model[0].layer.weight.grad, torch.ones(3, 4))
    assert model[0].calls == 0


def test_frozen_puts_a_buffer_back_that_was_replaced() -> None:
    """`self.calls = self.calls + 1` leaves another tensor in the buffer's place."""
    model = nn.Module()
    model.register_buffer("calls", torch.zeros(1))
    before = model.calls
    with engine.frozen(model):
        model.calls = model.calls + 1
    assert model.calls is before
    assert model.calls.item() == 0


def test_frozen_differentiates_where_the_caller_turned_gradients_off() -> None:
    """Attacks work inside no_grad and inference_mode."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    goal = Goal.of(torch.zeros(2, dtype=torch.int64), None)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            x = torch.rand(2, 1, 2, 2)
            with engine.frozen(model):
                _, gradient = engine.gradient_step(model, x, goal, "ce")
        assert gradient.abs().sum() > 0


def test_streams_of_a_slice_are_the_slice_of_the_streams() -> None:
    """Numbers depend on seed and index only, not on position or company; forks differ from one another."""
    whole, part = Streams.of(3, torch.arange(100)), Streams.of(3, torch.tensor([17, 5]))
    rows = torch.tensor([17, 5])
    assert torch.equal(whole.uniform(-1, 1, (2, 3))[rows], part.uniform(-1, 1, (2, 3)))
    assert torch.equal(whole.take(rows).normal((4,)), part.normal((4,)))
    assert torch.equal(whole.fork(torch.arange(100)).uniform(0, 1, (5,))[rows], part.fork(rows).uniform(0, 1, (5,)))
    for other in (Streams.of(4, rows), part.fork(0), part.fork(1), Streams.of(3, rows + 1)):
        assert not torch.isclose(other.uniform(0, 1, (8,)), part.uniform(0, 1, (8,))).any()
    assert torch.equal(part.uniform(0, 1, (8,)), part.uniform(0, 1, (8,)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_streams_of_images_belong_to_the_pixels(dtype: torch.dtype) -> None:
    """An image has its stream wherever it stands; another image, by one pixel or their order, has another."""
    x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    whole = Streams.of_images(1, x)
    rows = torch.tensor([4, 0, 2])
    assert torch.equal(whole.take(rows).key, Streams.of_images(1, x[rows]).key)
    other = x.clone()
    other[0, 0, 0, 0] = 0.5
    other[1] = x[1].flip(-1)
    assert torch.equal(Streams.of_images(1, other).key == whole.key, torch.tensor([False, False] + 4 * [True]))
    assert len(whole.key.unique()) == 6
    assert not (Streams.of_images(2, x).key == whole.key).any()


def test_streams_look_random() -> None:
    """Range, mean, variance, correlation between neighbouring images and features, and the normal's tails."""
    streams = Streams.of(0, torch.arange(2000))
    unit = streams.uniform(0, 1, (500,))
    assert unit.min() >= 0
    assert unit.max() < 1
    assert unit.mean().item() == pytest.approx(0.5, abs=2e-3)
    assert unit.var().item() == pytest.approx(1 / 12, abs=1e-3)
    assert len(unit.unique()) > 900_000
    for a, b in ((unit[1:], unit[:-1]), (unit[:, 1:], unit[:, :-1])):
        assert abs(((a - 0.5) * (b - 0.5)).mean().item()) < 5e-4
    counts = torch.histc(unit, 100, 0, 1)
    assert ((counts - 1e4).square() / 1e4).sum() < 160  # chi-square with 99 degrees of freedom; p of about 1e-4
    normal = streams.normal((500,))
    assert normal.mean().item() == pytest.approx(0, abs=4e-3)
    assert normal.std().item() == pytest.approx(1, abs=4e-3)
    assert (normal.abs() > 1.959964).float().mean().item() == pytest.approx(0.05, abs=1e-3)
    assert (normal.abs() > 3.290527).float().mean().item() == pytest.approx(0.001, abs=2e-4)


def test_streams_are_pinned() -> None:
    """These numbers are part of what a seed means: a change would make saved results irreproducible."""
    found = Streams.of(7, torch.tensor([0, 12345])).uniform(0, 1, (2,))
    torch.testing.assert_close(found, torch.tensor(PINNED), rtol=0, atol=0)
    bell = Streams.of(7, torch.tensor([0, 12345])).normal((2,), torch.float64)  # logarithm and cosine may be rounded
    torch.testing.assert_close(bell, torch.tensor(PINNED_NORMAL, dtype=torch.float64), rtol=0, atol=1e-12)


PINNED = [[0.274320125579834, 0.32809823751449585], [0.5988636016845703, 0.6544740200042725]]
PINNED_NORMAL = [[-2.394741607058195, -0.4644480614938869], [-0.49740749016123814, -0.5149423283388537]]


class LayoutBound(nn.Module):
    """A model whose answer hangs on where in the batch an image stands: every verdict of it is an artefact."""

    def forward(self, x: Tensor) -> Tensor:
        """Class 1 for the first image of a batch, else class 0."""
        logits = torch.zeros(len(x), 2)
        logits[1:, 0] = 1
        logits[0, 1] = 1
        return logits


def test_finish_does_not_believe_a_claim_that_hangs_on_the_batch() -> None:
    """A claimed success that another layout does not confirm is a failure; a claimed failure stays one."""
    x, y = torch.rand(6, 1, 2, 2), torch.zeros(6, dtype=torch.int64)
    count = torch.ones_like(y)
    claimed = torch.tensor([True, True, True, False, False, False])
    result = finish(LayoutBound(), x, x.clone(), Goal.of(y, None), claimed, count, count, batch=100)
    assert result.success.tolist() == [False, False, True, False, False, False]
    assert result.forwards.tolist() == [2, 2, 2, 1, 1, 1]
    everyone = torch.ones(6, dtype=torch.bool)
    result = finish(LayoutBound(), x, x.clone(), Goal.of(y, None), everyone, count, count, batch=4)
    assert result.success.nonzero()[:, 0].tolist() == [2, 5]  # reversed, in chunks of 3 and not of 4


MODEL = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
X = torch.full((2, 1, 2, 2), 0.5)
Y = torch.tensor([0, 2])
BAD = {
    "integers": (
        {"x": (X * 255).to(torch.uint8)},
        r"x: expected a floating-point tensor \(N, C, H, W\), got torch.uint8",
    ),
    "three axes": ({"x": X[0]}, r"x: expected a floating-point tensor \(N, C, H, W\), got torch.float32 \(1, 2, 2\)"),
    "no image": ({"x": X[:0], "y": Y[:0]}, "x: expected at least one image, got none"),
    "0 to 255": ({"x": X * 255}, r"x: expected finite values in \[0, 1\], got 127.5 to 127.5"),
    "nan in x": ({"x": X * torch.nan}, r"x: expected finite values in \[0, 1\], got nan"),
    "float classes": ({"y": Y.float()}, r"y: expected an int64 tensor of shape \(2,\), got torch.float32 \(2,\)"),
    "too few classes": ({"y": Y[:1]}, r"y: expected an int64 tensor of shape \(2,\), got torch.int64 \(1,\)"),
    "class 3 of 3": ({"y": Y + 1}, "y: expected classes from 0 to 2, got 1 to 3"),
    "class -1": ({"y": Y - 1}, "y: expected classes from 0 to 2, got -1 to 1"),
    "target 9": ({"y_target": Y + 7}, "y_target: expected classes from 0 to 2, got 7 to 9"),
    "eps -0.1": ({"eps": -0.1}, r"eps: expected finite budgets in \[0, 1\], got -0.1"),
    "eps 1.5": ({"eps": 1.5}, r"eps: expected finite budgets in \[0, 1\], got 1.5"),
    "eps nan": ({"eps": torch.tensor([0.1, torch.nan])}, r"eps: expected finite budgets in \[0, 1\], got nan"),
    "eps inf": ({"eps": torch.inf, "eps_limit": torch.inf}, "eps: expected finite budgets of 0 or more, got inf"),
    "eps for three": ({"eps": torch.zeros(3)}, r"eps: expected a number or shape \(2,\), got shape \(3,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_check_names_argument_expected_and_got(case: str) -> None:
    """Every bad input is refused with one plain sentence."""
    change, message = BAD[case]
    arguments = {"x": X, "y": Y, "eps": 0.1} | change
    with pytest.raises(ValueError, match=f"^{message}"):
        checks.check(MODEL, arguments.pop("x"), arguments.pop("y"), **arguments)  # type: ignore[arg-type]


def test_check_refuses_a_model_without_logits() -> None:
    """One output is no classifier."""
    with pytest.raises(ValueError, match=r"model: expected logits \(N, K\) with K >= 2, got shape \(1, 1\)"):
        checks.check(nn.Sequential(nn.Flatten(), nn.Linear(4, 1)), X, Y)


class _Answers(nn.Module):
    """A model that answers as it is told."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: torch.Tensor) -> Any:
        return self.answer(MODEL(x))


@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        (_Answers(lambda logits: (logits, 1)), X, r"model: expected logits \(N, K\) with K >= 2, got tuple for one"),
        (
            MODEL,
            torch.rand(2, 1, 3, 3),
            r"model: expected one that takes torch.float32 images of shape \(1, 3, 3\), got",
        ),
        (MODEL, X.double(), r"model: expected one that takes torch.float64 images of shape \(1, 2, 2\), got the error"),
    ],
)
def test_check_refuses_what_is_no_model_of_these_images(model: Any, x: torch.Tensor, message: str) -> None:
    """Several outputs, images of another size or dtype: named, not an error from deep inside."""
    with pytest.raises(ValueError, match=f"^{message}"):
        checks.check(model, x, Y)


def test_check_refuses_a_function_for_a_model() -> None:
    """Its mode and its parameters could not be held still."""
    unchecked = inspect.unwrap(checks.check_images)  # the tests check types at every call, users' calls are not
    with pytest.raises(ValueError, match=r"model: expected a torch\.nn\.Module, got method"):
        unchecked(MODEL.forward, X)


def test_predict_refuses_a_model_that_joins_images() -> None:
    """A row of logits an image, or it is no classifier of images."""
    with pytest.raises(ValueError, match="model: expected a row of logits an image, got 1 for 2 images"):
        engine.predict(_Answers(lambda logits: logits.mean(0, keepdim=True)), X)


def test_check_gives_the_budget_a_number_an_image() -> None:
    """Scalars are spread, in the images' dtype."""
    exact = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    assert checks.check(exact, X.double(), Y, eps=0.25).tolist() == [0.25, 0.25]
    assert checks.check(MODEL, X, Y, eps=torch.tensor([0.0, 1.0], dtype=torch.float64)).dtype == torch.float32


def test_adam_move_is_that_of_torch() -> None:
    """Step after step, with a rate that changes; where the gradient is 0 nothing moves."""
    generator = torch.Generator().manual_seed(0)
    point = torch.randn(3, 5, dtype=torch.float64, generator=generator)
    theirs = point.clone().requires_grad_()
    optimiser = torch.optim.Adam([theirs], lr=0.1)
    mean = square = torch.zeros_like(point)
    for number in range(6):
        gradient = torch.randn(3, 5, dtype=torch.float64, generator=generator)
        gradient[0] = 0
        rate = 0.1 / (1 + number)
        move, mean, square = adam_move(mean, square, gradient, number, rate)
        point = point - move
        optimiser.param_groups[0]["lr"] = rate
        theirs.grad = gradient
        optimiser.step()
        torch.testing.assert_close(point, theirs.detach(), rtol=1e-12, atol=1e-12)
        assert not move[0].any()


def test_gradient_step_goes_the_quick_way(net: nn.Module, few: tuple[Tensor, Tensor]) -> None:
    """What attacks use is quick for frozen models, and the gradient is that of plain autograd."""
    x, y = few
    model = copy.deepcopy(net)
    used: list[str] = []
    model[0].register_forward_hook(lambda module, args, out: used.append(type(out.grad_fn).__name__))
    with frozen(model):
        _, gradient = gradient_step(model, x, Goal.of(y, None), "margin")
        leaf = x.clone().requires_grad_()
        (wanted,) = torch.autograd.grad(Goal.of(y, None).loss(model(leaf), "margin").sum(), leaf)
    assert used[0] == "_QuickConvolutionBackward"
    assert used[1] != "_QuickConvolutionBackward"
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)
