"""Sentences about the curves of sweeps: where accuracy falls to chance, and signs that an attack is weak."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from core import specs
from core.storage import store
from ui.app import sources
from ui.measure.sweep_views import Curve, norm_of
from ui.text import say


def chance_of(models: Sequence[store.Artifact]) -> float | None:
    """Accuracy of guessing; None where the models do not have the same number of classes."""
    counts = {len(model.card["class_names"]) for model in models}
    return 1 / counts.pop() if len(counts) == 1 else None


def crossing(rows: Sequence[dict[str, Any]], chance: float) -> str:
    """A phrase that gives the ε at which accuracy falls to chance."""
    below = next((k for k, row in enumerate(rows) if row["accuracy"] <= chance), None)
    if below is None:
        last = rows[-1]
        return f"stays above chance up to ε = {last['eps']:g} ({last['accuracy']:.1%} there)"
    if below == 0:
        return f"is at chance or below from ε = {rows[0]['eps']:g} on"
    before, after = rows[below - 1], rows[below]
    share = (before["accuracy"] - chance) / (before["accuracy"] - after["accuracy"])
    about = before["eps"] + share * (after["eps"] - before["eps"])
    return (
        f"falls to chance between ε = {before['eps']:g} ({before['accuracy']:.1%}) and "
        f"{after['eps']:g} ({after['accuracy']:.1%}), at about {about:.3g}"
    )


def doubts(curves: Sequence[Curve], chance: float | None) -> list[str]:
    """Signs that an attack is weak, so that its accuracy is not the model's robustness.

    The signs are those of Athalye, Carlini and Wagner 2018 (arXiv 1802.00420, section 3.1).
    """
    found = []
    for curve in curves:
        rises = [pair for pair in itertools.pairwise(curve.rows) if pair[1]["accuracy"] > pair[0]["accuracy"]]
        if rises:
            before, after = max(rises, key=lambda pair: pair[1]["accuracy"] - pair[0]["accuracy"])
            missed = round((after["accuracy"] - before["accuracy"]) * after["n"])
            found.append(
                f"**{curve.name}** rises from {before['accuracy']:.1%} at ε = {before['eps']:g} to "
                f"{after['accuracy']:.1%} at {after['eps']:g}. The larger ball holds the smaller one, so at least "
                f"{missed} images that could be fooled were missed: too long a single step overshoots."
            )
    for one, strong in itertools.product(curves, curves):
        if one.sweep.model != strong.sweep.model or not _same_ball(one.sweep.attack, strong.sweep.attack):
            continue
        lower = [row for row in one.rows if row["accuracy"] < strong.at(row["eps"])["accuracy"]]
        if lower:
            row = max(lower, key=lambda row: strong.at(row["eps"])["accuracy"] - row["accuracy"])
            found.append(
                f"**{one.name}** is below **{strong.name}** at ε = {row['eps']:g} ({row['accuracy']:.1%} against "
                f"{strong.at(row['eps'])['accuracy']:.1%}): one step beats many, so the many steps are too few, too "
                "small, or the gradients are masked."
            )
    if chance is not None and all(curve.sweep.target is None for curve in curves):
        found += [text for text in (_above_chance(curve, chance) for curve in curves) if text]
    return found


def _same_ball(one: specs.Method, strong: specs.Method) -> bool:
    """Whether `one` is a single step, and `strong` many steps, inside the same ℓ∞ ball and the box [0, 1]."""
    single = isinstance(one, specs.Fgsm) and one.clip
    return single and norm_of(strong) == "linf" and getattr(strong, "steps", 1) > 1


def _above_chance(curve: Curve, chance: float) -> str | None:
    last = curve.rows[-1]
    if last["low"] <= chance or norm_of(curve.sweep.attack) != "linf" or last["eps"] < 0.25:
        return None
    start = f"**{curve.name}** leaves {last['accuracy']:.1%} at ε = {last['eps']:g}, above chance ({chance:.0%}). "
    if last["eps"] >= 0.5:
        return start + (
            "At ε ≥ 0.5 every image can be made the same plain grey, so no model can do better than chance: the attack "
            "is weak, not the model strong."
        )
    if getattr(curve.sweep.attack, "steps", 1) == 1:
        return start + "It is a single step, and a weak attack: run PGD ℓ∞ before taking this for robustness."
    return start + "More steps and restarts, and a longer ladder, tell whether the model or the attack is the reason."


def mixed(models: Sequence[store.Artifact], data: specs.DataSpec | None) -> None:
    """Warn where the models are shown different images: their own (`data` is None), of several data sets."""
    if data is None and len({str(sources.model_spec(model).data) for model in models}) > 1:
        st.warning("These models are shown different data: their curves are not comparable.", icon=":material/warning:")


def crossings(curves: Sequence[Curve]) -> None:
    """Draw the ε at which each curve falls to chance."""
    chance = chance_of([curve.model for curve in curves]) if curves else None
    if chance is not None and curves[0].sweep.target is None:
        st.markdown("\n".join(f"- **{c.name}** {crossing(c.rows, chance)}." for c in curves))


def remarks(models: Sequence[store.Artifact], curves: Sequence[Curve]) -> None:
    """Draw what one must know to interpret the curves: the meaning of ε in a norm, weak attacks."""
    pixels = int(np.prod(models[0].card["shape"]))
    lengths = {"l2": ("√Σδ²", f"√{pixels} = {pixels**0.5:.3g}"), "l1": ("Σ|δ|", f"{pixels}")}
    for norm in sorted({norm_of(curve.sweep.attack) for curve in curves} & lengths.keys()):
        length, most = lengths[norm]
        st.caption(
            f"In {say(norm)}, ε is the length {length} of the whole change, not a change of each pixel. An ℓ∞ "
            f"change of ε may be as long as ε times {most}, so the same ε is a far smaller budget here: do not compare "
            "the heights of curves of different norms."
        )
    if any(norm_of(curve.sweep.attack) == "l0" for curve in curves):
        st.caption(
            "In ℓ0, ε is the number of features that may change, by any amount: a ladder such as 0 2 5 10 20 says more "
            "than one of small numbers, below 1 nothing may change, and its curve compares with no other norm's."
        )
    if any(getattr(curve.sweep.attack, "clip", True) is False for curve in curves):
        st.caption(
            "Unclipped FGSM leaves [0, 1]: what it makes are no images (they are shown clipped), so its curve says "
            "nothing of attacks that must make images."
        )
    notes = doubts(curves, chance_of(models))
    if notes:
        with st.expander(f"Reasons to doubt ({len(notes)})", icon=":material/help:", expanded=len(notes) <= 2):
            st.markdown("\n".join(f"- {note}" for note in notes))
            st.caption("Signs after Athalye, Carlini and Wagner 2018, arXiv 1802.00420, section 3.1.")


def plain_loops() -> None:
    """Draw why figures of FGSM may differ from those of a loop of one's own."""
    with st.expander("Why may my own FGSM loop give other figures?", icon=":material/calculate:"):
        st.markdown(
            "FGSM takes only the *sign* of each partial derivative, so a derivative that is lost to rounding changes "
            "the whole step of its pixel. The gradient of the cross-entropy has the factor 1 − p of the true class. "
            "In float32 that factor is rounded to 0, or to noise, for images of which the model is very sure: the "
            "signs are then 0 or random, the image hardly changes in the right direction, and counts as robust. A "
            "plain loop therefore often leaves a *higher* accuracy.\n\n"
            "Here the sign is that of the log-odds' gradient, log p − log(1 − p). It points the same way exactly, and "
            "does not vanish. The same plain loop in float64 gives the figures of this page.\n\n"
            "Compare also: the same first n test images; clipping to [0, 1] (a setting of the attack); ε in units of "
            "[0, 1] and not of normalised pixels; the model in evaluation mode; one sign of 0 counted as no change."
        )
