"""Bounds of regions hold for every image there, are never looser, and decide what slopes alone leave open."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from core.certification import branching
from core.certification.ball import Ball
from core.certification.bounds import intervals, margin_rows, noises
from core.certification.branching import BranchAndBound
from core.certification.crown import backward, crown_bounds
from core.certification.exact import PROVEN, UNKNOWN, verify
from core.certification.proof import certified_margins, graphs_of
from core.certification.reduced import reduced
from core.certification.region import LITTLE, REST, Region, Start, margins, shrink, tightened
from tests.certification.small import images, network, start


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("split", [False, True])
def test_bounds_hold_where_the_margin_fails_and_signs_are_given(norm: str, split: bool) -> None:
    """Sampled images of the region lie between them; they are nowhere looser, and somewhere tighter."""
    seen, tighter = 0, 0
    for seed in range(12):
        graphs, ball, region, noise = start(network(seed, 8, 8), norm)
        if split:
            place = graphs.exact.before_relus[0]
            at = next((at for at in range(8) if region.open_at(place, at)), None)
            if at is None:
                continue
            region = region.split(place, at, 1)
        values = graphs.exact.forward(images(ball))
        assert region.row is not None
        fails = values[-1] @ region.row <= 0
        for place, signs in region.signs.items():
            fails &= ((values[place] * signs >= 0) | (signs == 0)).all(1)
        for _ in range(3):
            part = shrink(graphs, region, noise)
            bound, _, worth = margins(part, ball, region.row[None], 10)
            if bound > 0:
                assert not fails.any()
                break
            found = tightened(part, ball, worth, gap=max(-float(bound), 1e-9))
            if found is None:
                assert not fails.any()
                break
            known = found.known
            for place, (low, high) in region.known.items():
                assert (known[place][0] >= low).all()
                assert (known[place][1] <= high).all()
                tighter += int((known[place][0] > low + 1e-3).sum())
                assert (values[place][fails] >= known[place][0] - 1e-9).all()
                assert (values[place][fails] <= known[place][1] + 1e-9).all()
            region = found
        seen += int(fails.any())
    assert seen >= 3
    assert tighter >= 5


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_bounds_hold_where_any_margin_fails(norm: str) -> None:
    """Where one of several fails, their mean is below a level that is proven: tighter bounds hold for all at once."""
    seen, tighter = 0, 0
    for seed in range(12):
        graphs, ball, region, noise = start(network(seed, 8, 8, classes=4), norm)
        y = int(graphs.model(ball.x.float()).argmax())
        rows = margin_rows(graphs.classes, torch.tensor([y]), ball.x)[0]
        rows = rows[torch.arange(graphs.classes) != y]
        values = graphs.exact.forward(images(ball))
        fails = (values[-1] @ rows.T <= 0).any(1)
        mean = rows.mean(0)
        part = shrink(graphs, Region(region.known), noise)
        found, points, worth = margins(part, ball, rows, 10, torch.cat([rows - mean, mean[None]]))
        assert len(points) == len(rows)
        level, low = -float(found[len(rows) : -1].min()), float(found[-1])
        assert (values[-1][fails] @ mean <= level + 1e-9).all()
        if level <= low:
            assert not fails.any()
            continue
        tight = [
            tightened(some, ball, worth, gap=level - low) for some in (part.below(mean, level), part.below(None, 0.0))
        ]
        if tight[0] is None:
            assert not fails.any()
            continue
        assert tight[1] is not None
        for place, (bottom, top) in tight[0].known.items():
            assert (values[place][fails] >= bottom - 1e-9).all()
            assert (values[place][fails] <= top + 1e-9).all()
            tighter += int((bottom > tight[1].known[place][0] + 1e-3).sum())
        seen += int(fails.any())
    assert seen >= 3
    assert tighter >= 5


def test_a_smaller_graph_computes_the_same_where_its_relus_are_off() -> None:
    """Forwards and backwards, with fewer values; a convolution and what a pooling reads stay whole."""
    graphs, ball, region, _ = start(network(1, 16, 12))
    needed = {place: high > 0 for place, (_, high) in region.known.items()}
    less, kept = reduced(graphs.exact, needed)
    assert sum(len(at) for at in kept.values()) < sum(
        torch.Size(graphs.exact.nodes[place].shape).numel() for place in kept
    )
    points = images(ball, 200)
    assert torch.allclose(less.forward(points)[-1], graphs.exact.forward(points)[-1], atol=1e-12)
    known = {place: tuple(end.flatten(1)[:, kept[place]] for end in bounds) for place, bounds in region.known.items()}
    assert region.row is not None
    last = len(less.nodes) - 1
    made = [
        backward(graph, {last: region.row[None, None]}, bounds)
        for graph, bounds in ((less, known), (graphs.exact, region.known))
    ]
    assert torch.allclose(made[0].coefficients, made[1].coefficients, atol=1e-12)
    assert torch.allclose(made[0].constant, made[1].constant, atol=1e-12)
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 3)).eval()
    graph = graphs_of(model, torch.rand(1, 1, 3, 3), torch.tensor([0])).exact
    assert reduced(graph, {place: torch.zeros(graph.nodes[place].shape) for place in graph.before_relus})[1] == {}


def test_nothing_is_left_of_a_region_whose_margin_cannot_fail() -> None:
    """|z| is at most 0.9: 3 - |z| cannot fail, and bounds where it does exclude each other; |z| - 3 fails."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 2), nn.ReLU(), nn.Linear(2, 2)).eval().requires_grad_(False)
    model[1].weight.copy_(torch.stack([torch.ones(9), -torch.ones(9)]))
    model[1].bias.copy_(torch.tensor([-4.5, 4.5]))
    model[3].weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    model[3].bias.copy_(torch.tensor([-3.0, 0.0]))
    x = torch.full((1, 1, 3, 3), 0.5)
    graphs = graphs_of(model, x, torch.tensor([0]))
    ball = Ball.around(x, 0.1, "linf", torch.float64)
    known = crown_bounds(graphs.exact, ball)
    noise = noises(graphs.exact, intervals(graphs.exact, ball.low, ball.high, known))
    for row, empty in (([-1.0, 1.0], True), ([1.0, -1.0], False)):
        rows = torch.tensor([row], dtype=torch.float64)
        part = shrink(graphs, Region(known, rows[0]), noise)
        assert (tightened(part, ball, margins(part, ball, rows, 5)[2]) is None) == empty


