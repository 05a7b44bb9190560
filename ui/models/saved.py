"""Saved models: the table of all, and the report of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from core import specs
from core.figures import heat
from core.figures.base import score_histogram, training_curves
from core.storage import bundled, store
from ui.app import jobs, routes, sources
from ui.form import bound, missing
from ui.models import found, references
from ui.show import downloads, elements, model_names, model_rows, provenance
from ui.text import PERCENT, both, counted, eps_text, interval, literal, say


def table(models: Sequence[store.Artifact]) -> pd.DataFrame:
    """A row for each saved model: data, network, recipe, accuracy, size, training time."""
    rows, names = [], model_names.names()
    for model in models:
        spec, metrics = sources.model_spec(model), model.card.get("metrics", {})
        trained = spec if isinstance(spec, specs.TrainSpec) else None
        rows.append(
            {
                "Model": names[model.id],
                "Data": sources.data_title(spec.data),
                "Network": say(spec.network) + (", single output" if spec.scalar else ""),
                "Recipe": trained.recipe.label() if trained else specs.IMPORTED,
                "Test accuracy": metrics.get("test_accuracy"),
                "95 % from": metrics.get("test_low"),
                "to": metrics.get("test_high"),
                "n": metrics.get("test_n"),
                "Epochs": trained.epochs if trained else None,
                "Parameters": model.card.get("network", {}).get("parameters"),
                "Seconds": model.card.get("timing", {}).get("seconds") if trained else None,
                "Made": "bundled" if bundled.is_copy(model.card) else _made(model),
                "Id": model.id,
            }
        )
    return pd.DataFrame(rows)


def _made(model: store.Artifact) -> str:
    return str(model.card.get("created", ""))[:16].replace("T", " ")


OPTIMISER = (
    *("epochs", "batch_size", "optimizer", "lr", "momentum", "weight_decay", "schedule", "init"),
    *("augment", "average", "patience", "seed"),
)
"""Fields of a TrainSpec that stand in the training page's form, in this order."""
SETTINGS = ("network", "scalar", *OPTIMISER)
"""Fields of a TrainSpec that the training page has a widget for, beside the data's."""

COLUMNS: dict[str, Any] = {
    "Model": st.column_config.TextColumn(pinned=True),
    "Test accuracy": st.column_config.NumberColumn(format=PERCENT, help="Share of the test set, classified correctly"),
    "95 % from": st.column_config.NumberColumn(format=PERCENT, help="Clopper–Pearson interval, 95 %"),
    "to": st.column_config.NumberColumn(format=PERCENT),
    "n": st.column_config.NumberColumn(format="localized", help="Images in the test set"),
    "Parameters": st.column_config.NumberColumn(format="localized"),
    "Seconds": st.column_config.NumberColumn(format="%.1f", help="Of training"),
}
"""How the columns of `table` are written."""


def saved_models(
    page: str, *, current: store.Artifact | None, models: Sequence[store.Artifact] | None = None
) -> store.Artifact | None:
    """Draw the table of all saved models, or of `models`; returns the chosen one, else `current`."""
    models = sources.models() if models is None else models
    if not models:
        st.caption("No model is saved yet.")
        return None
    st.subheader("Saved models", anchor=False)
    frame = table(models)
    chosen = model_rows.choose(
        page,
        frame,
        models,
        key=f"{page}_saved",
        columns=COLUMNS,
        shares=("Test accuracy", "95 % from", "to"),
        height=320,
        alt="Saved models with their accuracies",
        name="saved_models",
        provenance=f"{len(frame)} saved models of Adversarial Lab",
        opens="report",
    )
    return chosen or current


def layer_table(layers: Sequence[Mapping[str, Any]]) -> None:
    """Draw a layer table: type, output shape, parameters, receptive field."""
    rows = [
        {
            "Layer": layer["type"],
            "Output": " × ".join(str(size) for size in layer["output_shape"]),
            "Parameters": layer["parameters"],
            "Receptive field": f"{layer['receptive_field']} px" if layer["receptive_field"] else "whole image",
        }
        for layer in layers
    ]
    columns = {"Parameters": st.column_config.NumberColumn(format="localized")}
    st.dataframe(
        rows,
        hide_index=True,
        column_config=columns,
        height=elements.table_height(len(rows)),
        alt="Layers of the network",
    )


