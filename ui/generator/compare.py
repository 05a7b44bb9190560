"""A finished generator attack compared: other attacks on the same pairs, and other models."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.evaluation.tables.comparison import settings_line
from core.figures import records
from core.storage import store
from ui.app import jobs, routes, sources
from ui.form.select import select
from ui.generator import views
from ui.show import downloads, elements, model_names, provenance
from ui.text import PERCENT, in_percent, say

PAGE = "generator_attack"
WAYS = ("generator", "generator_strong", "ddn")
"""Attacks that are set side by side: both modes, and the usual attack on the same distance."""


def ways(result: store.Artifact, spec: specs.AttackSpec) -> dict[str, store.Artifact]:
    """Method → stored attack on the same images and targets: `result` itself, and the newest of each other method."""
    found = {spec.attack.slug(): result}
    for other in store.results(spec.model, store.default_root()):
        theirs = other.spec()
        if not isinstance(theirs, specs.AttackSpec) or _pairs(theirs) != _pairs(spec):
            continue
        if theirs.attack.slug() in WAYS:
            found.setdefault(theirs.attack.slug(), other)
    return {name: found[name] for name in WAYS if name in found}


def _pairs(spec: specs.AttackSpec) -> dict[str, object]:
    """The fields that two attacks on the same pairs share: images, targets, mask, budget, but not the seed."""
    return spec.model_dump(exclude={"attack", "seed"})


def side_by_side(found: dict[str, store.Artifact]) -> tuple[pd.DataFrame, str]:
    """A table with a row for each attack, and a sentence; distances are over the pairs that all of them fooled."""
    tables = {name: made.table("images") for name, made in found.items()}
    shared = np.logical_and.reduce([views.counted(t) & t["success"] for t in tables.values()])
    rows, means = [], {}
    for name, table in tables.items():
        counted = table[views.counted(table)]
        spec = found[name].spec()
        assert isinstance(spec, specs.AttackSpec)
        means[name] = float(table["l2"][shared].mean())
        rows.append(
            {
                "attack": spec.attack.title,
                "settings": settings_line(spec.attack) or "defaults",
                "fooled": f"{int(counted['success'].sum())}/{len(counted)}",
                "mean ℓ2": means[name],
                "median ℓ2": float(table["l2"][shared].median()),
                "median ℓ∞": float(table["linf"][shared].median()),
                "passes a pair": float((counted["forwards"] + counted["backwards"]).mean()),
            }
        )
    return pd.DataFrame(rows), _sentence(means, int(shared.sum()))


def _sentence(means: dict[str, float], n: int) -> str:
    if not n:
        return "No pair was fooled by all of them, so there are no distances to compare."
    nearest = min(means, key=means.__getitem__)
    others = [
        f"{mean / means[nearest] - 1:.1%} farther with {specs.METHODS[name].title}"
        for name, mean in means.items()
        if name != nearest
    ]
    text = f"On the {n} pairs that all of them fooled, {specs.METHODS[nearest].title} is nearest on average"
    return f"{text} (ℓ2 {means[nearest]:.3g}); {', '.join(others)}."


def attacks(result: store.Artifact, spec: specs.AttackSpec, model: store.Artifact) -> None:
    """Draw the results of the other mode and of DDN on the same pairs, with a button for each that is missing."""
    st.subheader("Other ways to the same pairs", anchor=False)
    found = ways(result, spec)
    missing = [name for name in WAYS if name not in found]
    if len(found) > 1:
        frame, sentence = side_by_side(found)
        st.markdown(sentence)
        st.dataframe(
            frame,
            hide_index=True,
            column_config={
                **{name: st.column_config.NumberColumn(format="%.4g") for name in frame.columns if "ℓ" in name},
                "passes a pair": st.column_config.NumberColumn(
                    format="%.0f", help="Forward and backward passes through the model, on average."
                ),
            },
            key=f"{PAGE}_ways",
            alt="Attacks on the same pairs: share fooled, distances and passes",
        )
        downloads.table(PAGE, frame, name="generator_ways", provenance=provenance.of(result, model))
    else:
        st.caption("Run another attack on the same pairs to set the distances side by side.")
    with st.container(horizontal=True):
        for name in missing:
            other = spec.model_copy(update={"attack": specs.METHODS[name]()})
            title = specs.METHODS[name].title
            if st.button(
                f"Run {title}", icon=":material/play_arrow:", key=f"{PAGE}_run_{name}", disabled=jobs.is_live(other)
            ):
                jobs.start(other)
    for name in missing:
        jobs.panel(f"{PAGE}_{name}", spec.model_copy(update={"attack": specs.METHODS[name]()}))


# ---------------------------------------------------------------- other models


def models(result: store.Artifact, spec: specs.AttackSpec, model: store.Artifact) -> None:
    """Draw the share of fooled pairs within a distance, for the same attack on this model and on others."""
    others = relatives(model)
    if not others:
        return
    st.subheader("The same attack on other models", anchor=False)
    asked = {other.id: spec.model_copy(update={"model": other.id}) for other in others}
    done = {other.id: made for other in others if (made := sources.artifact(asked[other.id])) is not None}
    if done:
        norm = select(PAGE, "cap_norm", "Distance", ["l2", "linf"], text=say)
        names = model_names.short_names(others)
        named = {"this model": result} | {names[model_id]: made for model_id, made in done.items()}
        distances = {name: _distances(made.table("images"), norm) for name, made in named.items()}
        figure = records.within(distances, norm=say(norm))
        elements.chart(figure, key=f"{PAGE}_cap", alt="Share fooled within a distance")
        st.caption(_medians(distances))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        rest = {other.id: model_names.label(other) for other in others if other.id not in done}
        if rest:
            chosen = select(PAGE, "other_model", "Another model", list(rest), text=rest.__getitem__, kind="list")
            live = jobs.is_live(asked[chosen])
            if st.button("Run it there", icon=":material/play_arrow:", key=f"{PAGE}_run_there", disabled=live):
                jobs.start(asked[chosen])
    if rest:
        jobs.panel(f"{PAGE}_there", asked[chosen])


def _distances(table: pd.DataFrame, norm: str) -> np.ndarray:
    """Distances of the counted pairs; infinite where the attack failed."""
    counted = table[views.counted(table)]
    return np.where(counted["success"], counted[norm], np.inf)


def _medians(distances: dict[str, np.ndarray]) -> str:
    """A sentence with the median distance of each model's fooled pairs, also as a multiple of the first model's."""
    found = {name: float(np.median(d[np.isfinite(d)])) for name, d in distances.items() if np.isfinite(d).any()}
    if not found:
        return "No pair was fooled on any of them."
    first, unit = next(iter(found.items()))
    others = [f"{value:.3g} on {name} ({value / unit:.2f}×)" for name, value in found.items() if name != first]
    return "Median distance of the pairs that were fooled: " + ", ".join([f"{unit:.3g} on {first}", *others]) + "."


# ---------------------------------------------------------------- transfer


def relatives(model: store.Artifact) -> list[store.Artifact]:
    """The other saved models of the same classes of the same data set, newest first."""
    own = sources.model_spec(model).data

    def same(other: specs.DataSpec) -> bool:
        return (other.dataset, other.folder, other.classes) == (own.dataset, own.folder, own.classes)

    return [m for m in sources.models() if m.id != model.id and same(sources.model_spec(m).data)]


def transfer(result: store.Artifact, model: store.Artifact) -> None:
    """Draw how many of the adversarial examples fool other saved models of the same data."""
    st.subheader("Do they fool other models?", anchor=False)
    others = relatives(model)
    if not others:
        st.caption("There is no other saved model of the same classes yet: train one, and the images are tried on it.")
        st.page_link(routes.page("train"), label="Train another model", icon=":material/model_training:")
        return
    try:
        frame = pd.DataFrame([_tried(result, other) for other in [model, *others]])
    except (store.DamagedArtifact, ValueError, RuntimeError) as error:
        elements.failed("The images could not be tried on the other models.", error)
        return
    frame.insert(0, "model", ["this model", *(model_names.label(other) for other in others)])
    n = int(frame["n"].iloc[0])
    st.caption(
        f"The {n} images that fool this model, shown to the others as they are. One that another model reads wrongly, "
        "or even as the target, transfers. “Originals” is the share of their originals that the model reads rightly."
    )
    shares = ("read as the target", "read wrongly", "originals")
    st.dataframe(
        in_percent(frame.drop(columns="n"), shares),
        hide_index=True,
        column_config={
            name: st.column_config.ProgressColumn(format=PERCENT, min_value=0, max_value=100) for name in shares
        },
        key=f"{PAGE}_transfer",
        alt="Share of the made images that each saved model reads as the target, and wrongly",
    )
    downloads.table(PAGE, frame, name="generator_transfer", provenance=provenance.of(result, model))


def _tried(result: store.Artifact, other: store.Artifact) -> dict[str, float]:
    return _shares(result.spec().key(), other.id, result, other)


@st.cache_data(max_entries=256, show_spinner="Trying the images on the other models …")
def _shares(key: str, other_id: str, _result: store.Artifact, _other: store.Artifact) -> dict[str, float]:
    """Shares of the adversarial examples that fool the other model; `key` and `other_id` are the key of the cache."""
    import torch

    from core.networks.catalogue import logits_of

    table, arrays = _result.table("images"), _result.arrays("images")
    rows = np.flatnonzero(views.counted(table) & table["success"])
    if not len(rows):
        return {"n": 0, "read as the target": np.nan, "read wrongly": np.nan, "originals": np.nan}
    model = sources.saved_model(_other.id, _other.folder.parent).model
    pred, clean = (logits_of(model, torch.from_numpy(arrays[name][rows])).argmax(1).numpy() for name in ("x_adv", "x"))
    y, target = table["y"].to_numpy()[rows], table["target"].to_numpy()[rows]
    originals = np.unique(table["index"].to_numpy()[rows], return_index=True)[1]
    return {
        "n": len(rows),
        "read as the target": float((pred == target).mean()),
        "read wrongly": float((pred != y).mean()),
        "originals": float((clean == y)[originals].mean()),
    }