def test_regions_decide_what_slopes_leave_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cases inside regions some images are proven that slopes do not prove, and integer programmes agree."""
    won = 0
    for seed in range(2):
        model = network(seed, 12, 12, 12)
        x = torch.rand(6, 1, 3, 3)
        y = model(x).argmax(1)
        eps = torch.linspace(0.06, 0.16, len(x), dtype=torch.float64)
        bound = certified_margins(model, x, y, eps, method="alpha_crown")
        with monkeypatch.context() as patch:
            patch.setattr(branching, "FEW", 0)
            patch.setattr(branching, "WORK", 0)
            patch.setattr(branching, "MANY", 0)
            if seed:  # regions that margins share, as if the easiest were hard
                patch.setattr(branching, "FIRST", -1)
                patch.setattr(branching, "LOOKS", 0)
            answer = verify(model, x, y, eps, time_limit=20)
        with monkeypatch.context() as patch:
            patch.setattr(branching, "FEW", 10**6)
            patch.setattr(BranchAndBound, "_branch", lambda self, rows, deadline: None)
            truth = verify(model, x, y, eps, time_limit=20)
        assert list(answer.verdict) == list(truth.verdict)
        assert UNKNOWN not in answer.verdict
        won += int((torch.from_numpy(answer.verdict == PROVEN) & ~(bound > 0)).sum())
    assert won >= 1


def test_a_search_begins_with_what_is_left_of_the_one_around_it() -> None:
    """Rows of the values that are still open, their lower ends first, and columns of the ReLUs that are still there."""
    slopes = {2: torch.arange(24.0).view(1, 6, 4), 4: torch.arange(12.0).view(1, 6, 2)}
    at, weight = torch.tensor([1, 4, 7]), torch.arange(6.0).view(1, 6, 1)
    start = Start(at, slopes, {}, weight, {2: torch.tensor([0, 2, 5, 6])})
    made = start.for_part(at[1:], {2: torch.tensor([2, 6])}, 2)
    rows = [1, 2, 4, 5]
    assert made.weight is not None
    assert made.weight.flatten().tolist() == rows
    assert torch.equal(made.slopes[2], slopes[2][:, rows][:, :, [1, 3]])
    assert torch.equal(made.slopes[4], slopes[4][:, rows])
    assert torch.equal(made.for_part(at[1:], made.kept, 2).slopes[2], made.slopes[2])


def test_what_hardly_tightens_before_the_first_relu_is_kept_for_some_regions() -> None:
    """It rests where a search took little off its bounds, and then they stay; what is behind a ReLU never rests."""
    outcomes = set()
    for seed in range(12):
        graphs, ball, region, noise = start(network(seed, 12, 12))
        first, *later = graphs.exact.before_relus
        for rests in ({}, {first: 2}):
            part = shrink(graphs, replace(region, rests=rests), noise)
            worth = margins(part, ball, region.row[None], 8)[2]
            made = tightened(part, ball, worth)
            if made is None:
                continue
            old, new = (
                (high - low)[(low < 0) & (high > 0)].sum()
                for low, high in (known[first] for known in (region.known, made.known))
            )
            if rests:
                assert made.rests == {first: 1}
                assert all(torch.equal(a, b) for a, b in zip(made.known[first], region.known[first], strict=True))
                assert all(
                    (made.known[at][0] > region.known[at][0]).any() for at in later if (region.known[at][0] < 0).any()
                )
            else:
                outcomes.add(made.rests.get(first))
                assert new <= (1 - LITTLE) * old if made.rests == {} else made.rests == {first: REST}
    assert outcomes == {None, REST}
