"""The tab on images that the perturbation was not made from: pictures, and the rates by class."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core import specs
from core.evaluation.tables.metrics import clopper_pearson
from ui.show import provenance
from ui.text import PERCENT, class_text, in_percent, literal
from ui.universal import choice, views
from ui.universal.choice import Chosen


def show(chosen: Chosen) -> None:
    """Draw held-out images, the rates by class, and images that it was made from."""
    result = choice.result(chosen)
    if result is None:
        return
    spec, held, names = result.spec(), result.table("held_out"), chosen.names
    assert isinstance(spec, specs.UniversalSpec)
    metrics = result.card["metrics"]
    st.markdown(
        f"**{metrics['fooling_rate']:.1%} of {metrics['n']:,} new test images are fooled**, {metrics['fit_rate']:.1%} "
        f"of the {metrics['fit_n']:,} training images that it was made from. Only new images measure how universal it "
        "is."
    )
    views.before_and_after(result, "held_out", names)
    by_class(class_rows(held, names), held, spec, names)
    views.before_and_after(result, "made_from", names)
    provenance.show(views.source_line(result, chosen.model), here=spec == chosen.spec)


def most_common(classes: pd.Series) -> tuple[int, int]:
    """The class that occurs most often, and how often."""
    counts = classes.value_counts()
    return int(counts.index.to_numpy()[0]), int(counts.iloc[0])


def class_rows(held: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """A row for each true class: n, the share fooled with its interval, and the most frequent prediction."""
    rows = []
    for _label, part in held.groupby("y"):
        won = part[part["success"]]
        low, high = clopper_pearson(len(won), len(part))
        most = "–"
        if len(won):
            common, count = most_common(won["pred"])
            most = f"{class_text(common, names)} ({count / len(won):.0%})"
        rows.append(
            {
                "class": class_text(int(part["y"].iloc[0]), names),
                "n": len(part),
                "fooled": len(won) / len(part),
                "low": low,
                "high": high,
                "mostly classified as": most,
            }
        )
    return pd.DataFrame(rows)


def by_class(rows: pd.DataFrame, held: pd.DataFrame, spec: specs.UniversalSpec, names: list[str]) -> None:
    """Draw the table by class, and the class that most of the fooled images are classified as."""
    won = held[held["success"]]
    st.markdown("**By class**")
    if len(won) and spec.target == "any" and len(names) > 2:
        common, count = most_common(won["pred"])
        st.caption(
            f"{count / len(won):.0%} of the fooled images are classified as {literal(class_text(common, names))}."
        )
    share = st.column_config.NumberColumn(format=PERCENT)
    st.dataframe(
        in_percent(rows, ("fooled", "low", "high")),
        hide_index=True,
        column_config={
            "fooled": st.column_config.ProgressColumn(format=PERCENT, min_value=0, max_value=100),
            "low": share,
            "high": share,
        },
        alt="Share of held-out images fooled by true class, with 95 % intervals, and what they are classified as",
    )