def open_settings(page: str, spec: specs.TrainSpec) -> None:
    """Open the training page, from another page or from itself, with the settings of a model."""
    data = spec.data
    state: dict[str, Any] = {f"train_{name}": getattr(spec, name) for name in SETTINGS}
    recipe = spec.recipe
    state["train_recipe"] = recipe.name
    state |= {f"train_{recipe.name}_{name}": value for name, value in recipe.model_dump(exclude={"name"}).items()}
    eps = getattr(recipe, "eps", None)
    if eps is not None:
        state[f"train_{recipe.name}_eps"] = eps_text(eps)
    state["train_dataset"] = data.dataset
    if data.path is not None:
        named = ("folder", "image_size", "grey") if data.dataset == "folder" else ("file",)
        state |= {f"train_{name}": getattr(data, name) for name in named}
        state["train_class_numbers"] = " ".join(map(str, data.classes or ()))
    else:
        state[f"train_{data.dataset}_classes"] = list(data.classes or ())
    state["train_tab"] = "Result"
    st.session_state.pop("train_saved", None)
    if page == "train":
        st.session_state.update(state)
    else:
        routes.go("train", **state)


def overfitting(history: Sequence[Mapping[str, Any]]) -> None:
    """Warn of epochs with catastrophic overfitting (robust to single-step attacks only), and what was done about it."""
    marked = [row for row in history if row.get("overfitted")]
    if marked:
        epochs = ", ".join(str(int(row["epoch"])) for row in marked)
        back = " It went back to its best weights and trained on with more steps." * any(
            row.get("rolled_back") for row in marked
        )
        st.warning(
            f"Overfitting to a single step in epoch {epochs}: accuracy under PGD collapsed, or is less than half of "
            f"that under FGSM.{back}",
            icon=":material/warning:",
        )


def stopped(history: Sequence[Mapping[str, Any]]) -> None:
    """Report that training was stopped early because no epoch was better within its patience."""
    if history and history[-1].get("stopped"):
        st.caption(f"Stopped after epoch {int(history[-1]['epoch'])}: its patience was over without a better one.")


def report(page: str, model: store.Artifact, *, current: bool) -> None:
    """Draw the report of one saved model: figures, curves, confusion, scores, links to attacks.

    `current` says that the page's own settings are this model's.
    """
    st.subheader(model_names.label(model), anchor=False)
    result(page, model)
    if isinstance(sources.model_spec(model), specs.ImportSpec):
        return
    references.card(page, model)
    references.beside(page, model)
    with st.expander("Layers", icon=":material/layers:"):
        layer_table(model.card["network"]["layers"])
    if not current:
        settings_button(page, model)


def settings_button(page: str, model: store.Artifact) -> None:
    """Draw a button that opens the training page with the settings of a model; nothing for an imported one."""
    spec = sources.model_spec(model)
    if isinstance(spec, specs.ImportSpec):
        return
    st.button(
        "Its settings",
        icon=":material/tune:",
        key=f"{page}_settings_of",
        help="Opens the training page with the settings of this model.",
        on_click=open_settings,
        args=(page, spec),
    )


def result(page: str, model: store.Artifact, *, here: bool = False) -> None:
    """Draw what came out of a training: figures and curves first, then confusion, scores, and the ways on.

    Of an imported model, what was found out stands where the curves would. `here` says that the page's address holds
    this model's settings.
    """
    spec = sources.model_spec(model)
    if isinstance(spec, specs.ImportSpec):
        found.figures(model)
        found.chart(page, model.card, len(model.card["class_names"]))
        found.framing(model)
        ways_on(page, model)
        found.table(page, model)
    else:
        left, right = st.columns([2, 5])
        with left:
            _figures(model.card)
        with right:
            _curves(page, model.card)
        ways_on(page, model)
    _tests(page, model, here=here)


def _curves(page: str, card: Mapping[str, Any]) -> None:
    elements.chart(
        training_curves(card["history"], card.get("best_epoch")),
        key=f"{page}_curves",
        alt=f"Loss and accuracy over {counted(len(card['history']), 'epoch')}",
    )
    overfitting(card["history"])
    stopped(card["history"])


def _tests(page: str, model: store.Artifact, *, here: bool) -> None:
    """Draw the confusion matrix, the scores where there are some, the provenance, and the test predictions."""
    card = model.card
    try:
        tests = model.table("test")
    except store.DamagedArtifact as damage:
        st.error(literal(damage), icon=":material/error:")
        return
    if "set_aside" in card:
        count = card["results_set_aside"]
        st.caption(
            f"{counted(count, 'result')} of the bundled model, which has other weights, "
            f"{'was' if count == 1 else 'were'} set aside in `{card['set_aside']}` of the store."
        )
    confusion(page, model, tests)
    if sources.model_spec(model).scalar and "score" in tests:
        scores(page, model, tests)
    line = provenance.of(model)
    provenance.show(line, here=here)
    downloads.table(page, tests, name="test_predictions", provenance=line, formats=("csv",), label="Test predictions")


