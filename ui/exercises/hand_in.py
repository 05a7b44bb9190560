"""The lab report: what is in it, a look at it, and the file."""

from __future__ import annotations

import base64
from pathlib import Path

import streamlit as st

from core.exercises import sets
from core.exercises.evidence import Evidence, Stamp, stamp
from core.exercises.report import report
from core.storage import files, store
from ui.exercises import known as stored
from ui.form import bound
from ui.form.select import select_many


def show(page: str, known: Evidence) -> None:
    """Draw what goes into the report, the button that downloads it, and the report itself."""
    st.write(
        "One file with every item that is done: what was asked, your figures beside the published ones, charts, "
        "pictures, where each figure comes from, and your answers. It needs no connection, and you can print it."
    )
    first, second, third = st.columns([2, 2, 3], vertical_alignment="bottom")
    with first:
        author = st.text_input("Your name", key=f"{page}_author", max_chars=200, persist_state="session")
    with second:
        with_bundled = bound.toggle(
            "With bundled results",
            value=True,
            key=f"{page}_with_bundled",
            help="Also the items that only bundled results show; each is labelled. Off: only what you made.",
        )
    with third:
        numbers = select_many(page, "report_sets", "Sets", list(sets.SETS), default=list(sets.SETS), kind="pills")
    included = report.chosen(known, with_bundled=with_bundled, numbers=numbers)
    if not included:
        st.info("Nothing is done yet with these choices, so the report would be empty.", icon=":material/info:")
        return
    root = store.default_root()
    text = _made(root, stamp(root), files.to_jsonable(known.notes, "notes"), with_bundled, tuple(numbers), author)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Lab report",
            text,
            file_name="lab.html",
            mime="text/html",
            key=f"{page}_report",
            type="primary",
            icon=":material/download:",
            on_click="ignore",
        )
        st.caption(
            f"{len(included)} items: {', '.join(dict.fromkeys(item.row for item in included))}. "
            f"{len(text) / 1e6:.1f} MB."
        )
    # as an address of its own origin: nothing in it can reach the dashboard
    whole = base64.b64encode(text.encode()).decode()
    st.iframe(f"data:text/html;charset=utf-8;base64,{whole}", height=620, alt="The lab report")


@st.cache_data(max_entries=8, show_spinner="Writing the report …")
def _made(root: Path, stamp: Stamp, noted: object, with_bundled: bool, numbers: tuple[int, ...], author: str) -> str:
    return report.html(stored.of_store(), with_bundled=with_bundled, numbers=numbers, author=author)
