"""The bundled reference models: the table of all, the card of one, and a comparison of a model with one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from core import specs
from core.epsilon import same
from core.figures.robustness import from_clean_to_proven
from core.models import reference
from core.storage import bundled, store
from ui.app import jobs, sources
from ui.form.select import select
from ui.show import downloads, elements, model_names, model_rows
from ui.text import PERCENT, both, counted, eps_text, in_percent, literal, say

MEASURES = {
    "clean": "Clean",
    "pgd": "Under PGD",
    "proven": "Proven",
    "generator": "Generator attack, literal: success",
    "generator_strong": "Generator attack, strong: success",
}
"""Rows of a table of measurements in words."""

_SHARES = ("Test accuracy", "Under PGD", "Proven")
_COLUMNS: dict[str, Any] = {
    "Model": st.column_config.TextColumn(pinned=True),
    "Test accuracy": st.column_config.NumberColumn(format=PERCENT, help="Share of the test set, classified correctly"),
    "Under PGD": st.column_config.NumberColumn(
        format=PERCENT, help="Still classified correctly at ε in ℓ∞: 50 steps from each of 10 starts"
    ),
    "Proven": st.column_config.NumberColumn(format=PERCENT, help="Classified correctly whatever the change within ε"),
    "Training": st.column_config.TextColumn(help="Processor time, or the clock's where that is not known"),
}


def section(page: str) -> store.Artifact | None:
    """Draw the table of reference models; returns the one whose row is chosen, or None."""
    found = sources.references()
    if not found:
        return None
    titles = list(dict.fromkeys(model_names.data_of(model) for _, model in found))
    here = select(
        page,
        "data",
        "Data set",
        titles,
        default=max(titles, key=[model_names.data_of(model) for _, model in found].count),
        help="The models that are bundled with the program. They were trained and measured by its own code.",
    )
    found = [(one, model) for one, model in found if model_names.data_of(model) == here]
    names = model_names.short_names([model for _, model in found])
    figure = from_clean_to_proven([_shares(one, model, names[model.id]) for one, model in found])
    elements.chart(
        figure,
        key=f"{page}_bundled",
        alt="Accuracy of each model: on clean images, under PGD at the ε of the model, and proven at that ε",
    )
    frame = pd.DataFrame([_row(one, model, names[model.id]) for one, model in found]).dropna(axis=1, how="all")
    return model_rows.choose(
        f"{page}_references",
        frame,
        [model for _, model in found],
        key=f"{page}_references",
        columns=_COLUMNS,
        shares=_SHARES,
        height=320,
        alt="Bundled models and what was measured of them",
        name="reference_models",
        provenance=f"{len(frame)} bundled models of Adversarial Lab; PGD: 50 steps, 10 restarts, ℓ∞",
        opens="card and measurements",
    )


def _shares(one: reference.Reference, model: store.Artifact, name: str) -> dict[str, Any]:
    measured = model.card.get("reference", {}).get("measured", {})
    return {
        "name": name,
        "eps": both(measured.get("eps", one.eps)),
        "clean": model.card.get("metrics", {}).get("test_accuracy"),
        "attacked": measured.get("pgd"),
        "proven": measured.get("proven"),
    }


def _row(one: reference.Reference, model: store.Artifact, name: str) -> dict[str, Any]:
    card = model.card
    measured = card.get("reference", {}).get("measured", {})
    return {
        "Model": name,
        "Test accuracy": card.get("metrics", {}).get("test_accuracy"),
        "ε": eps_text(measured.get("eps", one.eps)),
        "Under PGD": measured.get("pgd"),
        "Proven": measured.get("proven"),
        "Network": say(one.spec.network) + (", single output" if one.spec.scalar else ""),
        "Recipe": one.spec.recipe.label(),
        "Training": _cost(card),
        "What it is for": one.purpose,
        "Name for commands": one.name,
        "Id": model.id,
    }


def _cost(card: Mapping[str, Any]) -> str:
    timing = card.get("timing", {})
    seconds = timing.get("cpu_seconds") if card.get("device", "cpu") == "cpu" else None
    seconds = seconds or timing.get("seconds")
    return "" if seconds is None else jobs.duration(seconds)


# ---------------------------------------------------------------- one model


def card(page: str, model: store.Artifact) -> None:
    """Draw what a reference model is for, how it was made, and what was measured; nothing for other models."""
    one, facts = reference.of(model), model.card.get("reference")
    if one is None or not bundled.is_copy(model.card) or facts is None:
        return
    st.markdown(f"**Reference model `{one.name}`.** {one.purpose}")
    try:
        measured = model.table("measurements")
    except store.DamagedArtifact as damage:
        st.error(literal(damage), icon=":material/error:")
        return
    frame = measurements(measured)
    st.dataframe(
        in_percent(frame, ("Share", "95 % from", "to")),
        hide_index=True,
        placeholder="–",
        column_config={
            "Share": st.column_config.NumberColumn(format=PERCENT),
            "95 % from": st.column_config.NumberColumn(format=PERCENT, help="Clopper–Pearson interval, 95 %"),
            "to": st.column_config.NumberColumn(format=PERCENT),
            "n": st.column_config.NumberColumn(format="localized", help="Test images"),
            "Evaluations": st.column_config.NumberColumn(
                format="localized", help="Model evaluations (forward and backward passes) per image, on average"
            ),
            "Median ℓ2": st.column_config.NumberColumn(format="%.3f", help="Of the successes"),
            "Median ℓ∞": st.column_config.NumberColumn(format="%.3f", help="Of the successes"),
        },
        height=elements.table_height(len(frame)),
        alt=f"Measurements of {one.name}",
    )
    downloads.table(
        f"{page}_measured",
        frame,
        name=f"{one.name}_measurements",
        provenance=f"{one.name}, model {model.id}, {sources.data_title(one.spec.data)} test set",
    )
    st.caption(" ".join(made_of(model.card)))


def measurements(table: pd.DataFrame) -> pd.DataFrame:
    """The table of measurements with titles for people; empty columns are dropped."""
    frame = pd.DataFrame(
        {
            "Measured": [MEASURES.get(name, name) for name in table["measure"]],
            "ε": ["" if math.isnan(eps) else eps_text(eps) for eps in table["eps"]],
            "Share": table["value"],
            "95 % from": table["low"],
            "to": table["high"],
            "n": table["n"],
            "Median ℓ2": table["median_l2"],
            "Median ℓ∞": table["median_linf"],
            "Evaluations": (table["forwards"] + table["backwards"]).round(),
            "Settings": table["settings"],
        }
    )
    return frame.dropna(axis=1, how="all")


def made_of(card: Mapping[str, Any]) -> list[str]:
    """Sentences on how a reference model was made: time, threads, machine, precision of the weights, the command."""
    facts, timing = card["reference"], card["timing"]
    threads = card.get("threads")
    cpu = timing.get("cpu_seconds")
    said = [f"Trained in {jobs.duration(timing['seconds'])}"]
    if cpu is not None:
        said.append(f" ({jobs.duration(cpu)} of processor time)")
    if threads:
        said.append(f" with {counted(threads, 'thread')}")
    if card.get("machine"):
        said.append(f" on {card['machine']}")
    differ, n = facts["predictions_that_differ"], card["metrics"]["test_n"]
    in_half = f"{differ} of {n:,} test predictions"
    return [
        "".join(said) + ".",
        f"Weights in float16: {in_half} differ from those in float32."
        if facts["weights_dtype"] == "float16"
        else f"Weights in float32: in float16 {in_half} would differ.",
        f"`python -m core reference {facts['name']} --make` makes it anew.",
    ]


# ---------------------------------------------------------------- beside another


def beside(page: str, model: store.Artifact) -> None:
    """Draw a model beside the reference model of the same kind: accuracies, cost, and what may not be compared."""
    spec = sources.model_spec(model)
    other = sources.counterpart(spec) if isinstance(spec, specs.TrainSpec) else None
    if other is None or other.folder == model.folder or bundled.is_copy(model.card):
        return  # a reference model is of no other's kind
    name = other.card.get("reference", {}).get("name", other.id)
    st.markdown(f"**Beside the reference model of the same kind, `{name}`**")
    rows = [_beside("this model", model), _beside(name, other)]
    st.dataframe(
        in_percent(pd.DataFrame(rows).dropna(axis=1, how="all"), ("Test accuracy", "Robust", "Proven")),
        hide_index=True,
        column_config={
            "Test accuracy": st.column_config.NumberColumn(format=PERCENT),
            "Robust": st.column_config.NumberColumn(
                format=PERCENT, help="Validation images classified correctly under PGD with 10 steps, at ε in ℓ∞"
            ),
            "Proven": st.column_config.NumberColumn(format=PERCENT, help="Of the validation images, by bounds"),
            "n (robust)": st.column_config.NumberColumn(format="localized"),
            "Seconds": st.column_config.NumberColumn(format="%.1f", help="Of training, by the clock"),
            "Processor": st.column_config.NumberColumn(format="%.1f s", help="Of training, all threads together"),
        },
        height=elements.table_height(len(rows)),
        key=f"{page}_beside",
        alt=f"This model beside {name}",
    )
    said = compared(model, other)
    if said:
        st.caption(said)


def _beside(name: str, model: store.Artifact) -> dict[str, Any]:
    spec, metrics, timing = model.spec(), model.card["metrics"], model.card["timing"]
    assert isinstance(spec, specs.TrainSpec)
    eps = metrics.get("robust_eps")
    return {
        "Model": name,
        "Network": say(spec.network),
        "Recipe": spec.recipe.label(),
        "Epochs": spec.epochs,
        "Test accuracy": metrics["test_accuracy"],
        "Robust": metrics.get("robust_accuracy"),
        "at ε": None if eps is None else eps_text(eps),
        "n (robust)": metrics.get("robust_n"),
        "Proven": metrics.get("certified_accuracy"),
        "Seconds": timing["seconds"],
        "Processor": timing.get("cpu_seconds"),
    }


def compared(model: store.Artifact, other: store.Artifact) -> str:
    """Sentences on the differences: beyond chance or not, comparable or not."""
    ours, theirs = model.card["metrics"], other.card["metrics"]
    change = ours["test_accuracy"] - theirs["test_accuracy"]
    apart = ours["test_low"] > theirs["test_high"] or ours["test_high"] < theirs["test_low"]
    said = [
        f"Test accuracy {abs(change):.2%} {'above' if change >= 0 else 'below'} the reference's"
        + ("." if apart else ": the 95 % intervals overlap.")
    ]
    budgets = (ours.get("robust_eps"), theirs.get("robust_eps"))
    if None not in budgets:
        if not same(*budgets):
            said.append("The robust accuracies are at different ε: they are not comparable.")
        else:
            robust = ours["robust_accuracy"] - theirs["robust_accuracy"]
            said.append(f"Robust accuracy {abs(robust):.1%} {'above' if robust >= 0 else 'below'}.")
    if model.card.get("machine") != other.card.get("machine"):
        said.append("Trained on different machines: the times are not comparable.")
    return " ".join(said)
