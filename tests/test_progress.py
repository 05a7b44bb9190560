"""Progress of a part as progress of the whole."""

from __future__ import annotations

from typing import Any

from core.progress import part

Calls = list[tuple[int, int, dict[str, Any]]]


def listener() -> tuple[Any, Calls]:
    """A function that takes progress, and what it was called with."""
    calls: Calls = []
    return lambda done, total, **more: calls.append((done, total, more)), calls


def test_a_part_counts_from_where_it_begins_to_where_it_ends() -> None:
    """The share of the part that is done counts, whatever its own units; a part never reports more than its own end."""
    hear, calls = listener()
    report = part(hear, 20, 30, 100)
    assert report is not None
    for done, total in ((0, 4), (1, 4), (2, 4), (4, 4), (9, 4), (0, 0)):
        report(done, total)
    assert [call[:2] for call in calls] == [(20, 100), (22, 100), (25, 100), (30, 100), (30, 100), (20, 100)]


def test_a_part_passes_on_or_replaces_what_it_reports() -> None:
    """Metrics and snapshot pass through unless others are given; the phase stands before the part's own."""
    hear, calls = listener()
    own = {"loss": 2.0, "snapshot": {}}
    for settings in ({}, {"phase": "first"}, {"phase": "first", "metrics": {"eps": 0.1}}):
        report = part(hear, 0, 1, 1, **settings)
        assert report is not None
        report(1, 1, phase="second", **own)
    assert [call[2] for call in calls] == [
        {"phase": "second", **own},
        {"phase": "first, second", **own},
        {"phase": "first, second", "eps": 0.1},
    ]


def test_nobody_listens() -> None:
    """Without a listener there is nothing to call."""
    assert part(None, 0, 1, 2) is None
