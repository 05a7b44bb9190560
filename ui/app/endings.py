"""The end of a job is announced, once, to everybody who saw it run, and its answer is brought into view."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import streamlit as st

from core.jobs import queue
from core.specs import Task
from core.storage import store
from ui.app import routes

_PAGE, _SEEN, _ENDED, _ARRIVED = "_page", "_jobs_seen", "_jobs_ended", "_jobs_arrived"


class Ended(NamedTuple):
    """A job that is done and whose answer was not looked at yet: its id, what it was, and the page that shows it."""

    job_id: str
    text: str
    page: str


def enter(page: str) -> None:
    """Say which page is on show. Call it first in a run."""
    st.session_state[_PAGE] = routes.name_of(page)


def page_on_show() -> str:
    """Url path of the page on show; "" outside the dashboard, as in a page that is run alone."""
    return str(st.session_state.get(_PAGE, ""))


def seen(job_id: str, *, here: bool = True) -> None:
    """Note that this session has seen a job run; `here`: the page on show is the one that shows its answer."""
    known: dict[str, str] = st.session_state.setdefault(_SEEN, {})
    if here or job_id not in known:
        known[job_id] = page_on_show() if here else ""


def announce(live: Iterable[str], describe: Callable[[Task], tuple[str, str]]) -> list[Ended]:
    """Say of each job that has ended since the last run how it did; returns those whose answer is on another page.

    Args:
        live: ids of the jobs that run now; from now on this session has seen them.
        describe: what a task is, and on what, in a few words.
    """
    running = set(live)
    for job_id in running:
        seen(job_id, here=False)
    known: dict[str, str] = st.session_state[_SEEN] if running else st.session_state.get(_SEEN, {})
    ended: list[Ended] = st.session_state.setdefault(_ENDED, [])
    for job_id in [job_id for job_id in known if job_id not in running]:
        page = known.pop(job_id)
        try:
            job = queue.read(job_id, store.default_root())
        except ValueError:  # it was dismissed
            continue
        if job.live:  # it was submitted this moment
            known[job_id] = page
            continue
        text = " · ".join(describe(job.task))
        if job.state == "done":
            st.toast(f"Done: {text}", icon=":material/check_circle:", duration="long")
            if page:
                ended.append(Ended(job_id, text, page))
        elif job.state != "cancelled":
            st.toast(f"Not done: {text}. The page says why.", icon=":material/error:", duration="long")
    here = page_on_show()
    for one in ended:
        if one.page == here:
            st.session_state[_ARRIVED] = one
    st.session_state[_ENDED] = [one for one in ended if one.page != here]
    return list(st.session_state[_ENDED])


def arrived() -> str | None:
    """Id of the job whose answer the page on show has just got; None where there is none."""
    last: Ended | None = st.session_state.get(_ARRIVED)
    return last.job_id if last is not None and last.page == page_on_show() else None
