"""The items of a set: what to do, the buttons that lead there, what is done, published figures beside yours."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from html import escape
from typing import Any

import streamlit as st

from core.exercises import notes, written
from core.exercises.evidence import Evidence, Reading
from core.exercises.items import SAY, ExerciseSet, Figure, Item, Status
from ui.app import routes
from ui.exercises import known as known_notes

LOOKS: dict[Status, tuple[str, Any]] = {
    "done": (":material/check:", "green"),
    "bundled": (":material/inventory_2:", "blue"),
    "open": (":material/radio_button_unchecked:", "gray"),
}


INLINE = 2
"""So many figures stand on the card; more are folded."""


def progress(one: ExerciseSet, known: Evidence) -> str:
    """How much of a set is done, in a sentence."""
    states = [item.status(known) for item in one.items]
    done, shown = states.count("done"), states.count("bundled")
    more = f", {shown} more with bundled results" if shown else ""
    return f"{done} of {len(states)} done{more}."


def key_figures(one: ExerciseSet, known: Evidence) -> None:
    """Draw the figures that a set is about: as published, and as in the store."""
    figures = [figure for item in one.items for figure in item.figures if figure.key]
    if figures:
        st.html(_table([(figure, figure.read(known)) for figure in figures], sources=True))


def show(page: str, one: ExerciseSet, known: Evidence) -> None:
    """Draw the items of a set, two in a row."""
    for start in range(0, len(one.items), 2):
        for column, item in zip(st.columns(2, gap="small"), one.items[start : start + 2], strict=False):
            with column, st.container(border=True, gap="xsmall", height="stretch"):
                card(page, item, known)


def card(page: str, item: Item, known: Evidence) -> None:
    """Draw one item: what to do; what is done; buttons; figures; and what to discuss, folded."""
    status = item.status(known)
    icon, colour = LOOKS[status]
    st.markdown(f"**{item.row} · {item.title}** :{colour}-badge[{icon} {SAY[status]}]  \n:small[{item.task}]")
    figures = [(figure, figure.read(known)) for figure in item.figures]
    if figures and len(figures) <= INLINE:
        st.html(_table(figures))
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        for place, link in enumerate(item.links):
            st.button(
                link.label,
                key=f"{page}_open_{item.name}_{place}",
                type="primary" if place == 0 else "secondary",
                icon=":material/arrow_forward:" if place == 0 else None,
                help=f"{routes.ROUTES[link.page].title}, with these settings",
                on_click=functools.partial(routes.go, link.page, **link.settings()),
            )
        if len(figures) > INLINE:
            with st.popover(f"{len(figures)} figures", type="tertiary", icon=":material/table_rows:"):
                st.html(_table(figures, sources=True))
        with st.popover("Discuss", type="tertiary", icon=":material/forum:"):
            _discuss(page, item, known, status)
        if item.by_hand:
            _tick(page, item, known)


STYLE = """<style>
.figures{border-collapse:collapse;width:100%;font-size:.78rem;line-height:1.25}
.figures caption{caption-side:bottom;text-align:left;opacity:.75;padding-top:.3rem}
.figures th,.figures td{padding:.12rem .35rem;border-bottom:1px solid rgba(128,140,160,.25);text-align:right;
vertical-align:top;font-variant-numeric:tabular-nums}
.figures th:first-child{text-align:left}.figures th{font-weight:600}.figures tbody th{font-weight:400}
.figures small{opacity:.75}.figures tbody th.group{font-weight:600;padding-top:.3rem}
</style>"""


def _table(rows: Sequence[tuple[Figure, Reading | None]], *, sources: bool = False) -> str:
    """Figures as a small table; `sources` says below it who published what."""
    lines, group = [], ""
    whose = {written.rests_on(reading) for _, reading in rows if reading is not None}
    for figure, reading in rows:
        before, _, name = figure.name.rpartition(": ")
        if before and before != group:
            lines.append(f'<tr><th scope="rowgroup" colspan="3" class="group">{escape(before)}</th></tr>')
        group = before
        value, _, between = written.read(figure, reading).partition(" [")
        notes = [f"[{between}"] if between else []
        notes += [written.rests_on(reading)] if reading is not None and len(whose) > 1 else []
        lines.append(
            f'<tr><th scope="row">{escape(name)}</th>'
            f'<td title="{escape(figure.source, quote=True)}">{escape(written.published(figure))}</td>'
            f"<td>{escape(value)} <small>{escape(', '.join(notes))}</small></td></tr>"
        )
    by = list(dict.fromkeys(figure.source for figure, _ in rows if figure.source)) if sources else []
    said = [f"Here: {whose.copy().pop()}."] if len(whose) == 1 else []
    said += [f"Published: {'; '.join(by)}. [95 % interval]; –: not known."] if by else []
    caption = f"<caption>{escape(' '.join(said))}</caption>" if said else ""
    head = '<tr><th scope="col">figure</th><th scope="col">published</th><th scope="col">here</th></tr>'
    return f'{STYLE}<table class="figures">{caption}<thead>{head}</thead><tbody>{"".join(lines)}</tbody></table>'


def _tick(page: str, item: Item, known: Evidence) -> None:
    key = f"{page}_tick_{item.name}"

    def keep() -> None:
        known_notes.note(functools.partial(notes.ticked, item=item.name, done=bool(st.session_state[key])))

    st.session_state[key] = bool(known.notes["ticked"].get(item.name))
    st.checkbox(
        "I have done this",
        key=key,
        on_change=keep,
        help=f"This item leaves no result in the store, so only you know. {known_notes.kept()}",
    )


def _discuss(page: str, item: Item, known: Evidence, status: Status) -> None:
    st.markdown("\n".join(f"- {question}" for question in item.discuss))
    key = f"{page}_answer_{item.name}"

    def keep() -> None:
        known_notes.note(functools.partial(notes.answered, item=item.name, text=str(st.session_state[key] or "")))

    if key not in st.session_state:
        st.session_state[key] = known.notes["answers"].get(item.name, "")
    st.text_area(
        "Your answer",
        key=key,
        on_change=keep,
        max_chars=notes.LONGEST,
        help=f"It goes into the lab report. {known_notes.kept()}",
    )
    if status != "done" and item.needs:
        st.caption(f"Done when this store has {'; '.join(item.missing(known))}, made by you.")
