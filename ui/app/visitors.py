"""Who may stop, repeat and remove a job: on a public server, only the session that started it."""

from __future__ import annotations

import streamlit as st

from core import access
from core.jobs import queue
from core.storage import store

_STARTED = "_jobs_started"
MOST = 2
"""Jobs of one visitor of a public server that wait or run at a time."""


def started(job_id: str) -> None:
    """Note that this session has started a job."""
    st.session_state.setdefault(_STARTED, set()).add(job_id)


def may_change(job_id: str) -> bool:
    """Whether the visitor may cancel, repeat and dismiss a job."""
    return not access.is_public() or job_id in st.session_state.get(_STARTED, set())


def check_room() -> None:
    """Refuse another job of a visitor who has as many as a public server allows. Raises ValueError."""
    if not access.is_public():
        return
    mine = st.session_state.get(_STARTED, set())
    live = [job.id for job in queue.jobs(store.default_root()) if job.live and job.id in mine]
    if len(live) >= MOST:
        raise ValueError(f"expected at most {MOST} jobs of a visitor at a time; wait for one to end, or cancel it")
