"""Start a job from a spec, show its progress, cancel it, and report how it ended."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Literal

import streamlit as st

from core import access, specs
from core.data import folder
from core.jobs import queue
from core.storage import store
from ui.app import endings, sources, visitors
from ui.text import literal, say, sentence_case

POLL = 0.5
"""Seconds between two looks at a live job."""

_SAY = {
    "starting": "Starting",
    "waiting": "Waiting for the device: another job is on it",
    "loading": "Loading PyTorch",
    "running": "Running",
    "done": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "dead": "Crashed",
}


def start(*tasks: specs.Task) -> None:
    """Submit the tasks and draw the page anew; one that is running, or whose result is stored, is not run again."""
    try:
        for task in tasks:
            visitors.check_room()
            endings.seen(queue.submit(task, store.default_root(), owner=visitors.me()).id)
    except (ValueError, OSError, folder.DataMissing) as error:
        st.error(f"The job could not be started: {literal(error)}", icon=":material/error:")
        return
    st.rerun()


def result(
    page: str,
    task: specs.Task,
    *,
    asked: bool = False,
    empty: str = "",
    icon: str = ":material/info:",
) -> store.Artifact | None:
    """Return the stored result of a task, or None and show its job.

    Args:
        page: url path of the page.
        task: what is wanted.
        asked: start it where there is no result.
        empty: what is said where nothing is stored and no job is there; nothing by default.
        icon: beside that sentence.
    """
    found = sources.artifact(task)
    if found is not None:
        return found
    if asked:
        start(task)
    if idle(page, task) and empty:
        st.info(empty, icon=icon)
    return None


def idle(page: str, task: specs.Task, *, live: Callable[[queue.Job], None] | None = None) -> bool:
    """Draw the job of a task that has no stored result, as `panel` does; returns whether there is none to draw.

    That is so where the task was never submitted, and where its job is done but its result was removed from the store.
    """
    job = panel(page, task, live=live)
    return job is None or job.state == "done"


def offer(page: str, task: specs.Task, text: str, *, name: str, primary: bool = True) -> None:
    """Draw the job of a task, and a button (key `<page>_<name>`) that starts it where none is running."""
    job = panel(page, task)
    kind: Literal["primary", "secondary"] = "primary" if primary else "secondary"
    if (job is None or not job.live) and st.button(text, type=kind, icon=":material/play_arrow:", key=f"{page}_{name}"):
        start(task)


def is_live(task: specs.Task) -> bool:
    """Whether a job for this task is waiting or running."""
    job = of(task)
    return job is not None and job.live


def of(task: specs.Task) -> queue.Job | None:
    """The newest job for this task, running or ended; None if the task was never submitted."""
    root = store.default_root()
    task = store.normal(task, root)
    return next((job for job in queue.jobs(root) if job.task == task), None)


def panel(page: str, task: specs.Task, *, live: Callable[[queue.Job], None] | None = None) -> queue.Job | None:
    """Draw the state of this task's newest job and follow it while it runs; the page is drawn again once when it ends.

    Args:
        page: url path of the page; the panel's keys begin with it.
        task: what was asked for.
        live: draws more while the job runs, such as curves from `job.history` or pictures from `job.snapshot()`.

    Returns:
        The job as it was when the page was drawn: None where there is none. A job that is done draws nothing, its
        artifact speaks; a failed, dead or cancelled one says so with its log and a way to retry.
    """
    job = of(task)
    if job is None or job.state == "done":
        return job
    if job.live:
        endings.seen(job.id)
        _watch(page, job.id, live)
    else:
        ended(page, job)
    return job


@st.fragment(run_every=POLL)
def _watch(page: str, job_id: str, live: Callable[[queue.Job], None] | None) -> None:
    job = queue.read(job_id, store.default_root())
    if not job.live:
        st.rerun()  # once: the page drawn anew has no fragment for an ended job
    with st.container(border=True, key=f"{page}_job_{job.id}"):
        bar, button = st.columns([5, 1], vertical_alignment="center")
        with bar:
            st.progress(fraction(job), text=progress_text(job))
        with button:
            key = f"{page}_cancel_{job.id}"
            if visitors.may_change(job) and st.button(
                "Cancel", icon=":material/stop_circle:", key=key, width="stretch"
            ):
                queue.cancel(job.id, store.default_root())
        if job.metrics:
            st.caption(metrics_text(job))
        if live is not None and job.state == "running" and job.history:
            live(job)


def ended(page: str, job: queue.Job) -> None:
    """Report how a job ended that has no result: one sentence, the log folded, buttons to retry and to dismiss it."""
    more, message = "", access.without_places(job.message)
    state = store.unfinished(job.task, store.default_root())
    resumes = state.is_file()
    if job.state == "cancelled":
        kept = "its progress is kept" if resumes else "nothing was saved"
        st.info(f"Cancelled after {duration(job.seconds)}; {kept}.", icon=":material/cancel:")
    elif job.state == "dead":
        st.error(f"The job crashed after {duration(job.seconds)}. {literal(message)}", icon=":material/error:")
    else:
        said, more = _first_sentence(message)
        st.error(f"The job failed. {literal(said)}", icon=":material/error:")
    log = "" if access.is_public() else job.log_tail  # it names places, and is for whoever keeps the server
    if log or more:
        with st.expander("Details and the end of its log", icon=":material/description:"):
            if more:
                st.write(literal(more))
            if log:
                st.code(log, language=None)
    if not visitors.may_change(job):
        return
    with st.container(horizontal=True):
        again = "Resume" if resumes else "Run it again"
        if st.button(again, icon=":material/refresh:", key=f"{page}_retry_{job.id}"):
            queue.forget(job.id, store.default_root())
            start(job.task)
        if st.button("Dismiss", icon=":material/close:", key=f"{page}_dismiss_{job.id}", type="tertiary"):
            queue.forget(job.id, store.default_root())
            state.unlink(missing_ok=True)
            st.rerun()


def _first_sentence(message: str) -> tuple[str, str]:
    """Split a long message into its first sentence and the rest; the exception's name in front of it is dropped."""
    message = re.sub(r"^[A-Za-z_.]+(?:Error|Missing|Artifact): ", "", message)
    if len(message) <= 160 or ". " not in message:
        return message, ""
    first, _, rest = message.partition(". ")
    return f"{first}.", rest


