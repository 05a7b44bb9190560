"""A finished generator attack compared: other attacks on the same pairs, and transfer to other models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.evaluation.tables.comparison import settings_line
from core.storage import store
from ui.app import jobs, routes, sources
from ui.generator.pairs import Pairs, counted
from ui.show import downloads, elements, model_names, provenance
from ui.text import PERCENT, in_percent
from ui.text import counted as counted_text

PAGE = "generator_attack"
WAYS = ("generator", "generator_strong", "ddn")
"""Attacks that are set side by side: both modes, and the usual attack on the same distance."""


def ways(result: store.Artifact, spec: specs.AttackSpec) -> dict[str, store.Artifact]:
    """Method → stored attack on the same images and targets: `result` itself, and the newest of each other method."""
    found = {spec.attack.slug(): result}
    for other in sources.results(spec.model, "attack", data=spec.data):
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
    """A table with a row for each attack, and a sentence; distances are over the pairs on which all of them succeed."""
    tables = {name: made.table("images") for name, made in found.items()}
    shared = np.logical_and.reduce([counted(t) & t["success"] for t in tables.values()])
    rows, means = [], {}
    for name, table in tables.items():
        right = table[counted(table)]
        spec = found[name].spec()
        assert isinstance(spec, specs.AttackSpec)
        means[name] = float(table["l2"][shared].mean())
        rows.append(
            {
                "attack": spec.attack.title,
                "settings": settings_line(spec.attack) or "defaults",
                "succeeded": f"{int(right['success'].sum())} of {len(right)}",
                "mean ℓ2": means[name],
                "median ℓ2": float(table["l2"][shared].median()),
                "median ℓ∞": float(table["linf"][shared].median()),
                "evaluations per pair": float((right["forwards"] + right["backwards"]).mean()),
            }
        )
    return pd.DataFrame(rows), _sentence(means, int(shared.sum()))


def _sentence(means: dict[str, float], n: int) -> str:
    if not n:
        return "No target was reached by all of them, so there are no distances to compare."
    nearest = min(means, key=means.__getitem__)
    others = [
        f"{mean / means[nearest] - 1:.1%} farther with {specs.METHODS[name].title}"
        for name, mean in means.items()
        if name != nearest
    ]
    text = f"On the {n} pairs on which all of them succeed, {specs.METHODS[nearest].title} stays nearest on average"
    return f"{text} (ℓ2 {means[nearest]:.3g}); {', '.join(others)}."


def attacks(result: store.Artifact, spec: specs.AttackSpec, model: store.Artifact) -> None:
    """Draw the results of the other mode and of DDN on the same pairs, with a button for each that is missing."""
    st.subheader("Other attacks on the same pairs", anchor=False)
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
                "evaluations per pair": st.column_config.NumberColumn(
                    format="%.0f", help="Model evaluations (forward and backward passes), on average."
                ),
            },
            key=f"{PAGE}_ways",
            alt="Attacks on the same pairs: success, distances and model evaluations",
        )
        downloads.table(PAGE, frame, name="generator_ways", provenance=provenance.of(result, model))
    else:
        st.caption("Run another attack on the same pairs to compare the distances.")
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


# ---------------------------------------------------------------- transfer


def relatives(model: store.Artifact) -> list[store.Artifact]:
    """The other saved models of the same classes of the same data set, newest first."""
    own = sources.model_spec(model).data

    def same(other: specs.DataSpec) -> bool:
        return (other.dataset, other.path, other.classes) == (own.dataset, own.path, own.classes)

    return [m for m in sources.models() if m.id != model.id and same(sources.model_spec(m).data)]


def transfer(pairs: Pairs, made: Sequence[store.Artifact], model: store.Artifact) -> None:
    """Draw how many of the adversarial examples fool other saved models of the same data; `made` are their runs."""
    others = relatives(model)
    if not others:
        st.info(
            "There is no other saved model of the same classes yet. Train one to see whether these images fool it too.",
            icon=":material/info:",
        )
        st.page_link(routes.page("train"), label="Train another model", icon=":material/model_training:")
        return
    key = " ".join(result.spec().key() for result in made)
    try:
        frame = pd.DataFrame([_shares(key, other.id, pairs, other) for other in [model, *others]])
    except (store.DamagedArtifact, ValueError, RuntimeError) as error:
        elements.failed("The images could not be tried on the other models.", error)
        return
    names = model_names.short_names(others)
    frame.insert(0, "model", ["this model", *(names[other.id] for other in others)])
    n = int(frame["n"].iloc[0])
    best = frame.iloc[1:].sort_values("misclassified", ascending=False).iloc[0]
    if n:
        st.markdown(
            f"**{best['model']}** is fooled most often: it misclassifies {best['misclassified']:.0%} of the "
            f"{counted_text(n, 'image')} that fool this model, and {best['as the target']:.0%} as the target."
        )
    shares = ("as the target", "misclassified", "originals correct")
    st.dataframe(
        in_percent(frame.drop(columns="n"), shares),
        hide_index=True,
        column_config={
            name: st.column_config.ProgressColumn(format=PERCENT, min_value=0, max_value=100) for name in shares
        },
        height=elements.table_height(len(frame), 500),
        key=f"{PAGE}_transfer",
        alt="Share of the made images that each saved model classifies as the target, and misclassifies",
    )
    st.caption(
        "The images are shown to the other models unchanged. An image transfers if another model misclassifies it, or "
        "even classifies it as the target. “Originals correct” is the share of the originals that the model classifies "
        "correctly."
    )
    line = provenance.of(made[0], model)
    downloads.table(PAGE, frame, name="generator_transfer", provenance=line)
    provenance.show(line)


@st.cache_data(max_entries=256, show_spinner="Trying the images on the other models …")
def _shares(key: str, other_id: str, _pairs_made: Pairs, _other: store.Artifact) -> dict[str, float]:
    """Shares of the adversarial examples that fool the other model; `key` and `other_id` are the key of the cache."""
    import torch

    from core.networks.catalogue import logits_of

    table, arrays = _pairs_made.table, _pairs_made.arrays
    rows = np.flatnonzero(counted(table) & table["success"])
    if not len(rows):
        return {"n": 0, "as the target": np.nan, "misclassified": np.nan, "originals correct": np.nan}
    model = sources.saved_model(_other.id, _other.folder.parent).model
    pred, clean = (logits_of(model, torch.from_numpy(arrays[name][rows])).argmax(1).numpy() for name in ("x_adv", "x"))
    y, target = table["y"].to_numpy()[rows], table["target"].to_numpy()[rows]
    originals = np.unique(table["index"].to_numpy()[rows], return_index=True)[1]
    return {
        "n": len(rows),
        "as the target": float((pred == target).mean()),
        "misclassified": float((pred != y).mean()),
        "originals correct": float((clean == y)[originals].mean()),
    }
