"""Square: sees through hidden gradients, spends what it says, squares of the image's own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.attacks import pgd, square
from core.attacks.black_box.square import _bump, side_lengths
from core.attacks.engine.streams import Streams

Batch = tuple[Tensor, Tensor]


class Quantised(nn.Module):
    """The network behind a rounding of its input: the gradient is zero everywhere."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = copy.deepcopy(net)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the image rounded to eighths."""
        return self.net((x * 8).round() / 8)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.3), ("l2", 2.0)])
def test_square_finds_what_a_model_hides_from_gradients(net: nn.Module, few: Batch, norm: Any, eps: float) -> None:
    """With PGD the quantised model looks robust; a search without gradients shows that it is not."""
    x, y = few
    model = Quantised(net).eval()
    hidden = pgd(model, x, y, eps=eps, norm=norm, steps=20, random_start=False)
    found = square(model, x, y, eps=eps, norm=norm, queries=300)
    assert hidden.success.float().mean() < 0.2
    assert found.success.float().mean() > 0.7
    assert torch.equal(model(found.x_adv).argmax(1) != y, found.success)


def test_square_counts_its_queries(net: nn.Module, few: Batch) -> None:
    """A survivor costs the look and every query; the fooled stop early; the wrong ones cost a look and a check."""
    x, y = few
    result = square(net, x, y, eps=0.1, queries=40, batch=7)
    right = copy.deepcopy(net).eval()(x).argmax(1) == y
    stood = ~result.success
    assert stood.any()
    assert (result.forwards[stood] == 1 + 40).all()
    assert (result.forwards[result.success & right] <= 1 + 40 + 1).all()
    assert (result.forwards[~right] == 2).all()
    assert (result.backwards == 0).all()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_with_offspring_spends_and_finds_alike(exactly: tuple[nn.Module, Tensor, Tensor], norm: Any) -> None:
    """Several squares at once: no more queries than asked for, inside the ball; a slice is the slice."""
    net, x, y = exactly
    eps = {"linf": 0.1, "l2": 0.8}[norm]
    whole = square(net, x, y, eps=eps, norm=norm, queries=42, offspring=5, batch=11)
    assert (whole.forwards <= 1 + 42 + 1).all()
    assert (whole.forwards[~whole.success] == 1 + 40).all()
    assert (whole.distance[norm] <= eps).all()
    assert torch.equal(copy.deepcopy(net).eval()(whole.x_adv).argmax(1) != y, whole.success)
    rows = torch.tensor([2, 5, 11])
    streams = Streams.of(0, torch.arange(len(y)))
    part = square(net, x[rows], y[rows], eps=eps, norm=norm, queries=42, offspring=5, streams=streams.take(rows))
    assert torch.allclose(part.x_adv, whole.x_adv[rows])
    assert torch.equal(part.forwards, whole.forwards[rows])
    alone = square(net, x, y, eps=eps, norm=norm, queries=42)
    assert abs(int(whole.success.sum()) - int(alone.success.sum())) <= len(y) // 4


def test_square_gives_up_at_a_milestone(net: nn.Module, few: Batch) -> None:
    """A search above its share of the margin ends there, at the next round; a share that all keep changes nothing."""
    x, y = few
    free = square(net, x, y, eps=0.1, queries=60, offspring=4)
    never = square(net, x, y, eps=0.1, queries=60, offspring=4, milestones=((10, 0.0), (90, 0.0)))
    always = square(net, x, y, eps=0.1, queries=60, offspring=4, milestones=((10, 2.0),))
    stood = ~never.success
    assert stood.any()
    assert (never.forwards[stood] == 1 + 12).all()
    assert torch.equal(always.x_adv, free.x_adv)
    assert torch.equal(always.forwards, free.forwards)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_goes_on_from_a_point(exactly: tuple[nn.Module, Tensor, Tensor], norm: Any) -> None:
    """Never worse than where it begins, in the ball; a slice is the slice; milestones are shares of that margin."""
    net, x, y = exactly
    eps = {"linf": 0.06, "l2": 0.4}[norm]
    first = pgd(net, x, y, eps=eps, norm=norm, steps=2, loss="margin")
    settings: dict[str, Any] = {"eps": eps, "norm": norm, "queries": 64, "offspring": 4, "spent": 512}
    made = square(net, x, y, x_init=first.x_adv, **settings)
    low, was = made.trace["margin"], first.trace["margin"]
    assert (low <= was + 1e-5).all()
    assert (low < was - 1e-4)[~first.success].float().mean() > 0.5
    assert (made.distance[norm] <= eps).all()
    assert torch.equal(copy.deepcopy(net).eval()(made.x_adv).argmax(1) != y, made.success)
    rows = torch.tensor([2, 5, 11])
    streams = Streams.of(0, torch.arange(len(y))).take(rows)
    part = square(net, x[rows], y[rows], x_init=first.x_adv[rows], streams=streams, **settings)
    assert torch.allclose(part.x_adv, made.x_adv[rows])
    never = square(net, x, y, x_init=first.x_adv, milestones=((8, 0.0),), **settings)
    always = square(net, x, y, x_init=first.x_adv, milestones=((8, 1.0),), **settings)
    assert (never.forwards[~never.success] == 1 + 8).all()
    assert torch.equal(always.forwards, made.forwards)


