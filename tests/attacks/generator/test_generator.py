"""The generator attack: rows are trained apart in one batch, Adam is Adam, what the exercise lets one choose works."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.attacks.engine.streams import Streams
from core.attacks.generator.generator import Adam, generator_attack

Batch = tuple[Tensor, Tensor]


@pytest.fixture
def pairs(net: nn.Module, few: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Three correctly classified images by every target, the true class included: x, y, y_target."""
    x, y = few
    right = (copy.deepcopy(net).eval()(x).argmax(1) == y).nonzero()[:3, 0]
    rows = right.repeat_interleave(10)
    return x[rows], y[rows], torch.arange(10).repeat(3)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("loss", ["mse", "ce"])
def test_generator_is_the_exercises_two_step_loop(
    net: nn.Module, pairs: tuple[Tensor, Tensor, Tensor], loss: str, shared: bool
) -> None:
    """One pair trained alone with torch.optim.Adam, as the exercise says it, ends at the same image."""
    x, y, target = (value[4:5] for value in pairs)
    model = copy.deepcopy(net).eval()
    found = generator_attack(model, x, y, y_target=target, rounds=15, loss=loss, shared_adam=shared, init="image")

    weight = torch.logit(x.clamp(1e-3, 1 - 1e-3)).requires_grad_()
    to_image = torch.optim.Adam([weight], 0.05)
    to_class = to_image if shared else torch.optim.Adam([weight], 0.05)
    trace = []
    for _ in range(15):
        to_image.zero_grad()
        nn.functional.mse_loss(weight.sigmoid(), x).backward()
        to_image.step()
        to_class.zero_grad()
        logits = model(weight.sigmoid())
        one_hot = nn.functional.one_hot(target, 10).float()
        error = nn.functional.mse_loss(logits.softmax(1), one_hot)
        (error if loss == "mse" else nn.functional.cross_entropy(logits, target)).backward()
        to_class.step()
        trace.append((weight.sigmoid() - x).norm().item())
    np.testing.assert_allclose(found.trace["l2"][:, 0].numpy(), trace, rtol=2e-3)


