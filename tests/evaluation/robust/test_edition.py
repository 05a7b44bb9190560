"""Stored evaluations of another schedule are told apart."""

from __future__ import annotations

from typing import Any

import pytest

from core.evaluation.robust import digging, schedule
from core.evaluation.robust.edition import edition, remark


def test_mark_changes_with_all_that_the_schedule_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Norm, effort, stages, and the rule of how far searches go."""
    marks = {edition(norm, effort, 10) for norm in ("linf", "l2", "l1", "l0") for effort in schedule.EFFORTS}
    assert len(marks) == 12
    before = edition("linf", "standard", 10)
    assert before == edition("linf", "standard", 10)
    monkeypatch.setitem(schedule.SQUARES, "offspring", 8)
    other = edition("linf", "standard", 10)
    monkeypatch.setattr(digging, "SETTINGS", (*digging.SETTINGS, 1))
    assert len({before, other, edition("linf", "standard", 10)}) == 3


def test_card_of_another_schedule_says_so_and_one_of_this_says_nothing() -> None:
    """A card without a mark, as earlier versions wrote it, is of an unknown schedule."""
    card: dict[str, Any] = {"norm": "l2", "effort": "quick", "class_names": ["0", "1", "2"]}
    assert "does not say" in remark(card)
    assert "another schedule of attacks (00000000)" in remark(card | {"schedule": "00000000"})
    assert remark(card | {"schedule": edition("l2", "quick", 3)}) == ""
