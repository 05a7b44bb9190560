"""What a job may ask for and take: refused before it begins, or stopped with a sentence, and nothing is lost."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core import access
from core.jobs import limits, queue
from core.specs import CompareSpec, EvaluateSpec, SweepSpec, Task
from tests.jobs.toys import MODEL, until

posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of memory that the kernel keeps")


ASKED: list[tuple[Task, str, float]] = [
    (SweepSpec(model="m", n=101), limits.IMAGES, 100),
    (EvaluateSpec(model="m", eps=0.1, n=3), limits.IMAGES, 2),
    (SweepSpec(model="m", eps=(0.1, 0.2, 0.3)), limits.BUDGETS, 2),
    (CompareSpec(models=("m", "k"), eps=(0.1, 0.2)), limits.BUDGETS, 1),
]


@pytest.mark.parametrize(("task", "name", "most"), ASKED)
def test_what_asks_for_too_much_is_refused(
    task: Task, name: str, most: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the figures; one fewer is taken, and without a setting anything is."""
    limits.check(task, tmp_path)
    monkeypatch.setenv(name, f"{most + 1:g}")
    limits.check(task, tmp_path)
    monkeypatch.setenv(name, f"{most:g}")
    with pytest.raises(limits.OverLimit, match=rf"expected at most {most:g} .* got {most + 1:g}"):
        limits.check(task, tmp_path)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "many", "1e"])
@pytest.mark.parametrize("name", [limits.SECONDS, limits.MEMORY, limits.IMAGES, limits.BUDGETS, limits.STORE])
def test_a_limit_is_a_number_above_zero(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything else is said, not taken for no limit."""
    monkeypatch.setenv(name, text)
    with pytest.raises(ValueError, match=rf"{name}: expected a number above 0, got '{text}'"):
        limits.limit(name)


def test_strangers_have_limits_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting of its own goes before them."""
    assert all(limits.limit(name) == float("inf") for name in (*limits.PUBLIC, limits.MEMORY))
    monkeypatch.setenv(access.PUBLIC, "1")
    assert {name: limits.limit(name) for name in limits.PUBLIC} == limits.PUBLIC
    monkeypatch.setenv(limits.SECONDS, "7")
    assert limits.limit(limits.SECONDS) == 7


def test_a_full_store_takes_no_other_job(
    tmp_path: Path, toys: Callable[..., queue.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there is still found; no job is left of what was refused."""
    done = until(toys(), "done", tmp_path)
    monkeypatch.setenv(limits.STORE, f"{(limits.size(tmp_path) - 1) / 2**30}")
    with pytest.raises(limits.OverLimit, match="the store is full"):
        toys(MODEL.model_copy(update={"seed": 7}))
    assert toys().id == done.id
    assert len(queue.jobs(tmp_path)) == 1


@pytest.mark.parametrize("misdeed", ["hold", pytest.param("silent", marks=posix)])
def test_a_job_that_runs_too_long_is_stopped(tmp_path: Path, toys: Callable[..., queue.Job], misdeed: str) -> None:
    """At its next progress, or without any; it says so, and the next job runs."""
    late = until(toys(misdeed=misdeed, **{limits.SECONDS: "0.5"}), "failed", tmp_path)
    assert "as long as a job may here" in late.message
    assert until(toys(MODEL.model_copy(update={"seed": 7})), "done", tmp_path).artifacts


@linux
def test_a_job_that_wants_too_much_memory_fails_by_itself(tmp_path: Path, toys: Callable[..., queue.Job]) -> None:
    """In a sentence, before the machine has none left."""
    greedy = until(toys(misdeed="greedy", **{limits.MEMORY: "4"}), "failed", tmp_path)
    assert greedy.message == "It needs more memory than the 4 GiB that it may have."
