"""A public server's pages: whose jobs a visitor changes, how many at a time, whose notes the exercises show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core import access, specs
from core.exercises import notes
from core.jobs import queue
from tests.pages.sweeps import texts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pages.conftest import Lab

SWEEP = "epsilon_sweep"
ME = "this visitor"


@pytest.fixture(params=[True, False], ids=["public", "private"])
def public(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether strangers use the server."""
    monkeypatch.setenv(access.PUBLIC, "1" if request.param else "")
    return bool(request.param)


def test_a_job_of_another_session_is_seen_and_not_touched(lab: Lab, public: bool) -> None:
    """It has its progress, or how it ended, and for strangers no button and no log."""
    model = lab.model()
    task = specs.CompareSpec(models=(model.id,), attacks=("pgd",), eps=(0.0, 0.1), n=100)
    job = lab.job(
        task, "failed", message="OSError: [Errno 28] No space left on device: '/home/ann/store/x'", log="/home"
    )
    query = {"epsilon_sweep_models": [model.id], "epsilon_sweep_eps": "0 0.1", "epsilon_sweep_n": "100"}
    app = lab.open(SWEEP, **query)
    keys = [button.key for button in app.button]
    assert (f"{SWEEP}_dismiss_{job}" in keys, f"{SWEEP}_retry_{job}" in keys) == (not public, not public)
    said = texts(app)
    assert "No space left" in said
    assert ("/home/ann" in said) == (not public)
    assert bool(app.code) == (not public)


def test_a_visitor_has_two_jobs_at_a_time(lab: Lab, public: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third is refused in a sentence, until one has ended; others' jobs do not count."""
    model = lab.model()
    live = [lab.job(specs.SweepSpec(model=model.id, n=n), "running", owner=of) for n, of in ((1, ME), (2, "other"))]
    lab.app.session_state["_visitor"] = ME
    app = lab.open(SWEEP, epsilon_sweep_models=[model.id])
    submitted: list[specs.Task] = []

    def submit(task: specs.Task, root: object = None, *, owner: str = "") -> queue.Job:
        submitted.append(task)
        return queue.read(live[0])

    monkeypatch.setattr(queue, "submit", submit)
    app.button(key=f"{SWEEP}_run").click().run()
    assert len(submitted) == 1
    lab.job(specs.SweepSpec(model=model.id, n=3), "running", owner=ME)
    app.button(key=f"{SWEEP}_run").click().run()
    assert len(submitted) == (1 if public else 2)
    assert ("at most 2 jobs" in texts(app)) == public


def test_a_job_is_of_whoever_made_it(lab: Lab, public: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for what another's job is doing already gets that job, and still may not stop it.

    The page offers no start while it sees such a job, so the job comes between the page and the click.
    """
    model = lab.model()
    lab.app.session_state["_visitor"] = ME
    app = lab.open(SWEEP, epsilon_sweep_models=[model.id])
    made: list[str] = []

    def somebody_was_quicker(task: specs.Task, root: Path, *, owner: str = "") -> queue.Job:
        made.append(lab.job(task, "running", owner="other"))
        found = submit(task, root, owner=owner)
        assert found.id == made[0]
        return found

    submit = queue.submit
    monkeypatch.setattr(queue, "submit", somebody_was_quicker)
    app.button(key=f"{SWEEP}_run").click().run()
    keys = {f"{SWEEP}_cancel_{made[0]}", f"sidebar_cancel_{made[0]}"}
    assert keys & {button.key for button in app.button} == (set() if public else keys)
    assert queue.read(made[0], lab.root).owner == "other"


def test_a_job_of_ones_own_is_stopped(lab: Lab, public: bool) -> None:
    """By the button in the sidebar, in either mode."""
    model = lab.model()
    job = lab.job(specs.SweepSpec(model=model.id), "running", owner=ME)
    lab.app.session_state["_visitor"] = ME
    app = lab.open("train")
    assert f"sidebar_cancel_{job}" in {button.key for button in app.button}


def test_notes_of_the_exercises_are_a_visitors_own(lab: Lab, public: bool) -> None:
    """On a public server neither read from the store nor written into it."""
    notes.change(lab.root, lambda kept: notes.answered(kept, "2.4", "somebody's answer"))
    app = lab.open("exercises", exercises_tab="2 Jacobian")
    key = "exercises_answer_2.4"
    box = app.text_area(key=key)
    assert box.value == ("" if public else "somebody's answer")
    box.set_value("mine").run()
    assert notes.read(lab.root)["answers"] == {"2.4": "somebody's answer" if public else "mine"}
    assert app.text_area(key=key).value == "mine"
