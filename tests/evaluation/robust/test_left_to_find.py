"""What a longer search would still fool: the interval holds what it does, on made-up evaluations and on real ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from core.evaluation.robust.left_to_find import OTHER, POWER, LeftToFind, Trials, estimate, passes
from core.evaluation.robust.robust import evaluate
from core.evaluation.robust.with_checks import with_estimate

SPENT = (3, 21, 12, 24, 40, 40, 200, 300, 260, 624, 1800, 1664, 1024)
"""Passes of each stage of a made-up evaluation."""
MORE = passes("linf", 10)


def made_up(seed: int, n: int, a: float, b: float, c: float, ordered: bool = True) -> tuple[Trials, Tensor, int]:
    """An evaluation whose finds follow the law, the images that stand after it, and what the other search would fool.

    Every stage goes along a third of the order of the one before, after the first few, which are for all images. Where
    it is not `ordered`, the places that the estimate sees are drawn anew.
    """
    draw = torch.Generator().manual_seed(seed)
    true = (torch.randperm(n, generator=draw) + 0.5) / n
    shown = true if ordered else (torch.randperm(n, generator=draw) + 0.5) / n
    rate = a + b * true.log() + c * true
    # the passes that each image takes: the integral of the rate from 1 on is exponentially distributed
    drawn = -torch.rand(n, generator=draw).log() / rate.exp()
    left = 1 - (POWER - 1) * drawn
    takes = torch.where(left > 0, left.clamp(min=1e-30) ** (-1 / (POWER - 1)), torch.inf)
    total, standing = torch.ones(n), torch.ones(n, dtype=torch.bool)
    places, spent, fell = [], [], []
    for stage, cost in enumerate(SPENT):
        share = 1.0 if stage < 5 else max(0.03, 0.5 / 2 ** (stage - 4))
        on = standing & (shown <= share)
        places.append(torch.where(standing, shown, torch.nan))
        total = total + cost * on
        now = on & (takes <= total)
        spent.append(cost * on)
        fell.append(now)
        standing = standing & ~now
    places.append(torch.where(standing, shown, torch.nan))
    trials = Trials(torch.stack(places, 1), torch.stack(spent, 1), torch.stack(fell, 1))
    more = MORE * float(torch.randn((), generator=draw).mul(OTHER / 2).exp())
    return trials, standing, int((standing & (takes <= total + more)).sum())


@pytest.mark.parametrize(
    "law",
    [(-1.4, -0.5, -7.0), (0.0, -0.3, -4.0), (-2.5, -0.6, -10.0), (-3.5, -0.2, -2.0)],
    ids=["usual", "many", "few", "even"],
)
@pytest.mark.parametrize("n", [100, 500])
def test_interval_holds_what_is_found_by_the_law(law: tuple[float, float, float], n: int) -> None:
    """In nine of ten made-up evaluations, and it is not simply everything."""
    held, wide = 0, 0.0
    for seed in range(40):
        trials, standing, found = made_up(seed, n, *law)
        left = estimate(trials, standing, "linf", 10)
        held += left.low <= found <= left.high
        wide += (left.high - left.low) / n / 40
    assert held >= 36
    assert wide < 0.12


@pytest.mark.parametrize("n", [200, 500])
def test_an_order_that_says_nothing_makes_the_interval_wide_and_not_wrong(n: int) -> None:
    """Margins that lie: what falls lies anywhere, and that is learned from where it fell."""
    held = 0
    for seed in range(20):
        trials, standing, found = made_up(seed, n, -1.0, -0.1, -1.0, ordered=False)
        left = estimate(trials, standing, "linf", 10)
        held += left.low <= found <= left.high
    assert held >= 18


def test_more_finds_late_leave_more_to_find() -> None:
    """The same trials but for finds of the last stages."""
    trials, standing, _ = made_up(1, 500, -1.4, -0.5, -7.0)
    before = estimate(trials, standing, "linf", 10)
    fell = trials.fell.clone()
    fell[:, -6:] |= trials.spent[:, -6:] > 0
    after = estimate(replace(trials, fell=fell), standing, "linf", 10)
    assert after.expected > 1.2 * before.expected
    assert after.high > before.high


def test_nothing_stands_nothing_is_left() -> None:
    """Also without a single trial."""
    trials, standing, _ = made_up(1, 50, -1.4, -0.5, -7.0)
    none = estimate(trials, torch.zeros_like(standing), "linf", 10)
    assert (none.expected, none.low, none.high, none.n) == (0, 0, 0, 50)
    empty = Trials(torch.full((2, 1), torch.nan), torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool))
    assert estimate(empty, torch.ones(2, dtype=torch.bool), "linf", 10).high == 0


def test_what_is_proven_cannot_be_found() -> None:
    """Images without a place are proven: they add nothing."""
    trials, standing, _ = made_up(3, 500, -1.4, -0.5, -7.0)
    places = trials.places.clone()
    places[:, -1] = torch.nan
    assert estimate(replace(trials, places=places), standing, "linf", 10).high == 0


def test_it_is_said_in_points() -> None:
    """Of all images, with the interval."""
    left = LeftToFind(1.26, 0, 3, 1000)
    assert left.said == "about 0.1 points (95 %: 0.0 to 0.3)"
    assert LeftToFind.from_json(left.to_json()) == left
    assert LeftToFind.from_json(None) is None
    assert left.sentence.startswith("A search of AutoAttack's strength on all images")
    assert replace(left, norm="l0").sentence.startswith("Sparse-RS with 10,000 queries on all images")


@pytest.mark.parametrize(
    ("norm", "classes", "spent"), [("linf", 10, 8800), ("l2", 3, 6000), ("l1", 10, 3800), ("l0", 10, 12000)]
)
def test_passes_of_the_other_search(norm: str, classes: int, spent: int) -> None:
    """APGD-CE, APGD-T and FAB-T towards at most nine classes, Square except in l1; in l0 Sparse-RS."""
    assert passes(norm, classes) == spent


# ---------------------------------------------------------------- real evaluations


def digits(n: int) -> tuple[Tensor, Tensor]:
    """The last n digits, 8 by 8."""
    found = load_digits()
    return torch.tensor(found.images[-n:] / 16, dtype=torch.float32)[:, None], torch.tensor(found.target[-n:])


def trained(seed: int, width: int) -> nn.Module:
    """A dense network, trained in two seconds on digits moved by one step of FGSM."""
    found = load_digits()
    x = torch.tensor(found.images[:-200] / 16, dtype=torch.float32)[:, None]
    y = torch.tensor(found.target[:-200])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
        adam = torch.optim.Adam(net.parameters(), 0.005)
        for _ in range(400):
            rows = torch.randint(len(x), (128,))
            moved = x[rows].requires_grad_()
            (slope,) = torch.autograd.grad(nn.functional.cross_entropy(net(moved), y[rows]), moved)
            adam.zero_grad()
            moved = (x[rows] + 0.05 * slope.sign()).clamp(0, 1)
            nn.functional.cross_entropy(net(moved), y[rows]).backward()
            adam.step()
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("seed", "norm", "eps", "n"), [(1, "linf", 0.05, 40), (2, "l2", 0.5, 40), (3, "l1", 2.0, 40), (4, "l0", 2, 15)]
)
def test_interval_holds_what_the_longer_search_finds(seed: int, norm: str, eps: float, n: int) -> None:
    """What stands after `quick` and falls to `at_least_autoattack` on the same images."""
    net, (x, y) = trained(seed, 16), digits(n)
    some: dict[str, Any] = {"norm": norm, "eps": eps, "trust": False}
    made, longer = (
        evaluate(net, x, y, effort="quick", **some),
        evaluate(net, x, y, effort="at_least_autoattack", **some),
    )
    assert made.left_to_find is not None
    assert longer.left_to_find is None
    found = int((made.robust & ~longer.robust).sum())
    assert made.left_to_find.low <= found <= made.left_to_find.high
    assert made.left_to_find.high <= int(made.robust.sum())


def test_it_is_not_known_without_trials() -> None:
    """Unknown is None, never a number; nor where less than one feature may change."""
    net, (x, y) = trained(1, 8), digits(10)
    assert evaluate(net, x, y, norm="l0", eps=0.5, effort="quick", trust=False).left_to_find is None
    made = evaluate(net, x, y, norm="linf", eps=0.1, effort="quick", trust=False)
    assert with_estimate(replace(made, trials=None, left_to_find=None), 10).left_to_find is None
