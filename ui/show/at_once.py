"""The result of a small task on the page at once: the stored one, or one made in this process and kept in memory."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core import specs
from core.data import folder
from core.jobs import at_once
from core.storage import store
from ui.app import jobs, sources
from ui.show import elements

SECONDS = 10.0
"""Time limit of a run in this process; what takes longer is offered as a job."""


def result(page: str, task: specs.ModelTask | None, *, name: str = "attack") -> store.Artifact | None:
    """Return the result of a task that takes a moment; None where there is none, which the page then explains.

    Args:
        page: url path of the page.
        task: what is wanted; None, for settings that were refused, draws nothing.
        name: second half of the key of the button that is offered where the run takes too long.
    """
    if task is None:
        return None
    found = sources.artifact(task)
    if found is not None:
        return found
    if jobs.is_live(task):
        jobs.panel(page, task)
        return None
    try:
        with st.spinner("Attacking …", show_time=True):
            made = _made(task.artifact_name(), store.default_root(), task, SECONDS)
    except (ValueError, OSError, store.DamagedArtifact, folder.DataMissing) as error:
        elements.failed("The attack could not be run.", error)
        return None
    if made is None:
        st.warning(
            f"This attack takes longer than {SECONDS:g} s here. It can run in the background.",
            icon=":material/hourglass_top:",
        )
        jobs.offer(page, task, "Run it in the background", name=f"{name}_in_background")
    return made


@st.cache_resource(max_entries=128, ttl=1800, show_spinner=False)
def _made(name: str, root: Path, _task: specs.ModelTask, _seconds: float) -> store.Artifact | None:
    """The answer; None, which is remembered too, where it takes too long."""
    try:
        return at_once.answer(_task, root, seconds=_seconds)
    except at_once.TooLong:
        return None