def ways_on(page: str, model: store.Artifact) -> None:
    """Draw links to every page that attacks or measures this model."""
    for text in model.card.get("data", {}).get("notes", ()):
        st.caption(text)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**Attack this model**", width="content")
        for name, route in routes.ROUTES.items():
            if route.model_widget:
                st.page_link(
                    routes.page(name),
                    label=route.title,
                    icon=route.icon,
                    query_params={f"{name}_{route.model_widget}": model.id},
                )
    missing.note(page, model)


def confusion(page: str, model: store.Artifact, tests: pd.DataFrame) -> None:
    """Draw the confusion matrix, and which classes are confused most often."""
    names = model.card["class_names"]
    wrong = tests[tests["y"] != tests["pred"]]
    left, right = st.columns([3, 2], vertical_alignment="center")
    with left:
        elements.chart(
            heat.confusion(tests["y"].to_numpy(), tests["pred"].to_numpy(), names),
            key=f"{page}_confusion",
            alt=f"Confusion matrix: {len(wrong)} of {len(tests)} test images are misclassified",
        )
    with right:
        st.markdown(f"**{len(wrong):,} of {len(tests):,} test images are misclassified.**")
        pairs = Counter(zip(wrong["y"].tolist(), wrong["pred"].tolist(), strict=True))
        for (true, pred), count in pairs.most_common(3):
            st.markdown(
                f"- {counted(count, 'image')} of **{literal(names[true])}** classified as **{literal(names[pred])}**"
            )


def scores(page: str, model: store.Artifact, tests: pd.DataFrame) -> None:
    """Draw the histogram of a single-output network's scores with a slider for the threshold."""
    names = model.card["class_names"]
    st.markdown("**Raw scores N(x)**")
    low, high = float(tests["score"].min()), float(tests["score"].max())
    threshold = bound.slider(
        "Threshold τ",
        min_value=min(low, 0.0),
        max_value=max(high, 0.0),
        value=0.0,
        step=max((high - low) / 200, 1e-6),
        help=f"An image is classified as {literal(names[1])} when its score is above τ. "
        "The network was trained for τ = 0.",
        key=f"{page}_threshold",
    )
    above = tests["score"].to_numpy() > threshold
    y = tests["y"].to_numpy()
    first, second, third = st.columns(3)
    first.metric("Accuracy at this τ", f"{(above == (y == 1)).mean():.2%}")
    second.metric(
        f"{literal(names[0])} classified as {literal(names[1])}", f"{(above & (y == 0)).sum()} of {(y == 0).sum()}"
    )
    third.metric(
        f"{literal(names[1])} classified as {literal(names[0])}", f"{(~above & (y == 1)).sum()} of {(y == 1).sum()}"
    )
    elements.chart(
        score_histogram(tests["score"].to_numpy(), y, names, threshold),
        key=f"{page}_scores",
        alt=f"Histogram of the scores of {names[0]} and {names[1]} with the threshold at {threshold:.3g}",
    )


def _figures(card: Mapping[str, Any]) -> None:
    metrics, timing = card["metrics"], card["timing"]
    low, high = metrics["test_low"], metrics["test_high"]
    st.metric(
        "Test accuracy",
        f"{metrics['test_accuracy']:.2%}",
        help=f"Share of the {counted(metrics['test_n'], 'test image')} that are classified correctly. "
        f"95 % interval (Clopper–Pearson): {interval(low, high)}.",
    )
    st.caption(f"{interval(low, high)} (95 %)  \nn = {metrics['test_n']:,}")
    if metrics.get("robust_accuracy") is not None:
        st.metric(
            "Under attack",
            f"{metrics['robust_accuracy']:.1%}",
            help=f"Share of {counted(metrics['robust_n'], 'validation image')} that are classified correctly under PGD "
            f"with 10 steps, ε = {both(metrics['robust_eps'])}. The sweep and the comparison measure it thoroughly.",
        )
        st.caption(f"PGD, ε = {both(metrics['robust_eps'])}, n = {metrics['robust_n']:,}")
    st.caption(
        f"{card['network']['parameters']:,} parameters  \n"
        f"{counted(len(card['history']), 'epoch')} in {jobs.duration(timing['seconds'])} on a {card['device'].upper()}"
    )
