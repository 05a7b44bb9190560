"""How far a search goes, on states that are made up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from core.attacks.black_box.square import square
from core.attacks.fixed_budget.hop import basin_hopping
from core.evaluation.robust import digging
from core.evaluation.robust.digging import (
    BLOCK,
    ELSEWHERE,
    FEWEST,
    LEAST,
    PRICE,
    RECENT,
    SAMPLE,
    SEVERAL,
    dig,
    order,
    patience,
    probed,
)
from core.evaluation.robust.schedule import AFTER, Stage, stages
from core.evaluation.robust.state import CascadeState
from core.evaluation.robust.towards import towards

COST = 100
"""Passes an image of the searches here."""


LENGTHS = ("hops", "queries", "targets", "steps")
"""Settings that the passes of a search are a multiple of."""


def _search(**settings: Any) -> Stage:
    return Stage("a search", lambda *_, **__: None, {}, searches=True, **settings)  # type: ignore[arg-type, return-value]


def _state(margin: Tensor, clean: Tensor | None = None) -> CascadeState:
    n, none = len(margin), torch.zeros(len(margin), dtype=torch.int64)
    return CascadeState(
        x_adv=torch.zeros(n, 1, 1, 1),
        margin=margin.clone(),
        clean=torch.ones(n) if clean is None else clean,
        slack=torch.zeros(n),
        fooled=none.bool(),
        found=none - 1,
        gradient_masked=none.bool(),
        nearest=torch.full((n,), torch.inf),
        boundary_outside_box=none.bool(),
        forwards=none.clone(),
        backwards=none.clone(),
        places=torch.zeros(n, 0),
        spent=none.new_zeros(n, 0),
        fell=none.bool()[:, None][:, :0],
    )


def _dug(state: CascadeState, falls: Callable[[Tensor], Tensor], **settings: Any) -> list[Tensor]:
    """The groups that a search takes, of which those images fall that `falls` says."""
    groups: list[Tensor] = []

    def work(rows: Tensor, _report: object) -> None:
        groups.append(rows)
        state.forwards[rows] += COST
        state.fooled[rows] = falls(rows)

    n = len(state.margin)
    dig(_search(**settings), 0, torch.arange(n), torch.ones(n), state, work)
    return groups


def _shuffled(n: int) -> Tensor:
    return torch.linspace(0.1, 0.9, n)[torch.randperm(n, generator=torch.Generator().manual_seed(n))]


def test_search_that_finds_nothing_ends_after_its_price() -> None:
    """In vain it spends what a find is worth, and not a group of the smallest size more."""
    state = _state(_shuffled(400))
    spent = COST * sum(map(len, _dug(state, lambda rows: torch.zeros(len(rows), dtype=torch.bool))))
    worth = max(LEAST, PRICE * 400)
    assert worth <= spent <= worth + COST * _search().smallest


@pytest.mark.parametrize("smallest", [1, 2, 3, 8])
def test_first_group_takes_the_likeliest(smallest: int) -> None:
    """However small it is; of several images, one comes from further along."""
    margin = _shuffled(400)
    first = _dug(_state(margin), lambda rows: torch.zeros(len(rows), dtype=torch.bool), smallest=smallest)[0]
    assert len(first) == smallest
    likeliest = margin.argsort()[: max(1, smallest - 1)]
    assert set(likeliest.tolist()) <= set(first.tolist())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_dear_searches_begin_with_few_images(norm: str, classes: int) -> None:
    """Hops, squares and runs towards classes: the dearer one is, the fewer; one image at least."""
    searches = [one for one in stages(norm, "standard", classes) if one.searches and one.name != "PGD from FAB"]
    for kind in (basin_hopping, square, towards):
        same = [one for one in searches if one.attack is kind]
        dear = sorted(same, key=lambda one: math.prod(one.settings.get(name, 1) for name in LENGTHS))
        sizes = [one.smallest for one in dear]
        assert sizes == sorted(sizes, reverse=True)
        assert 1 <= sizes[-1] < 8


@pytest.mark.parametrize("margin", [0.05, 0.3, 0.47, 0.8])
def test_no_margin_is_too_high(margin: float) -> None:
    """Where images keep falling, all of them are searched, whatever is left of their margins."""
    state = _state(margin + 0.01 * _shuffled(300))
    searched = torch.cat(_dug(state, lambda rows: rows % 10 == 0))
    assert sorted(searched.tolist()) == list(range(300))


def test_where_finds_thin_out_the_search_ends() -> None:
    """It goes beyond the last find by what it may spend in vain; groups are small where little is left to spend."""
    margin = _shuffled(500)
    state = _state(margin)
    groups = _dug(state, lambda rows: margin[rows] < 0.3)  # a quarter of the images
    searched = torch.cat(groups)
    assert (margin[searched] < 0.3).sum() == (margin < 0.3).sum()
    beyond = (margin[searched] >= 0.3).sum().item()
    last = len(groups[-1]) + max(map(len, groups))
    worth = max(LEAST, PRICE * 500) / COST
    assert worth <= beyond - beyond // ELSEWHERE <= worth + 2 * last


@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
def test_order_needs_no_scale_of_the_logits(temperature: float) -> None:
    """Logits that are all scaled give the same order; so do those that are scaled image by image, by the shares."""
    margin = _shuffled(50)
    rows, ones = torch.arange(50), torch.ones(50)
    plain = order(_search(), rows, ones, _state(margin))
    scaled = order(_search(), rows, ones, _state(margin * temperature, ones * temperature))
    assert torch.equal(plain[0], scaled[0])
    each = temperature ** torch.linspace(-1, 1, 50)
    lowest = margin.argsort()[:5]
    (odd,) = order(_search(), rows, ones, _state(margin * each, each))
    assert set(lowest.tolist()) <= set(odd[:10].tolist())  # among the best by share or by margin


def test_marked_images_take_turns_with_the_others() -> None:
    """Those whose gradients are masked, for a search that needs none; outside the box, they come first."""
    state = _state(torch.linspace(0.1, 0.9, 20))
    state.gradient_masked[[1, 15, 18]] = True
    (first,) = order(_search(gradient_masked=True), torch.arange(20), torch.ones(20), state)
    assert first[:6].tolist() == [1, 0, 15, 18, 2, 3]
    (first,) = order(_search(), torch.arange(20), torch.ones(20), state)
    assert first[:2].tolist() == [0, 1]
    state.boundary_outside_box[[16, 7]] = True
    (first,) = order(_search(boundary_outside_box=True), torch.arange(20), torch.ones(20), state)
    assert first[:3].tolist() == [7, 16, 0]


@pytest.mark.parametrize("share", [0.0, SEVERAL, 2 * SEVERAL, 1.0])
def test_probe_asks_about_the_others_of_a_block_where_it_marked_several(share: float) -> None:
    """A sample of each block first, all of a small one; nothing is asked about twice."""
    state, rows = _state(_shuffled(2 * BLOCK)), torch.cat([torch.arange(0, BLOCK, 2), torch.arange(BLOCK, BLOCK + 40)])
    parts = probed(rows, state)
    sample = next(parts)
    mine = sample[sample < BLOCK]
    assert len(mine) == math.ceil(BLOCK / 2 / SAMPLE)
    assert (sample >= BLOCK).sum() == 40 >= FEWEST
    state.gradient_masked[mine[: int(share * len(mine))]] = True
    state.gradient_masked[BLOCK + 40 :] = True  # none of these is asked about
    rest = list(parts)
    if share <= SEVERAL:
        assert not rest
    else:
        assert torch.equal(torch.cat([mine, *rest]).sort().values, rows[rows < BLOCK])


def test_finds_of_the_last_searches_raise_the_least() -> None:
    """One is enough; what the first stages fooled, which are for all images, is no sign that more is left."""
    state = _state(_shuffled(500))
    block = torch.arange(460, 500)
    assert PRICE * len(block) < LEAST
    state.found[:460] = AFTER - 1
    assert patience(AFTER, block, state) == LEAST
    for finds in range(5):
        state.found[:finds] = AFTER
        assert patience(AFTER + RECENT, block, state) == LEAST * (1 + (finds > 0))
        assert patience(AFTER + RECENT + 1, block, state) == LEAST


def test_price_is_that_of_the_images_that_stand() -> None:
    """Where many stand, whatever was found."""
    state = _state(_shuffled(500))
    block = torch.arange(500)
    assert patience(AFTER, block, state) == PRICE * 500 > 2 * LEAST


def test_near_boundary_counts_as_a_low_margin() -> None:
    """FAB's distance is a sign like the margin; images of which none is known are not the worse for it."""
    state = _state(torch.linspace(0.1, 0.9, 20))
    state.nearest[19] = 1.01
    (first,) = order(_search(), torch.arange(20), torch.ones(20), state)
    assert first[:3].tolist() == [0, 19, 1]


