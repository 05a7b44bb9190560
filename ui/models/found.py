"""What was found out about an imported model: its accuracy, what it is given, and every finding with its verdict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from core import specs
from core.figures.imported import candidates
from core.storage import store
from ui.app import jobs
from ui.show import downloads, elements, provenance
from ui.text import counted, interval, say, sentence_case

MARKS = {"fine": "✓ fine", "note": "ℹ note", "doubt": "? doubt", "wrong": "✗ wrong"}
"""How a verdict is written: a sign and a word, never colour alone."""
MEANS = {
    "fine": "as it should be",
    "note": "worth knowing, and handled",
    "doubt": "figures may mislead: look at it",
    "wrong": "figures would be wrong",
}
SHOWN = 8
"""Bars of what was tried at most."""
OTHERS = 3
"""Other readings on offer of one finding at most."""
_FRAMED = ("mean", "std", "channels", "layout")
_OUTPUTS = {
    "logits": "logits are taken as they are",
    "probabilities": "its probabilities become logarithms",
    "log_probabilities": "its log-probabilities are taken as logits",
    "score": "its one score becomes two logits",
    "probability": "its one probability becomes two logits",
}


def figures(model: store.Artifact) -> None:
    """Draw the accuracy on the test images with its interval, and how large the network is."""
    metrics, looked = model.card["metrics"], model.card.get("looked_at", {})
    parts = [f"{model.card['network']['parameters']:,} parameters"]
    parts += [f"examined on {counted(looked['n'], 'image')}"] if looked.get("n") else []
    parts.append(f"{jobs.duration(model.card['timing']['seconds'])} on a {model.card['device'].upper()}")
    st.markdown(
        f"**{metrics['test_accuracy']:.2%}** of {counted(metrics['test_n'], 'test image')} are classified correctly "
        f"(95 % interval {interval(metrics['test_low'], metrics['test_high'])}).  \n:small[{' · '.join(parts)}]"
    )


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


def tried(card: Mapping[str, Any]) -> tuple[list[str], list[float], int] | None:
    """The best of what was tried: names, accuracies, the best first, and the place of what was taken.

    The place is -1 where what was taken is none of them. None where only one way was tried.
    """
    for finding in card["found"]:
        rows = [row for row in finding["rows"] if isinstance(row.get("accuracy"), int | float)]
        if finding["name"] == "normalisation" and len(rows) > 1:
            rows.sort(key=lambda row: not _is_taken(row, card["framing"]))  # stable: the best stays first
            taken = _is_taken(rows[0], card["framing"])
            rows = rows[:SHOWN]
            rows.sort(key=lambda row: -float(row["accuracy"]))
            chosen = [place for place, row in enumerate(rows) if taken and _is_taken(row, card["framing"])]
            return [_name(row) for row in rows], [float(row["accuracy"]) for row in rows], (chosen or [-1])[0]
    return None


def other_readings(model: store.Artifact) -> list[tuple[str, dict[str, Any]]]:
    """For each finding in doubt that names what else would fit: a button's text, and the settings that take it."""
    readings = []
    for finding in model.card["found"]:
        if finding["verdict"] != "doubt":
            continue
        readings += [
            (f"Set {specs.ImportSpec.model_fields[name].title or name}: {text}", {name: numbers})
            for name, text, numbers in advised(finding.get("advice") or "")
        ]
        rows = [row for row in finding["rows"] if "mean" in row and not _is_taken(row, model.card["framing"])]
        unique = {_name(row): row for row in reversed(rows)}
        for name, row in list(reversed(unique.items()))[:OTHERS]:
            known = {one: tuple(row[one]) for one in ("mean", "std")}
            known |= {one: row[one] for one in ("channels", "layout") if one in row}
            readings.append((f"Take {name} instead", known))
    return readings


def advised(text: str) -> list[tuple[str, str, tuple[int, ...]]]:
    """Settings of whole numbers that an advice writes out, such as `give classes: 1 0 2`: name, text, numbers."""
    found = re.findall(r"\b(classes): (\d+(?:[ ,]+\d+)+)", text)
    return [(name, numbers, tuple(map(int, re.findall(r"\d+", numbers)))) for name, numbers in found]


def chart(page: str, card: Mapping[str, Any], classes: int) -> bool:
    """Draw the accuracies of what was tried; returns whether there is anything to draw.

    `card` has `found` and `framing`, as that of an imported model.
    """
    found = tried(card)
    if found is None:
        return False
    names, shares, chosen = found
    best = f"{names[chosen]}: {shares[chosen]:.1%}" if chosen >= 0 else "none of them"
    st.caption("Accuracy behind each preprocessing that was tried; ▶ is what was taken.")
    elements.chart(
        candidates(names, shares, chosen, chance=1 / max(2, classes)),
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
            "Question": [finding["title"] for finding in found],
            "Found": [finding["said"] for finding in found],
            "What to do": [finding.get("advice") or "" for finding in found],
        }
    )


def listed(found: Sequence[Mapping[str, Any]]) -> None:
    """Draw a row a finding, those first that want a look, and what the verdicts mean."""
    rows = frame(sorted(found, key=lambda one: -list(MARKS).index(one["verdict"]))).map(_plain)
    verdicts = ", ".join(
        f"{count} {verdict}" for verdict in MARKS if (count := sum(one["verdict"] == verdict for one in found))
    )
    advice = [f" **{text}**" if text else "" for text in rows["What to do"]]
    shown = rows.drop(columns="What to do").assign(Found=rows["Found"] + advice)
    shown["Verdict"] = shown["Verdict"].str.replace(" ", "\u00a0")
    st.table(shown, hide_index=True, border="horizontal", alt=f"What was found out: {verdicts}")
    st.caption(" · ".join(f"{MARKS[verdict]}: {text}" for verdict, text in MEANS.items()))


def table(page: str, model: store.Artifact) -> None:
    """Draw the findings, the evidence behind them folded, and the downloads."""
    found = model.card["found"]
    listed(found)
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
    downloads.table(page, frame(found), name="findings", provenance=provenance.of(model))


def _name(row: Mapping[str, Any]) -> str:
    """What a row tried, in words: the normalisation, and what is unusual in it."""
    more = [
        say(row[name]) for name, usual in (("channels", "rgb"), ("layout", "nchw")) if row.get(name, usual) != usual
    ]
    return ", ".join([str(row.get("normalisation", "as it is")), *more])


def _is_taken(row: Mapping[str, Any], framing: Mapping[str, Any]) -> bool:
    """Whether a row is about the framing that was taken."""
    made = specs.Framing.model_validate(framing).model_dump()
    asked = {name: tuple(row[name]) if isinstance(row[name], list) else row[name] for name in _FRAMED if name in row}
    return all(made[name] == value for name, value in asked.items())


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
