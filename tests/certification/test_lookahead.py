"""Bounds of both halves of a split hold there, and the split is taken whose halves lack least."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from core.certification import lookahead
from core.certification.ball import Ball
from core.certification.bounds import margin_rows
from core.certification.lookahead import LIKELY, Split, best_split, halves
from core.certification.region import Part, Region, margins, shrink, tightened
from core.certification.worth import Worth
from tests.certification.small import images, network, start

Case = tuple[Part, Ball, Region, Worth, Tensor]


def convolution(seed: int) -> nn.Module:
    """A convolution, a pooling and a dense layer on nine pixels."""
    torch.manual_seed(seed)
    layers = nn.Conv2d(1, 4, 2, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 8), nn.ReLU()
    model = nn.Sequential(*layers, nn.Linear(8, 4)).eval().requires_grad_(False)
    for layer in model:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.weight.normal_(0, 1.0)
    return model


def cases(norm: str, seeds: int, *, given: bool = False) -> Iterator[Case]:
    """Regions whose bounds were tightened once after their margins were bounded, with the rows of these margins."""
    for seed in range(seeds):
        model = network(seed, 8, 8, classes=4) if seed % 3 else convolution(seed)
        graphs, ball, region, noise = start(model, norm)
        if given:
            place = graphs.exact.before_relus[-1]
            at = next((at for at in range(8) if region.open_at(place, at)), None)
            if at is None:
                continue
            region = region.split(place, at, 1)
        y = graphs.model(ball.x.float()).argmax(1)
        rows = margin_rows(graphs.classes, y, ball.x)[0][torch.arange(graphs.classes) != y]
        part = shrink(graphs, region, noise)
        worth = margins(part, ball, rows, 6, -rows[:1])[2]
        tight = tightened(part.below(None, 0.0), ball, worth)
        if tight is not None and worth.ranked():
            yield part, ball, tight, worth, rows


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("given", [False, True])
def test_bounds_of_halves_hold_and_hang_on_no_other_split(
    norm: str, given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No sampled image of a half is below its bound; one split at a time gives the same as all at once."""
    seen, higher = 0, 0
    for part, ball, region, worth, rows in cases(norm, 9, given=given):
        splits = [at for at in worth.ranked() if region.open_at(*part.named(*at))]
        bounded = torch.arange(len(rows)).flip(0)
        found = halves(part, ball, region, worth, rows[bounded], bounded, splits)
        assert found.shape == (len(splits), 2, len(rows))
        with monkeypatch.context() as patch:
            patch.setattr(lookahead, "VALUES", 1)
            assert torch.allclose(halves(part, ball, region, worth, rows[bounded], bounded, splits), found, atol=1e-4)
        values = part.graphs.exact.forward(images(ball, 2_000))
        inside = torch.ones(len(values[0]), dtype=torch.bool)
        for place, signs in part.region.signs.items():
            inside &= ((values[place] * signs >= 0) | (signs == 0)).flatten(1).all(1)
        logits = values[-1] @ rows[bounded].T
        for (place, at), of_halves in zip(splits, found, strict=True):
            for sign, bound in zip((-1, 1), of_halves, strict=True):
                half = inside & (values[place].flatten(1)[:, at] * sign >= 0)
                assert (logits[half] >= bound - 1e-3).all()
                seen += int(half.any())
        higher += int((found.amax((0, 1)) > worth.found.value[0, bounded] + 1e-3).sum())
    assert seen >= 30
    assert higher >= 5


def test_the_split_is_taken_whose_halves_lack_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of values that are worth at least the share of the best; the best of them where no more may be looked at."""
    other = 0
    for part, ball, region, worth, rows in cases("linf", 12):
        bounded = torch.arange(len(rows))
        worths = {at: value for at, value in worth.ranked().items() if region.open_at(*part.named(*at))}
        likely = [at for at, value in worths.items() if value >= LIKELY * max(worths.values())]

        def lacks(at: Split, case: Case = (part, ball, region, worth, rows)) -> float:
            bound = halves(*case, torch.arange(len(case[-1])), [at])
            return float(-bound.clamp(max=0).sum())

        taken = best_split(part, ball, region, worth, rows, bounded)
        (place, at) = next(at for at in likely if part.named(*at) == taken)
        assert lacks((place, at)) <= min(map(lacks, likely)) + 1e-4
        other += taken != part.named(*likely[0])
        with monkeypatch.context() as patch:
            patch.setattr(lookahead, "MOST", 1)
            assert best_split(part, ball, region, worth, rows, bounded) == part.named(*likely[0])
    assert other >= 2


def test_nothing_is_split_where_no_sign_is_open() -> None:
    """Nor where what is worth anything has a sign by now."""
    part, ball, region, worth, rows = next(cases("linf", 3))
    closed = Region({place: (low, torch.minimum(high, low.relu())) for place, (low, high) in region.known.items()})
    assert best_split(part, ball, closed, worth, rows, torch.arange(len(rows))) is None
