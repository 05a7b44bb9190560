"""Which searches an evaluation consists of: a mark by which stored evaluations of another version are told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from core.evaluation.robust import digging
from core.evaluation.robust.schedule import Stage, described, stages


def rules(plan: list[Stage]) -> list[object]:
    """All that the searches of a schedule depend on besides model and images, as what has the same text everywhere."""
    return [*digging.SETTINGS, *map(described, plan)]


def edition(norm: str, effort: str, classes: int) -> str:
    """The mark of the schedule of this version: eight digits that change with any stage, setting or rule of a search.

    Args:
        norm: of the ball.
        effort: effort level.
        classes: of the model, which the number of targets depends on.
    """
    return hashlib.sha256(repr(rules(stages(norm, effort, classes))).encode()).hexdigest()[:8]


def remark(card: Mapping[str, Any]) -> str:
    """What is to be said of the schedule of a stored evaluation, in a sentence; "" where it is the one of this version.

    A card of a version that kept no mark says nothing of its schedule.
    """
    now = edition(card["norm"], card["effort"], max(2, len(card["class_names"])))
    kept = card.get("schedule")
    if kept is None:
        return f"This evaluation does not say by which schedule of attacks it was made (the present one is {now})."
    if kept != now:
        return f"This evaluation was made by another schedule of attacks ({kept}) than the present one ({now})."
    return ""
