"""What was found out about an imported model: its accuracy, what it is given, and every finding with its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from core import specs
from core.figures.imported import candidates
from core.storage import store
from ui.app import jobs
from ui.show import downloads, elements, provenance
from ui.text import counted, interval, sentence_case

MARKS = {"fine": "✓ fine", "note": "ℹ note", "doubt": "? doubt", "wrong": "✗ wrong"}
"""How a verdict is written: a sign and a word, never colour alone."""
MEANS = {
    "fine": "as it should be",
    "note": "worth knowing, and handled",
    "doubt": "figures may mislead: look at it",
    "wrong": "figures would be wrong",
}
_OUTPUTS = {
    "logits": "logits are taken as they are",
    "probabilities": "its probabilities become logarithms",
    "log_probabilities": "its log-probabilities are taken as logits",
    "score": "its one score becomes two logits",
    "probability": "its one probability becomes two logits",
}


def figures(model: store.Artifact) -> None:
    """Draw the accuracy on the test images with its interval, and how large the network is."""
    metrics, network, looked = model.card["metrics"], model.card["network"], model.card.get("looked_at", {})
    st.metric(
        "Test accuracy",
        f"{metrics['test_accuracy']:.2%}",
        help=f"Share of the {counted(metrics['test_n'], 'test image')} that are classified correctly. 95 % interval "
        "(Clopper–Pearson) below.",
    )
    st.caption(f"{interval(metrics['test_low'], metrics['test_high'])} (95 %)  \nn = {metrics['test_n']:,}")
    seconds = jobs.duration(model.card["timing"]["seconds"])
    examined = f"examined on {counted(looked['n'], 'image')}, " if looked.get("n") else ""
    st.caption(f"{network['parameters']:,} parameters  \n{examined}{seconds} on a {model.card['device'].upper()}")


def steps(framing: Mapping[str, Any]) -> list[str]:
    """What is done to an image in [0, 1] before the network, and to its answer, step by step in words."""
    made = specs.Framing.model_validate(framing)
    said = []
    if made.resize is not None:
        said.append(f"the shorter side is resized to {made.resize} pixels")
    if made.crop is not None:
        said.append(f"the central {made.crop} × {made.crop} pixels are cut out")
    if made.channels == "bgr":
        said.append("the colours are reversed (BGR)")
    if made.mean != (0.0,) or made.std != (1.0,):
        said.append(f"{_listed(made.mean)} is subtracted and the rest divided by {_listed(made.std)}")
    if made.layout == "nhwc":
        said.append("the colours come last (NHWC)")
    if made.shape is not None:
        said.append(f"it is reshaped to {' × '.join(map(str, made.shape))}")
    if not said:
        said.append("it is given as it is, pixels in [0, 1]")
    said.append(_OUTPUTS[made.outputs])
    if made.classes is not None and made.classes != tuple(range(len(made.classes))):
        said.append(f"output {', '.join(map(str, made.classes))} is taken for class 0 to {len(made.classes) - 1}")
    return said


def framing(model: store.Artifact) -> None:
    """Draw what stands between the images and the network."""
    st.markdown("**Between an image and the network**: " + "; ".join(steps(model.card["framing"])) + ".")


def tried(model: store.Artifact) -> tuple[list[str], list[float], int] | None:
    """The preprocessing that was tried: names, accuracies, and the place of the one that was taken.

    None where only one way was tried.
    """
    for finding in model.card["found"]:
        rows = [row for row in finding["rows"] if isinstance(row.get("accuracy"), int | float)]
        if finding["name"] == "normalisation" and len(rows) > 1:
            shares = [float(row["accuracy"]) for row in rows]
            marked = [place for place, row in enumerate(rows) if row.get("proposed") or row.get("chosen")]
            return [_name(row) for row in rows], shares, marked[0] if marked else shares.index(max(shares))
    return None


def chart(page: str, model: store.Artifact) -> bool:
    """Draw the accuracies of what was tried; returns whether there is anything to draw."""
    found = tried(model)
    if found is None:
        return False
    names, shares, chosen = found
    best = f"{names[chosen]}: {shares[chosen]:.1%}" if chosen >= 0 else "none of them"
    elements.chart(
        candidates(names, shares, chosen, chance=1 / max(2, len(model.card["class_names"]))),
        key=f"{page}_tried",
        alt=f"Accuracy behind each preprocessing that was tried. Taken is {best}",
        tools=False,
    )
    return True


def frame(found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row a finding: verdict, question, answer, what to do."""
    return pd.DataFrame(
        {
            "Verdict": [MARKS[finding["verdict"]] for finding in found],
            "What was looked at": [finding["title"] for finding in found],
            "Found": [finding["said"] for finding in found],
            "What to do": [finding.get("advice") or "" for finding in found],
        }
    )


def table(page: str, model: store.Artifact) -> None:
    """Draw the findings, the evidence behind them folded, and the downloads."""
    found = model.card["found"]
    rows = frame(found)
    verdicts = ", ".join(
        f"{count} {verdict}" for verdict in MARKS if (count := sum(one["verdict"] == verdict for one in found))
    )
    shown = rows if rows["What to do"].any() else rows.drop(columns="What to do")
    st.table(shown.map(_plain), hide_index=True, border="horizontal", alt=f"What was found out: {verdicts}")
    st.caption(" · ".join(f"{MARKS[verdict]}: {text}" for verdict, text in MEANS.items()))
    behind = [finding for finding in found if finding["rows"]]
    if behind:
        with st.expander("The evidence, row by row", icon=":material/fact_check:"):
            for finding in behind:
                st.markdown(f"**{finding['title']}**")
                evidence = pd.DataFrame(
                    [{_title(name): value for name, value in row.items()} for row in finding["rows"]]
                )
                st.dataframe(
                    evidence.map(_cell),
                    hide_index=True,
                    placeholder="–",
                    height=elements.table_height(len(evidence), 320),
                    key=f"{page}_found_{finding['name']}",
                    alt=f"Evidence: {finding['title']}",
                )
    downloads.table(page, rows, name="findings", provenance=provenance.of(model))


def _name(row: Mapping[str, Any]) -> str:
    """What a row tried, in words: its text columns."""
    named = next(
        (row[name] for name in ("name", "title", "normalisation", "candidate", "tried") if row.get(name)), None
    )
    if named is not None:
        return str(named)
    return ", ".join(str(value) for name, value in row.items() if isinstance(value, str)) or "as it is"


def _title(name: str) -> str:
    return sentence_case(name.replace("_", " "))


def _cell(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _plain(text: str) -> str:
    """Text for a cell that reads Markdown: signs that would mean something there are written as they are."""
    for sign in "\\*_[]`$~<:":
        text = text.replace(sign, f"\\{sign}")
    return text


def _listed(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.4g}" for value in values)
