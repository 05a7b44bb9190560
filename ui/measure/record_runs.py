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
from ui.text import counted, say


def find_more(
    page: str,
    models: Sequence[store.Artifact],
    found: Mapping[str, Record],
    norm: str,
    data: specs.DataSpec | None,
    eps: float,
) -> None:
    """Draw forms that start jobs which add to the records; an evaluation is offered at this ε."""
    bare = [model for model in models if not _has(found.get(model.id), norm, "radii")]
    text = "Radii: the smallest change of each image" + (f", missing for {len(bare)} of {len(models)}" if bare else "")
    with st.expander(text, icon=":material/straighten:"):
        st.caption(
            "Several attacks look for the smallest change of each image within a budget of model evaluations; bounds "
            "prove a radius where they can. From then on every ε is a lookup."
        )
        left, right = st.columns(2)
        with left:
            n = controls.field(page, specs.RadiiSpec, "n", key="radii_n")
        with right:
            budget = controls.field(page, specs.RadiiSpec, "budget", key="radii_budget")
        asked = [_spec("radii", model=model.id, data=data, norm=norm, n=n, budget=budget) for model in models]
        _button(
            page,
            "radii_run",
            asked,
            "Find the radii of {} in " + say(norm),
            "All found with these settings",
            bool(bare),
        )
    if eps > 0:
        evaluation(page, models, norm, data, eps)


def evaluation(page: str, models: Sequence[store.Artifact], norm: str, data: specs.DataSpec | None, eps: float) -> None:
    """Draw the form of the strongest evaluation at one ε."""
    with st.expander(f"Strongest evaluation at ε = {eps:g}", icon=":material/shield:"):
        columns = st.columns(2)
        with columns[0]:
            effort = controls.field(page, specs.EvaluateSpec, "effort", key="eval_effort")
        with columns[1]:
            n = controls.field(page, specs.EvaluateSpec, "n", key="eval_n")
        asked = [
            _spec("evaluate", model=model.id, data=data, norm=norm, eps=eps, effort=effort, n=n) for model in models
        ]
        _button(page, "eval_run", asked, f"Evaluate {{}} at ε = {eps:g}", "All evaluated with these settings", False)


def _button(page: str, name: str, asked: Sequence[specs.Task | None], text: str, done: str, primary: bool) -> None:
    """A button that starts those of the tasks that are not stored; `text` has their number at {}."""
    wanted = [spec for spec in asked if spec is not None and store.located(spec, store.default_root()) is None]
    if st.button(
        text.format(counted(len(wanted), "model")) if wanted else done,
        type="primary" if primary else "secondary",
        icon=":material/play_arrow:",
        key=f"{page}_{name}",
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
