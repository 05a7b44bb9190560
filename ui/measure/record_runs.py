"""Forms that run more on several models: smallest changes (radii), or the strongest evaluation at one ε."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from core import specs
from core.evaluation.tables.records import Record
from core.jobs import queue
from core.storage import store
from ui.app import jobs
from ui.form import controls
from ui.form.select import KEEP
from ui.text import counted, say


def find_more(page: str, models: Sequence[store.Artifact], found: Mapping[str, Record], norm: str) -> None:
    """Draw running jobs that add to the records, and forms that start more."""
    watch(page, [model.id for model in models], norm)
    bare = [model for model in models if not _has(found.get(model.id), norm, "radii")]
    text = "Radii: the smallest change of each image" + (f", missing for {len(bare)} of {len(models)}" if bare else "")
    with st.expander(text, icon=":material/straighten:", expanded=bool(bare) and not found):
        st.caption(
            "Several attacks look for the smallest change of each image within a budget of passes; interval bounds "
            "prove a radius where they can. From then on every ε is a lookup."
        )
        left, right = st.columns(2)
        with left:
            n = controls.field(page, specs.RadiiSpec, "n", key="radii_n")
        with right:
            budget = controls.field(page, specs.RadiiSpec, "budget", key="radii_budget")
        asked = [_spec("radii", model=model.id, norm=norm, n=n, budget=budget) for model in models]
        wanted = [spec for spec in asked if spec is not None and store.located(spec, store.default_root()) is None]
        label = f"Find the radii of {counted(len(wanted), 'model')} in {say(norm)}"
        if st.button(
            label if wanted else "All found with these settings",
            type="primary" if bare else "secondary",
            icon=":material/play_arrow:",
            key=f"{page}_radii_run",
            disabled=not wanted,
        ):
            jobs.start(*wanted)
    if "evaluate" in specs.TASKS:
        evaluation(page, models, norm)


def evaluation(page: str, models: Sequence[store.Artifact], norm: str) -> None:
    """Draw the form of the strongest evaluation at one ε."""
    cls = specs.TASKS["evaluate"]
    usual = {"linf": 0.3, "l2": 2.0, "l1": 20.0, "l0": 10.0}[norm]
    with st.expander("Strongest evaluation at one ε", icon=":material/shield:"):
        columns = st.columns(3)
        with columns[0]:
            most = specs.MAX_EPS[norm]
            eps = st.number_input("ε", 0.0, most, usual, format="%.6g", key=f"{page}_eval_eps_{norm}", **KEEP)
        with columns[1]:
            effort = controls.field(page, cls, "effort", key="eval_effort")
        with columns[2]:
            n = controls.field(page, cls, "n", key="eval_n")
        asked = [_spec("evaluate", model=model.id, norm=norm, eps=eps, effort=effort, n=n) for model in models]
        wanted = [spec for spec in asked if spec is not None and store.located(spec, store.default_root()) is None]
        label = f"Evaluate {counted(len(wanted), 'model')} at ε = {eps:g}"
        if st.button(
            label if wanted else "All evaluated with these settings",
            icon=":material/play_arrow:",
            key=f"{page}_eval_run",
            disabled=not wanted,
        ):
            jobs.start(*wanted)


def watch(page: str, models: Sequence[str], norm: str) -> None:
    """Draw the newest job of each task on these models in this norm, if it is running or has failed."""
    seen: set[str] = set()
    for job in queue.jobs(store.default_root()):
        if specs.task_name(job.task) not in ("radii", "evaluate", "certify"):
            continue
        if getattr(job.task, "norm", None) != norm or getattr(job.task, "model", None) not in models:
            continue
        if job.task.key() not in seen:
            seen.add(job.task.key())
            jobs.panel(page, job.task)


def _spec(task: str, **values: Any) -> specs.Task | None:
    return controls.build(specs.TASKS[task], **values)


def _has(record: Record | None, norm: str, task: str) -> bool:
    return record is not None and any(source.task == task and source.norm == norm for source in record.sources)
