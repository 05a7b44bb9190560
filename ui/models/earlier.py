"""A model against earlier ones of the same data: accuracy by epoch, clean and under attack, and a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from core import specs
from core.figures.base import accuracy_by_epoch
from core.storage import store
from ui.app import sources
from ui.form.select import select_many
from ui.show import downloads, elements, model_names
from ui.text import PERCENT, both, in_percent, interval

START = 4
"""Earlier models that are compared at first."""
_SHARES = ("Test accuracy", "Under attack")


def show(page: str, model: store.Artifact) -> None:
    """Draw the comparison of a model with others that were trained on the same data; the reader chooses which."""
    others = same_data(model)
    if not others:
        st.info(
            "This is the only saved model on this data. Train another one to compare them epoch by epoch.",
            icon=":material/info:",
        )
        return
    names = model_names.short_names([model, *others])
    by_id = {other.id: other for other in others}
    chosen = select_many(
        page,
        "against",
        "Compare with",
        list(by_id),
        text=names.__getitem__,
        default=[other.id for other in _first(model, others)],
        help="Models that were trained on the same images.",
    )
    compared = [model, *(by_id[model_id] for model_id in chosen)]
    st.markdown(sentence(model, others))
    elements.chart(
        accuracy_by_epoch({names[one.id]: one.card["history"] for one in compared}),
        key=f"{page}_earlier",
        alt="Validation accuracy by epoch, clean and under attack, of this model and of the ones chosen",
    )
    blind = [names[one.id] for one in compared if not _watched(one)]
    if blind:
        st.caption(f"Standard training does not measure accuracy under attack by epoch: – for {', '.join(blind)}.")
    frame = table(compared, names)
    st.dataframe(
        in_percent(frame, _SHARES),
        hide_index=True,
        placeholder="–",
        column_config={
            **{name: st.column_config.NumberColumn(format=PERCENT) for name in _SHARES},
            "Under attack": st.column_config.NumberColumn(
                format=PERCENT,
                help="Share of the validation images, under PGD with 10 steps at this ε",
            ),
            "Seconds": st.column_config.NumberColumn(format="%.1f", help="Of training"),
        },
        height=elements.table_height(len(frame)),
        key=f"{page}_against_table",
        alt="The compared models with accuracies, ε, epochs and seconds",
    )
    downloads.table(
        page,
        frame,
        name="models_compared",
        provenance=f"{len(frame)} models of {model_names.data_of(model)}, among them {model.id}",
    )


def same_data(model: store.Artifact) -> list[store.Artifact]:
    """The other models that were trained here on the same data set and classes; imported ones have no epochs."""
    data = sources.model_spec(model).data
    return [
        other
        for other in sources.models()
        if other.id != model.id and isinstance(spec := sources.model_spec(other), specs.TrainSpec) and spec.data == data
    ]


def _first(model: store.Artifact, others: Sequence[store.Artifact]) -> list[store.Artifact]:
    """The others to begin with: those of the same network, then those whose accuracy under attack was watched."""
    network = sources.model_spec(model).network
    return sorted(others, key=lambda one: (sources.model_spec(one).network != network, not _watched(one)))[:START]


def _watched(model: store.Artifact) -> bool:
    return any("robust_accuracy" in row or "fgsm_accuracy" in row for row in model.card["history"])


def sentence(model: store.Artifact, others: Sequence[store.Artifact]) -> str:
    """How a model compares with the best of the others on clean test images."""
    best = max(others, key=lambda other: other.card["metrics"]["test_accuracy"])
    change = 100 * (model.card["metrics"]["test_accuracy"] - best.card["metrics"]["test_accuracy"])
    return (
        f"**{model_names.name(model)}** classifies {model.card['metrics']['test_accuracy']:.2%} of the test images "
        f"correctly: {abs(change):.2f} points {'above' if change >= 0 else 'below'} the best of the others "
        f"({model_names.name(best)})."
    )


def table(models: Sequence[store.Artifact], names: dict[str, str]) -> pd.DataFrame:
    """A row for each model: accuracy on clean test images, under attack on validation images, epochs, seconds."""
    rows: list[dict[str, Any]] = []
    for model in models:
        metrics, eps = model.card["metrics"], model.card["metrics"].get("robust_eps")
        rows.append(
            {
                "Model": names[model.id],
                "Test accuracy": metrics["test_accuracy"],
                "95 % interval": interval(metrics.get("test_low"), metrics.get("test_high")),
                "Under attack": metrics.get("robust_accuracy"),
                "at ε": None if eps is None else both(eps),
                "Epochs": len(model.card["history"]),
                "Seconds": model.card["timing"]["seconds"],
            }
        )
    return pd.DataFrame(rows).astype({"Under attack": float})
