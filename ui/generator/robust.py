"""Robust to this attack (exercise set 1D): a model that was trained against it, beside one that was not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.figures import records
from core.storage import store
from ui.app import jobs, routes, sources
from ui.form.select import select
from ui.generator import compare, cost
from ui.generator import pairs as stored
from ui.generator.pairs import Pairs
from ui.show import downloads, elements, model_names, provenance
from ui.text import PERCENT, both, counted, in_percent, interval, percent, say

PAGE = "generator_attack"
RECIPE = "generator"
"""The recipe that trains against this attack."""
_SHARES = ("Clean accuracy", "Confidence")


def show(spec: specs.AttackSpec, model: store.Artifact) -> None:
    """Draw the same attack on the standard and on the defended model: figures, success against a cap, how it works."""
    plain, defended = contenders(model)
    others = [m for m in (*plain, *defended) if m.id != model.id]
    every = [model, *others, *(m for m in compare.relatives(model) if m.id not in {o.id for o in others})]
    asked = {m.id: spec.model_copy(update={"model": m.id}) for m in every}
    drawn = {m.id: Pairs.of(*found) for m in every if (found := stored.known(asked[m.id]))}
    shown = [m for m in every if m in (*plain, *defended) or m.id in drawn]
    names = model_names.short_names(every)
    if plain and defended and {plain[0].id, defended[0].id} <= set(drawn):
        st.markdown(verdict((plain[0], drawn[plain[0].id]), (defended[0], drawn[defended[0].id]), names))
    if not defended:
        _no_defence(model)
    if drawn:
        _figure({names[m.id]: drawn[m.id] for m in shown if m.id in drawn})
    frame = table(shown, drawn, names)
    st.dataframe(
        in_percent(frame, _SHARES),
        hide_index=True,
        placeholder="–",
        column_config={
            **{name: st.column_config.NumberColumn(format=PERCENT) for name in _SHARES},
            **{name: st.column_config.NumberColumn(format="%.3g") for name in ("Median ℓ2", "Median ℓ∞")},
        },
        height=elements.table_height(len(frame)),
        key=f"{PAGE}_robust",
        alt="Models with clean accuracy and what the attack achieved on each",
    )
    st.caption(
        "The attack has no budget, so compare how far it has to change an image, not only whether it succeeds. "
        "Succeeded: wrong-class targets, of the images that the model classifies correctly. Medians are over the "
        "successes; confidence is the median probability of the target. “–”: not drawn yet."
    )
    line = provenance.line(attack=spec.attack.title, seed=spec.seed, more=f"images {_listed(spec)}")
    downloads.table(PAGE, frame, name="generator_robust", provenance=line)
    _offers(shown, drawn, asked, names)
    _another([m for m in every if m not in shown], asked)
    _measured([*plain, *defended], names)
    _explained()


def contenders(model: store.Artifact) -> tuple[list[store.Artifact], list[store.Artifact]]:
    """Standard and generator-defended models of the same classes: of the same network, the bundled ones first."""
    same = [model, *compare.relatives(model)]
    defended = [m for m in same if specs.recipe_of(sources.model_spec(m)) == RECIPE]
    networks = [sources.model_spec(m).network for m in defended]
    plain = [m for m in same if specs.recipe_of(sources.model_spec(m)) == "standard"]
    plain = [m for m in plain if sources.model_spec(m).network in networks]
    return plain[:1], defended[:1]


def verdict(plain: tuple[store.Artifact, Pairs], defended: tuple[store.Artifact, Pairs], names: dict[str, str]) -> str:
    """Sentences: how much farther the defended model's images had to move, and what the defence costs."""
    (model, before), (robust, after) = plain, defended
    a, b = before.summary(), after.summary()
    clean, kept = (m.card["metrics"]["test_accuracy"] for m in (model, robust))
    text = (
        f"On **{names[model.id]}** {a.won} of {a.n} wrong-class targets succeed, on **{names[robust.id]}**, which was "
        f"trained against this attack, {b.won} of {b.n}."
    )
    if a.won and b.won:
        text += (
            f" There they have to change by ℓ2 {b.l2:.3g} instead of {a.l2:.3g} ({b.l2 / a.l2:.2f} times as far), "
            f"and by ℓ∞ {both(b.linf)} instead of {both(a.linf)} (medians)."
        )
    change = 100 * (kept - clean)
    points = f"{change:+.2f}".replace("-", "−")
    return f"{text} Clean accuracy {percent(kept)} instead of {percent(clean)} ({points} points)."


def table(models: list[store.Artifact], drawn: dict[str, Pairs], names: dict[str, str]) -> pd.DataFrame:
    """A row for each model: clean accuracy with its interval, and the figures of its pairs, missing where not drawn."""
    rows: list[dict[str, Any]] = []
    for model in models:
        metrics, pairs = model.card["metrics"], drawn.get(model.id)
        found = None if pairs is None else pairs.summary()
        rows.append(
            {
                "Model": names[model.id],
                "Clean accuracy": metrics["test_accuracy"],
                "95 % interval": interval(metrics.get("test_low"), metrics.get("test_high")),
                "Succeeded": None if found is None else f"{found.won} of {found.n}",
                "Median ℓ2": None if found is None else found.l2,
                "Median ℓ∞": None if found is None else found.linf,
                "Confidence": None if found is None else found.confidence,
            }
        )
    frame = pd.DataFrame(rows)
    figures = ["Median ℓ2", "Median ℓ∞", "Confidence"]
    return frame.astype(dict.fromkeys(figures, float))