def test_square_begins_small_where_queries_are_spent(net: nn.Module, few: Batch) -> None:
    """Far down the schedule of areas a query from a point changes one pixel at most."""
    x, y = few
    made = square(net, x, y, eps=0.3, queries=1, x_init=x, spent=10_000)
    assert made.distance["l0"].max() == 1


def test_square_takes_no_gradient(few: Batch) -> None:
    """A model that cannot be differentiated at all is attacked all the same."""

    class Blind(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                bright = x.flatten(1).mean(1)
                return torch.stack([torch.full_like(bright, 0.35), bright], 1)

    x = few[0]
    y = Blind()(x).argmax(1)
    assert square(Blind(), x, y, eps=0.3, queries=200).success.float().mean() > 0.9


def test_square_more_queries_only_help(net: nn.Module, few: Batch) -> None:
    """The image that is kept is the best one seen, and never worse than the clean one."""
    x, y = few
    model = copy.deepcopy(net).eval()
    logits = model(x).detach()
    clean = logits.gather(1, y[:, None])[:, 0] - logits.scatter(1, y[:, None], -torch.inf).max(1).values
    few_queries, many = (square(net, x, y, eps=0.1, queries=n) for n in (5, 300))
    assert many.success.sum() > few_queries.success.sum()
    for result in (few_queries, many):
        assert (result.trace["margin"] <= clean + 1e-5).all()


def test_square_linf_moves_every_feature_it_touches_to_the_limit(net: nn.Module, few: Batch) -> None:
    """Stripes and squares at x ± eps, cut to the box."""
    x, y = few
    result = square(net, x, y, eps=0.1, queries=30)
    moved = (result.x_adv - x).abs()
    ends = (result.x_adv == 0) | (result.x_adv == 1)
    assert ((moved - 0.1).abs() < 1e-6).logical_or(moved == 0).logical_or(ends).all()


def test_square_squares_belong_to_the_image(net: nn.Module, few: Batch) -> None:
    """Images of one batch get different squares, seeds differ, and the same seed repeats."""
    x, y = few[0][:1].expand(4, -1, -1, -1).clone(), few[1][:1].expand(4).clone()

    def found(seed: int) -> Tensor:
        return square(net, x, y, eps=0.03, queries=10, streams=Streams.of(seed, torch.arange(4))).x_adv

    assert not torch.equal(found(0)[0], found(0)[1])
    assert not torch.equal(found(0), found(1))
    assert torch.equal(found(0), found(0))


def test_side_lengths_shrink_to_one() -> None:
    """From the share of the area to single pixels, never growing; a tiny image keeps a side of one."""
    sides = side_lengths(1000, 0.8, 28)
    assert sides[0] == round(0.8**0.5 * 28)
    assert sides == sorted(sides, reverse=True)
    assert sides[-1] == 1
    assert side_lengths(3, 0.1, 1) == [1, 1, 1]


def test_bump_is_two_hills_of_opposite_sign() -> None:
    """Upper half positive, lower half negative, the highest value in the middle of each hill."""
    side = torch.tensor([7])
    at = torch.arange(7)
    bump = _bump(at[None, :, None].expand(1, 7, 7), at[None, None, :].expand(1, 7, 7), side)[0]
    assert (bump[:3] > 0).all()
    assert (bump[3:] < 0).all()
    assert bump.argmax() == 1 * 7 + 3
    assert bump.argmin() == 5 * 7 + 3


@pytest.mark.sampled(2)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("shape", [(3, 5, 9), (1, 2, 2), (1, 1, 1)])
def test_square_takes_any_shape(norm: Any, shape: tuple[int, int, int]) -> None:
    """Colour, oblong and tiny images."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(6, *shape, generator=generator)
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 3))
    y = model(x).argmax(1)
    result = square(model, x, y, eps=0.4, norm=norm, queries=60)
    assert (result.distance[norm] <= 0.4).all()
    assert ((result.x_adv >= 0) & (result.x_adv <= 1)).all()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "spent": ({"spent": -1}, "spent: expected 0 or more, got -1"),
    "eps": ({"eps": 2.0}, r"eps: expected finite budgets in \[0, 1\], got 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_square_refuses_bad_settings(net: nn.Module, few: Batch, case: str) -> None:
    """The error names the argument, what was expected and what came."""
    change, message = BAD[case]
    with pytest.raises(ValueError, match=f"^{message}"):
        square(net, *few, **({"eps": 0.1} | change))
