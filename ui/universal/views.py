"""A universal perturbation: its picture, its fooling rates on held-out images, what a linear programme proved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.evaluation.tables.metrics import clopper_pearson
from core.storage import store
from ui.app import sources
from ui.show import downloads, gallery, provenance
from ui.show.sheet import Picture
from ui.text import PERCENT, both, class_text, grey_levels, in_percent

SHOWN = 10
"""Images in a row."""
NAMED = 6
"""Images that an explanation names."""


def show(page: str, result: store.Artifact, model: store.Artifact) -> None:
    """Draw a stored result with its downloads."""
    spec = result.spec()
    assert isinstance(spec, specs.UniversalSpec)
    names = list(model.card["class_names"])
    held, made = result.table("held_out"), result.table("made_from")
    pictures, set_pictures = result.arrays("held_out"), result.arrays("made_from")
    delta = result.arrays("perturbation")["delta"]
    line = provenance.of(result, model)
    if spec.mask is not None:
        line += f" · mask {provenance.mask_text(result)}"
    headline(result.card, spec, names)
    numbers(result.card)
    if "lp" in result.card:
        proof(result.card, spec, model, made, set_pictures, names)
    left, right = st.columns([2, 5])
    with left:
        st.markdown("**The perturbation**")
        gain = gallery.gain_for([delta])
        alone = gallery.show(
            [[gallery.difference(delta, gain)]],
            alt="The perturbation: red makes a pixel brighter, blue darker",
            legend=f"Change × {gain:g}: blue is darker, red is brighter.",
            tile=224,
        )
    with right:
        st.markdown("**On test images that it never saw**")
        grid = before_and_after(pictures, held, names, "Test images before and after the same change")
    rows = class_rows(held, names)
    by_class(rows, held, spec, names)
    with st.expander("On images that it was made from"):
        before_and_after(set_pictures, made, names, "Images of the set before and after the same change")
    provenance.show(line)
    downloads.table(page, rows, name="universal_by_class", provenance=line)
    with st.container(horizontal=True):
        downloads.table(page, held, name="universal_held_out", provenance=line, formats=("csv",), label="Held out")
        downloads.table(page, made, name="universal_made_from", provenance=line, formats=("csv",), label="Made from")
    with st.container(horizontal=True):
        downloads.picture(page, alone, name="universal_perturbation", provenance=line, scale=8, label="Perturbation")
        downloads.picture(page, grid, name="universal_images", provenance=line, label="Images")
        downloads.arrays(page, {**result.arrays("perturbation"), **pictures}, name="universal", provenance=line)


def headline(card: dict[str, Any], spec: specs.UniversalSpec, names: list[str]) -> None:
    """Draw the verdict in a sentence: it fools most images, some, or no more than noise does."""
    metrics = card["metrics"]
    rate, low, noise = metrics["fooling_rate"], metrics["low"], metrics["noise_rate"]
    reads = "another class" if spec.target == "any" else f"class {class_text(int(spec.target), names)}"
    text = (
        f"Of {metrics['n']:,} test images that it was not made from, **{rate:.1%}** are read as {reads} "
        f"(95 % interval {low:.1%} to {metrics['high']:.1%}); random noise of the same size does that to {noise:.1%}."
    )
    if rate >= 0.5 and low > noise:
        st.success(f"**It fools most.** {text}", icon=":material/check_circle:")
    elif low > noise:
        st.warning(f"**It fools some.** {text}", icon=":material/contrast:")
    else:
        st.error(f"**It does no better than noise on new images.** {text}", icon=":material/cancel:")


def numbers(card: dict[str, Any]) -> None:
    """Draw the figures, each with its n."""
    metrics = card["metrics"]
    passes = metrics["mean_forwards"] + metrics["mean_backwards"]
    with st.grid(5, min_column_width=130):
        st.metric("Fooled, held out", f"{metrics['fooling_rate']:.1%}", help=f"Of {metrics['n']:,} test images.")
        st.metric(
            "Fooled, made from",
            f"{metrics['fit_rate']:.1%}",
            help=f"Of the {metrics['fit_n']:,} training images that it was made from: no measure of it.",
        )
        st.metric("Noise of that size", f"{metrics['noise_rate']:.1%}", help="The control, on the held-out images.")
        st.metric(
            "Size, ℓ∞",
            f"{metrics['linf']:.3g}",
            help=f"{grey_levels(metrics['linf'])}; ℓ2 {metrics['l2']:.3g}, ℓ1 {metrics['l1']:.4g}, before "
            "images are clipped to [0, 1].",
        )
        st.metric(
            "Passes an image",
            f"{passes:,.0f}",
            help=f"Forward and backward, of the images it was made from; {metrics['seconds']:.3g} s in all.",
        )


def before_and_after(pictures: dict[str, np.ndarray], table: pd.DataFrame, names: list[str], alt: str) -> Picture:
    """Draw two rows, images before and after the change; returns the picture."""
    count = min(SHOWN, len(pictures["x"]))
    rows = table.head(count)
    return gallery.show(
        [list(pictures["x"][:count]), list(pictures["x_adv"][:count].clip(0, 1))],
        rows=["before", "after"],
        captions=[
            [names[y] for y in rows["y"]],
            [
                f"{names[pred]}\n{confidence:.0%}{' ✓' if won else ''}"
                for pred, confidence, won in zip(rows["pred"], rows["confidence"], rows["success"], strict=True)
            ],
        ],
        legend="Below each: how it is read, with its confidence; ✓ marks those that are fooled.",
        alt=alt,
    )


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
                "mostly read as": most,
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
            f"{count / len(won):.0%} of the fooled images are read as {class_text(common, names)}: one change has few "
            "classes to lead to."
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
        alt="Share of held-out images fooled by true class, with 95 % intervals, and what they are read as",
    )


def proof(
    card: dict[str, Any],
    spec: specs.UniversalSpec,
    model: store.Artifact,
    made: pd.DataFrame,
    pictures: dict[str, np.ndarray],
    names: list[str],
) -> None:
    """Draw what the linear programme found and proved, and the images that decide it."""
    st.markdown("**What the linear programme says**")
    exact = sources.model_spec(model).network == "linear" and (len(names) == 2 or spec.target != "any")
    for sentence in explain(card, made, names, exact=exact):
        st.markdown(f"- {sentence}")
    heaviest = made["weight"].to_numpy().argsort()[::-1][:NAMED]
    order = [k for k in heaviest if made["weight"].iloc[k] > 1e-6 and k < len(pictures["x"])]
    if order:
        contradict = card["lp"]["contradiction"]
        gallery.show(
            [[pictures["x"][k] for k in order]],
            captions=[
                [f"#{made['index'].iloc[k]} ({names[made['y'].iloc[k]]})\n{made['weight'].iloc[k]:.0%}" for k in order]
            ],
            legend="The images that contradict each other, with their weights."
            if contradict
            else "The images that the bound rests on, with their weights: the hardest to fool together.",
            alt="The images with the largest weights in the proof",
        )


def explain(card: dict[str, Any], made: pd.DataFrame, names: list[str], *, exact: bool) -> list[str]:
    """Sentences on a programme's result.

    Args:
        card: the artifact's.
        made: the table of the set S.
        names: of the classes.
        exact: whether the logits are linear and the rows the whole truth, so that the bound is a proof.
    """
    lp, metrics, count = card["lp"], card["metrics"], len(made)
    images = f"all {count} images" if count > 1 else "the image"
    said = []
    won = int(made["success"].sum())
    size = both(metrics["linf"])
    if lp["contradiction"]:
        who = made[made["weight"] > 1e-6].sort_values("weight", ascending=False).head(NAMED)
        named = ", ".join(f"#{index} ({names[y]})" for index, y in zip(who["index"], who["y"], strict=True))
        said.append(
            f"{'No' if exact else 'To first order no'} change s at all fools {images} without clipping. The rows of "
            f"{named}, added with the weights below, leave nothing (or too little) that s could move, and yet their "
            "sum is required to be positive: what one image needs brighter, another needs darker (Farkas)."
        )
    else:
        agree = f"(the dual weights below; the programme's own optimum is {lp['first']:.4g}: primal and dual agree)"
        said.append(
            f"No ε below **{lp['bound']:.4g}** is enough {agree}. The model is linear, so that is proven."
            if exact
            else f"To first order at the images no ε below **{lp['bound']:.4g}** is enough {agree}. The model is "
            "curved, so that is an estimate and no proof: a smaller one may exist."
        )
    if won == count and lp["stage"] == 1:
        said.append(
            f"Found: ε = **{size}** fools {images}"
            + (
                ", and every one stays in [0, 1] without clipping."
                if card["clip"]
                else ". Nothing keeps the sums in [0, 1]: these are points of the plane, not all valid images."
            )
        )
    elif won == count:
        said.append(
            f"With clipping there is one: ε = **{size}** fools {images} when each sum is cut to [0, 1]. Clipping takes "
            "the change away where an image is black or white already, so each image feels a change of its own."
        )
    else:
        said.append(f"The best found fools {won} of {count} images, at ε = {size}.")
    return said