def _figure(drawn: dict[str, Pairs]) -> None:
    place = st.container()
    norm = select(PAGE, "cap_norm", "Distance", ["l2", "linf"], text=say)
    distances = {name: _distances(pairs.table, norm) for name, pairs in drawn.items()}
    with place:
        elements.chart(
            records.within(distances, norm=say(norm), height=280),
            key=f"{PAGE}_cap",
            alt=f"Share of wrong-class targets that succeed within a distance in {say(norm)}, a line per model",
        )


def _distances(table: pd.DataFrame, norm: str) -> np.ndarray:
    """Distances of the counted pairs; infinite where the attack failed."""
    counts = table[stored.counted(table)]
    return np.where(counts["success"], counts[norm], np.inf)


def _listed(spec: specs.AttackSpec) -> str:
    return ", ".join(f"#{index}" for index in spec.indices or ())


def _offers(
    models: list[store.Artifact],
    drawn: dict[str, Pairs],
    asked: dict[str, specs.AttackSpec],
    names: dict[str, str],
) -> None:
    """A button for each of the models on which the attack did not run yet, and the progress of those that run."""
    missing = [m for m in models if m.id not in drawn]
    with st.container(horizontal=True):
        for m in missing:
            text = f"Draw the same on {names[m.id]}{_time(asked[m.id], m)}"
            live = jobs.is_live(asked[m.id])
            if st.button(text, icon=":material/play_arrow:", key=f"{PAGE}_draw_on_{m.id}", disabled=live):
                jobs.start(asked[m.id])
    for m in missing:
        jobs.panel(f"{PAGE}_on_{m.id}", asked[m.id])


def _time(spec: specs.AttackSpec, model: store.Artifact) -> str:
    seconds = cost.seconds(spec, model)
    return "" if seconds is None else f" (about {jobs.duration(seconds)})"


def _another(rest: list[store.Artifact], asked: dict[str, specs.AttackSpec]) -> None:
    """The same attack on any other model of these classes."""
    if not rest:
        return
    labels = {m.id: model_names.label(m) for m in rest}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = select(PAGE, "other_model", "Another model", list(labels), text=labels.__getitem__, kind="list")
        live = jobs.is_live(asked[chosen])
        if st.button("Draw the same there", icon=":material/play_arrow:", key=f"{PAGE}_run_there", disabled=live):
            jobs.start(asked[chosen])
    jobs.panel(f"{PAGE}_there", asked[chosen])


def _measured(models: list[store.Artifact], names: dict[str, str]) -> None:
    """What was measured of the bundled ones when they were made: the attack on many images, one target each."""
    rows = []
    for m in models:
        try:
            measured = m.table("measurements") if "reference" in m.card else None
        except store.DamagedArtifact:
            measured = None
        if measured is None:
            continue
        for row in measured[measured["measure"].isin(stored.METHODS)].to_dict("records"):
            rows.append(
                {
                    "Model": names[m.id],
                    "Attack": specs.METHODS[row["measure"]].title,
                    "Success": row["value"],
                    "95 % interval": interval(row["low"], row["high"]),
                    "Median ℓ2": row["median_l2"],
                    "Median ℓ∞": row["median_linf"],
                    "n": int(row["n"]),
                }
            )
    if not rows:
        return
    frame = pd.DataFrame(rows).sort_values("Attack", kind="stable")
    n = min(frame["n"])
    st.markdown(f"**On {counted(n, 'test image')}, one wrong class each** (measured when these models were made)")
    st.dataframe(
        in_percent(frame, ["Success"]),
        hide_index=True,
        column_config={
            "Success": st.column_config.NumberColumn(format=PERCENT),
            **{name: st.column_config.NumberColumn(format="%.3g") for name in ("Median ℓ2", "Median ℓ∞")},
        },
        height=elements.table_height(len(frame)),
        key=f"{PAGE}_measured",
        alt="What was measured of the bundled models: success and distances of the generator attack",
    )


def _no_defence(model: store.Artifact) -> None:
    """Say that no model of these classes is defended against this attack, and lead to its training."""
    spec = sources.model_spec(model)
    alike = {"train_network": spec.network} if spec.network in specs.NETWORKS else {}
    st.info("No saved model of these classes was trained against this attack yet.", icon=":material/info:")
    st.button(
        "Train one",
        icon=":material/model_training:",
        key=f"{PAGE}_train_defence",
        on_click=routes.go,
        args=("train",),
        kwargs={"train_dataset": spec.data.dataset, "train_recipe": RECIPE, **alike},
        help="Opens the training page with the recipe that trains against the generator attack.",
    )


def _explained() -> None:
    recipe = specs.RECIPES[RECIPE]
    with st.expander("How a model is made robust to this attack", icon=":material/school:"):
        st.write(
            f"{recipe.help} The generator draws its images anew for each batch, against the network as it is, or "
            "against one of its earlier versions: a network that trains against itself alone may learn to mislead the "
            "generator's gradients instead of becoming robust. A cap keeps the images so near to their originals that "
            "their labels stay true."
        )
        st.write(
            "A defence cannot make the attack fail: without a budget, the generator may draw a perfect image of the "
            "target class. It makes the attack expensive. So compare the curves: within the same distance, fewer "
            "images of a defended model are fooled."
        )