def test_generator_rows_do_not_touch_one_another(net: nn.Module, pairs: tuple[Tensor, Tensor, Tensor]) -> None:
    """A row alone equals the row of the batch, in chunks too: random weights belong to image and target."""
    net, x, y, target = copy.deepcopy(net).double(), pairs[0].double(), *pairs[1:]
    index = torch.arange(3).repeat_interleave(10)
    streams = Streams.of(2, index)
    whole = generator_attack(net, x, y, y_target=target, rounds=30, streams=streams)
    rows = torch.tensor([12, 3])
    alone = generator_attack(net, x[rows], y[rows], y_target=target[rows], rounds=30, streams=streams.take(rows))
    chunked = generator_attack(net, x, y, y_target=target, rounds=30, streams=streams, batch=7)
    torch.testing.assert_close(whole.trace["l2"][:, rows], alone.trace["l2"], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(whole.trace["l2"], chunked.trace["l2"], rtol=1e-3, atol=1e-4)
    first = generator_attack(
        net, x[:2] * 0 + 0.5, y[:2], y_target=target[:2], rounds=1, lr=1e-9, streams=streams.take(index[:2])
    )
    assert not torch.allclose(first.x_adv[0], first.x_adv[1])  # same image, other target: other weights


@pytest.mark.slow
def test_generator_fools_from_random_weights_and_cross_entropy_rescues_the_image_start(
    net: nn.Module, pairs: tuple[Tensor, Tensor, Tensor]
) -> None:
    """The order of MATHEMATICS section 9: random start fools, image start with separate states does not."""
    x, y, target = pairs
    other = target != y

    def rate(**options: Any) -> float:
        return generator_attack(net, x, y, y_target=target, **options).success[other].float().mean().item()

    assert rate(loss="ce") > 0.9
    assert rate(loss="ce", init="image", shared_adam=True) > 0.9
    assert rate(loss="ce", init="image") < 0.5


@pytest.mark.parametrize("generator", ["linear", "deep"])
@pytest.mark.parametrize("init", ["random", "image"])
def test_generator_settings_all_run(
    net: nn.Module, pairs: tuple[Tensor, Tensor, Tensor], generator: str, init: str
) -> None:
    """Both generators and starts draw valid, finite images, exact zeros and ones in the sample notwithstanding."""
    x, y, target = (value[:4] for value in pairs)
    x = x.round()
    options: dict[str, Any] = {"generator": generator, "init": init, "rounds": 20, "image_steps": 2, "class_steps": 3}
    result = generator_attack(net, x, y, y_target=target, **options)
    assert torch.isfinite(result.x_adv).all()
    assert ((result.x_adv >= 0) & (result.x_adv <= 1)).all()
    assert (result.forwards >= 20 * 4).all()
    assert (result.backwards == 20 * 3).all()
    if init == "image":
        assert result.trace["l2"][0].max() < 2  # it begins at the sample


def test_generator_keeps_the_nearest_fooling_iterate(net: nn.Module, pairs: tuple[Tensor, Tensor, Tensor]) -> None:
    """The stored image is read as the target and no iterate after a round that fooled is nearer."""
    x, y, target = pairs
    result = generator_attack(net, x, y, y_target=target, rounds=120, loss="ce")
    model = copy.deepcopy(net).eval()
    assert torch.equal(model(result.x_adv).argmax(1) == target, result.success)
    fooled = result.trace["confidence"] > 0.5
    nearest = torch.where(fooled, result.trace["l2"], torch.inf).min(0).values
    assert (result.distance["l2"][result.success] <= nearest[result.success] + 1e-5).all()
    assert (result.distance["l2"][result.success] < nearest[result.success] - 1e-3).any()


def test_generator_stops_a_row_at_its_confidence(net: nn.Module, pairs: tuple[Tensor, Tensor, Tensor]) -> None:
    """A finished row keeps the image that reached it and costs no more passes; the others go on."""
    x, y, target = pairs
    free = generator_attack(net, x, y, y_target=target, rounds=150, loss="ce")
    result = generator_attack(net, x, y, y_target=target, rounds=150, loss="ce", stop_confidence=0.7)
    confidence = copy.deepcopy(net).eval()(result.x_adv).softmax(1).gather(1, target[:, None])[:, 0]
    reached = (result.trace["confidence"] >= 0.7).any(0)
    assert reached.float().mean() > 0.8
    assert (confidence[reached] >= 0.7 - 1e-4).all()
    assert (result.forwards[reached] < free.forwards[reached]).any()
    for row in reached.nonzero()[:, 0].tolist():
        at = int((result.trace["confidence"][:, row] >= 0.7).nonzero()[0])
        assert (result.trace["confidence"][at:, row] == result.trace["confidence"][at, row]).all()
        torch.testing.assert_close(free.trace["l2"][at, row], result.trace["l2"][at, row], rtol=1e-3, atol=1e-3)


def test_generator_reports_images_as_they_are_drawn(net: nn.Module, pairs: tuple[Tensor, Tensor, Tensor]) -> None:
    """Progress ends at the total and carries NumPy pictures, the mean distance and the success rate."""
    seen: list[tuple[int, int, dict[str, Any]]] = []
    x, y, target = pairs
    generator_attack(
        net,
        x,
        y,
        y_target=target,
        rounds=10,
        batch=16,
        on_progress=lambda done, total, **more: seen.append((done, total, more)),
    )
    assert [done for done, _, _ in seen] == list(range(1, 21))
    assert all(total == 20 for _, total, _ in seen)
    last = seen[-1][2]
    assert isinstance(last["snapshot"]["x_adv"], np.ndarray)
    assert last["snapshot"]["x_adv"].shape == tuple(x.shape)
    assert not np.array_equal(seen[0][2]["snapshot"]["x_adv"], last["snapshot"]["x_adv"])
    assert last["l2"] > 0
    assert 0 <= last["success"] <= 1


def test_adam_equals_torchs_and_can_drop_rows() -> None:
    """Every element moves as torch.optim.Adam moves it, before and after rows are dropped."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    ours, theirs = [start.clone().requires_grad_()], start.clone().requires_grad_()
    goal = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    state, torchs = Adam.start(ours, 0.1), torch.optim.Adam([theirs], 0.1)
    keep = torch.tensor([True, False, True])
    for step in range(40):
        rows = slice(None) if step < 20 else keep
        if step == 20:
            ours, state = [ours[0].detach()[keep].requires_grad_()], state.take(keep)
        state.step(ours, (ours[0] - goal[rows]).pow(4).sum(1))
        torchs.zero_grad()
        (theirs - goal).pow(4).sum().backward()
        torchs.step()
    torch.testing.assert_close(ours[0], theirs[keep], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("class_steps", [1, 3])
def test_generator_keeps_to_its_budget(net: nn.Module, pairs: tuple[Tensor, Tensor, Tensor], class_steps: int) -> None:
    """Fewer rounds, each whole; a budget that pays for no round is refused."""
    x, y, target = pairs
    least = 2 * class_steps + 2
    for budget in (least, 30, 64):
        made = generator_attack(net, x, y, y_target=target, class_steps=class_steps, budget=budget)
        assert (made.forwards + made.backwards).max() <= budget
        assert len(made.trace["l2"]) == (budget - 1) // (least - 1)
    with pytest.raises(ValueError, match=f"budget: expected at least {least}, got {least - 1}"):
        generator_attack(net, x, y, y_target=target, class_steps=class_steps, budget=least - 1)
