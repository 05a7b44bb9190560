"""The lock file: exact versions with hashes, within the bounds of the requirements."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[1]
LOCK = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
PINNED = [
    (Requirement(head.rstrip("\\ ")), re.findall(r"--hash=sha256:([0-9a-f]{64})\b", rest))
    for head, rest in re.findall(r"^(\w\S*==[^\n]*)\n((?: +--hash[^\n]*\n?)+)", LOCK, flags=re.MULTILINE)
]
BOUNDS = [
    Requirement(line.partition("#")[0].strip())
    for line in (PROJECT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if line.partition("#")[0].strip()
]


def test_every_line_is_one_version_with_hashes() -> None:
    """Nothing else is in the file: no index, no link, no file of some machine."""
    rest = [line for line in LOCK.splitlines() if not line.startswith(("#", "    --hash=sha256:"))]
    assert len(rest) == len(PINNED) > len(BOUNDS)
    assert "://" not in LOCK
    for one, hashes in PINNED:
        assert [bound.operator for bound in one.specifier] == ["=="], one
        assert hashes
        assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.name)
def test_every_requirement_is_locked_within_its_bounds(bound: Requirement) -> None:
    """On every system and every version of Python there is one of it."""
    found = [one for one, _ in PINNED if canonicalize_name(one.name) == canonicalize_name(bound.name)]
    assert found
    for one in found:
        (version,) = one.specifier
        assert bound.specifier.contains(version.version)
