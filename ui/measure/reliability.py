"""How far the figures at one ε can be relied on: the checks of an evaluation at this very ε, and signs of weak attacks.

A verdict stands only beside figures of its own ε and its own images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import streamlit as st

from core import specs
from core.evaluation.tables.records import Record
from core.evaluation.trust.report import Trust
from core.storage import store
from ui.app import jobs, sources
from ui.form.select import select
from ui.measure import record_runs, record_views, sweep_notes, trust_views
from ui.measure.measured import Measured, trust_of
from ui.text import both, say


def section(measured: Measured, eps: float) -> None:
    """Draw the checks at this ε, reasons to doubt the curves, what the figures rest on, and forms that run more."""
    page, found, names = measured.page, measured.found, measured.names
    record_views.contradictions(page, found, names)
    record_views.weak(found, names, eps)
    bare = [names[model.id] for model in measured.models if model.id not in found]
    if bare:
        st.caption(f"Nothing was run in this norm yet: {', '.join(bare)}.")
    if found:
        show_trust(page, names, found, eps, measured.spec.data)
    if measured.curves:
        sweep_notes.remarks(measured.models, measured.curves)
    if any(isinstance(attack, specs.Fgsm) for attack in measured.spec.attacks):
        sweep_notes.plain_loops()
    if found:
        record_views.rests_on(page, found, names)
    record_runs.find_more(page, measured.models, found, measured.norm, measured.spec.data, eps)


def show_trust(
    page: str, names: Mapping[str, str], found: Mapping[str, Record], eps: float, data: specs.DataSpec | None = None
) -> None:
    """Draw the reliability checks of one model: those of an evaluation at exactly this ε on the images shown.

    Where there is none, that is said, with a button that makes them: what the checks of another ε say is not about the
    figures at this one.
    """
    judged = {model: made[0] for model, record in found.items() if (made := record.judged(eps))}
    if judged:
        chosen = select(page, "trust_of", "Reliability checks of", list(judged), text=names.__getitem__, kind="list")
        look, record = judged[chosen], found[chosen]
        report = Trust.from_json(look.trust or {})
        st.caption(
            f"Checks of the evaluation with {look.effort.replace('_', ' ')} effort at ε = {both(eps)} in "
            f"{say(record.norm)}, on these {len(record):,} images."
        )
        trust_views.show_trust(report, key=f"{page}_trust")
        _older(page, chosen, look.id, data)
    bare = {model: record for model, record in found.items() if model not in judged and eps > 0}
    if bare:
        unjudged(page, names, bare, eps, data)


def _older(page: str, model: str, result: str, data: specs.DataSpec | None) -> None:
    """Say where an evaluation was made by another schedule of attacks than the present one, and offer that one."""
    from core.evaluation.robust.edition import remark  # imports torch: not before there is an evaluation to speak of

    made = [one for one in sources.results(model, "evaluate", data=data) if one.id == result]
    text = remark(made[0].card) if made else ""
    if not text:
        return
    spec = made[0].spec()
    assert isinstance(spec, specs.EvaluateSpec)
    seeds = (spec.model_copy(update={"seed": seed}) for seed in count(spec.seed + 1))
    again = next(new for new in seeds if store.located(new, store.default_root()) is None)
    st.caption(text)
    if st.button(
        "Evaluate by the present schedule",
        icon=":material/refresh:",
        key=f"{page}_present_schedule",
        help=f"With seed {again.seed}, at the same ε, on the same images. Both evaluations count: an image is fooled "
        "where either fools it.",
    ):
        jobs.start(again)


def unjudged(
    page: str, names: Mapping[str, str], bare: Mapping[str, Record], eps: float, data: specs.DataSpec | None = None
) -> None:
    """Explain that there are no reliability checks at this ε, and offer the evaluation that makes them."""
    others = sorted({look.eps for one in bare.values() for look in one.looks if look.trust and look.eps is not None})
    overtaken = [names[model] for model, one in bare.items() if one.checked(eps)]
    if overtaken:
        st.warning(
            f"{', '.join(overtaken)}: other searches fooled images within ε = {eps:g} that the evaluation did not "
            "fool. Its reliability checks are about the higher accuracy that it reported, so they are not shown here. "
            "Evaluate with a higher effort level.",
            icon=":material/warning:",
        )
    bare = {model: one for model, one in bare.items() if not one.checked(eps)}
    if not bare:
        return
    record = next(iter(bare.values()))
    counts = sorted({len(one) for one in bare.values()})
    images = f"these {counts[0]:,} images" if len(counts) == 1 else "the images shown"
    where = f" Evaluations with checks exist at ε = {', '.join(f'{value:g}' for value in others)}." if others else ""
    asked = [_evaluation(model, one, eps, data) for model, one in bare.items()]
    wanted = [spec for spec in asked if spec is not None]
    command = f" Command: `{_command(wanted[0])}`." if wanted else ""
    st.info(
        f"No reliability checks at ε = {eps:g} in {say(record.norm)} on {images} for "
        f"{', '.join(names[model] for model in bare)}: nothing is said about how far to trust the figures at this ε."
        f"{where}{command}",
        icon=":material/info:",
    )
    missing = [spec for spec in wanted if store.located(spec, store.default_root()) is None]
    if missing and st.button(
        f"Evaluate and check at ε = {eps:g}", icon=":material/shield:", key=f"{page}_judge", type="secondary"
    ):
        jobs.start(*missing)


def _evaluation(model: str, record: Record, eps: float, data: specs.DataSpec | None) -> specs.EvaluateSpec | None:
    """The evaluation whose checks would be about these images; None if such a spec is invalid."""
    try:
        return specs.EvaluateSpec(model=model, data=data, norm=record.norm, eps=eps, n=len(record))
    except ValueError:
        return None


def _command(spec: specs.EvaluateSpec) -> str:
    return f"python -m core evaluate --model {spec.model} --norm {spec.norm} --eps {spec.eps!r} --n {spec.n}"


def warn(measured: Measured, eps: float) -> None:
    """Name the models whose figures at this ε must not be used, and why."""
    for model, record in measured.found.items():
        report = trust_of(record, eps)
        if report is not None and report.warning:
            st.error(
                f"**Do not use the figures of {measured.names[model]}** at ε = {report.eps:g}. {report.warning}",
                icon=":material/cancel:",
            )


@dataclass(frozen=True)
class Judged:
    """What the checks of a stored evaluation say, and what is to be said of its schedule of attacks, else ""."""

    report: Trust
    older: str


def reports_of(model: str, norm: str, data: specs.DataSpec | None = None) -> list[Judged]:
    """The reliability checks of a model's evaluations in this norm, newest first."""
    from core.evaluation.robust.edition import remark  # imports torch: only where evaluations are exported

    cards = [result.card for result in sources.results(model, "evaluate", data=data)]
    return [
        Judged(Trust.from_json(card["trust"]), remark(card))
        for card in cards
        if card.get("norm") == norm and card.get("trust")
    ]


def trust_lines(judged: Mapping[str, Sequence[Judged]]) -> list[str]:
    """The verdict of the reliability checks of each evaluation in a line, for exports."""
    lines = []
    for model, made in judged.items():
        for one in made:
            said = (f"{one.report.line()}.", one.report.left_to_find(), one.older)
            about = f"model {model} · evaluation at ε {one.report.eps:g} · "
            lines.append(about + " ".join(filter(None, said)).rstrip("."))
    return lines