def test_margins_that_lie_do_not_stop_the_search() -> None:
    """Only images of high margins fall, a tenth of all: of three searches one goes on by what comes from further on."""
    margin = _shuffled(500)
    state, fall = _state(margin), margin > 0.82
    for _ in range(3):
        left = (~state.fooled).nonzero()[:, 0]

        def work(rows: Tensor, _report: object) -> None:
            state.forwards[rows] += 40
            state.fooled[rows] = fall[rows]

        dig(_search(), 0, left, torch.ones(500), state, work)
    assert state.fooled[fall].double().mean() > 0.9


def test_blocks_are_dug_through_as_if_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks side by side: the images of each are those that it takes alone."""
    monkeypatch.setattr(digging, "BLOCK", 100)
    margin = _shuffled(200)
    together = torch.cat(_dug(_state(margin), lambda rows: margin[rows] < 0.2))
    for block in range(2):
        own = margin[100 * block : 100 * block + 100]
        alone = torch.cat(_dug(_state(own), lambda rows, own=own: own[rows] < 0.2)) + 100 * block  # type: ignore[misc]
        assert sorted(alone.tolist()) == sorted(together[together // 100 == block].tolist())


def test_every_image_is_searched_once() -> None:
    """Whatever falls: no image twice, none that is not there."""
    margin = _shuffled(2 * BLOCK + 37)
    searched = torch.cat(_dug(_state(margin), lambda rows: margin[rows] < 0.5))
    assert len(searched.unique()) == len(searched)
    assert searched.max() < len(margin)
