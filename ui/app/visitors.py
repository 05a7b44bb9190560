"""Who may stop, repeat and remove a job: on a public server, only whoever started it.

That is the person who signed in, in whatever session; where nobody signs in, the session.
"""

from __future__ import annotations

import secrets

import streamlit as st

from core import access
from core.jobs import queue
from core.storage import store
from ui.app import signin

_ME = "_visitor"
MOST = 2
"""Jobs of one visitor of a public server that wait or run at a time."""


def me() -> str:
    """Whose the jobs of this visitor are."""
    person = signin.person()
    if person:
        return person
    if _ME not in st.session_state:
        st.session_state[_ME] = secrets.token_hex(16)
    return str(st.session_state[_ME])


def may_change(job: queue.Job) -> bool:
    """Whether the visitor may cancel, repeat and dismiss a job."""
    return not access.is_public() or job.owner == me()


def check_room() -> None:
    """Refuse another job of a visitor who has as many as a public server allows. Raises ValueError."""
    if not access.is_public():
        return
    live = [job.id for job in queue.jobs(store.default_root()) if job.live and job.owner == me()]
    if len(live) >= MOST:
        raise ValueError(f"expected at most {MOST} jobs of a visitor at a time; wait for one to end, or cancel it")