@st.fragment(run_every=1.0)
def cards(job_ids: tuple[str, ...]) -> None:
    """Draw a card for each running job in the sidebar and follow them; call it only while a job is running."""
    for job_id in job_ids:
        job = queue.read(job_id, store.default_root())
        if not job.live:
            st.rerun()
        with st.container(border=True, key=f"sidebar_job_{job.id}", gap="xsmall"):
            what, on = describe(job.task)
            with st.container(
                horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", gap="xsmall"
            ):
                st.markdown(f"**{what}**", width="content")
                if visitors.may_change(job) and st.button("Cancel", key=f"sidebar_cancel_{job.id}", type="tertiary"):
                    queue.cancel(job.id, store.default_root())
            st.caption(on)
            st.progress(fraction(job), text=f":small[{progress_text(job)}]")


def live_jobs() -> list[queue.Job]:
    """The jobs that are running or waiting."""
    return [job for job in queue.jobs(store.default_root()) if job.live]


def fraction(job: queue.Job) -> float:
    """Share of the work done, in [0, 1]."""
    return min(1.0, max(0.0, job.done / job.total)) if job.total else 0.0


def metrics_text(job: queue.Job) -> str:
    """The last value of each metric, such as `loss 0.213 · train accuracy 0.934`; not the technical ones."""
    numbers = {
        name.replace("_", " "): value
        for name, value in job.metrics.items()
        if name not in ("lr", "seconds", "overfitted", "rolled_back", "stopped")
        and isinstance(value, int | float)
        and math.isfinite(value)
    }
    return " · ".join(f"{name} {value:.4g}" for name, value in numbers.items())


def progress_text(job: queue.Job) -> str:
    """The progress of a job in a line, such as `Epoch 2 · 1,200 of 3,000 · 12 s left`."""
    parts = [_SAY.get(job.state, job.state)]
    if job.state == "running":
        if job.phase:
            parts = [sentence_case(job.phase)]
        if job.total:
            parts.append(f"{job.done:,} of {job.total:,}")
        if job.eta is not None:
            parts.append(f"{duration(job.eta)} left")
    elif job.seconds:
        parts.append(duration(job.seconds))
    return " · ".join(parts)


def describe(task: specs.Task) -> tuple[str, str]:
    """A task in a few words: what is done, and on which model or data."""
    what, on = _described(task)
    if isinstance(task, specs.ModelSpec) or task.data is None:
        return what, on
    return what, f"{on}, images of {literal(sources.data_title(task.data))}"


def _described(task: specs.Task) -> tuple[str, str]:
    if isinstance(task, specs.TrainSpec):
        return f"Train {task.network}, {task.recipe.label()}", task.data.slug()
    if isinstance(task, specs.ImportSpec):
        return f"Import {task.label}", task.data.slug()
    if isinstance(task, specs.AttackSpec):
        return task.attack.title, task.model
    if isinstance(task, specs.SweepSpec):
        return f"Sweep, {task.attack.title}", task.model
    if isinstance(task, specs.UniversalSpec):
        return task.method.title, task.model
    if isinstance(task, specs.PatternSpec):
        return f"One pattern, {task.mask.shape}", task.model
    if isinstance(task, specs.EvaluateSpec):
        return f"Evaluate, {say(task.norm)}, ε = {task.eps:g}", task.model
    if isinstance(task, specs.RadiiSpec):
        return f"Radii, {say(task.norm)}", task.model
    if isinstance(task, specs.TransferSpec):
        return "Transfer matrix", f"{len(task.models)} models"
    if isinstance(task, specs.CertifySpec):
        return f"Certify, {task.method}", task.model
    return "Compare", f"{len(task.models)} models"


def duration(seconds: float) -> str:
    """A time span as people write it: `4 s`, `2 min 5 s`, `1 h 20 min`."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
