"""The active set, by property: who is taken, how many at once, in which order, and that the batch changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from core.attacks.engine.active import Active, Rows, even_batch

SEARCHES = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), max_size=12)
"""For each image, steps that one turn takes it, and turns that it needs."""


@dataclass
class Walkers(Rows):
    """Where each image is: a number that each step changes, the steps of this turn, and nothing."""

    value: Tensor
    step: Tensor
    nothing: Tensor | None = None


@dataclass
class Seen:
    """What happened in a search."""

    entered: list[int] = field(default_factory=list)
    at_once: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    result: Tensor = field(default_factory=lambda: torch.zeros(0))


def search(needs: list[tuple[int, int]], order: list[int], batch: int) -> Seen:
    """Every image adds its own number and doubles, so often as it has steps and turns; where it ends is the result."""
    steps, turns = (torch.tensor([need[k] for need in needs], dtype=torch.int64) for k in (0, 1))
    turn, seen = torch.zeros_like(steps), Seen(result=torch.full((len(needs),), -1.0))

    def begin(rows: Tensor) -> Walkers:
        seen.entered += rows.tolist()
        return Walkers(turn[rows].double(), torch.zeros_like(rows))

    active = Active(torch.tensor(order, dtype=torch.int64), batch, begin)
    while active.refill():
        rows, on = active.rows, active.state
        assert len(on.value) == len(on.step) == len(rows)
        assert on.nothing is None
        seen.at_once.append(len(rows))
        on.value, on.step = 2 * on.value + rows + 1, on.step + 1
        over = on.step == steps[rows]
        seen.result[rows[over]] = on.value[over].float()
        turn[rows[over]] += 1
        again = rows[over & (turn[rows] < turns[rows])]
        gone = active.keep(~over, again)
        assert gone == bool(over.any())
        seen.left.append(active.left)
    return seen


@given(SEARCHES, st.integers(1, 15), st.randoms(use_true_random=False))
def test_every_image_has_its_turns_and_the_batch_changes_nothing(
    needs: list[tuple[int, int]], batch: int, random: object
) -> None:
    """In the given order, never more than the batch, and each image ends where it ends alone."""
    order = list(range(len(needs)))
    random.shuffle(order)  # type: ignore[attr-defined]
    seen, alone = search(needs, order, batch), search(needs, order, 1)
    assert seen.entered[: len(order)] == order
    assert sorted(seen.entered) == sorted(k for k, (_, turns) in enumerate(needs) for _ in range(turns))
    assert max(seen.at_once, default=0) <= batch
    assert torch.equal(seen.result, alone.result)
    assert (seen.result >= 0).all()
    assert seen.left == sorted(seen.left, reverse=True)
    assert not seen.left or seen.left[-1] == 0
    assert sum(seen.at_once) == sum(steps * turns for steps, turns in needs)


@given(SEARCHES, st.integers(1, 15))
def test_the_batch_is_full_while_images_wait(needs: list[tuple[int, int]], batch: int) -> None:
    """An image that is done makes room at once."""
    seen = search(needs, list(range(len(needs))), batch)
    before = [len(needs), *seen.left]
    assert all(now == min(batch, left) for now, left in zip(seen.at_once, before, strict=False))


def test_images_that_are_left_out_are_never_taken() -> None:
    """Only who waits comes in; nobody waits where there is nobody."""
    needs = [(1, 1)] * 5
    seen = search(needs, [3, 1], 2)
    assert seen.entered == [3, 1]
    assert seen.result.tolist() == [-1, 2, -1, 4, -1]
    assert search(needs, [], 2).at_once == []


def test_rows_are_taken_and_joined_field_by_field() -> None:
    """Order is kept, and what is None stays None."""
    first = Walkers(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4, 5, 6]))
    both = first.take(torch.tensor([True, False, True])).join(first.take(torch.tensor([False, True, False])))
    assert both.value.tolist() == [1, 3, 2]
    assert both.step.tolist() == [4, 6, 5]
    assert both.nothing is None


@pytest.mark.parametrize(("images", "batch", "expected"), [(278, 128, 93), (128, 128, 128), (5, 128, 5), (0, 128, 1)])
def test_even_batch_leaves_no_small_rest(images: int, batch: int, expected: int) -> None:
    """As many rounds as the batch asks for, of equal size."""
    assert even_batch(images, batch) == expected
