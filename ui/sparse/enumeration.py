"""Every change of one pixel or of two is tried, of one image and of many, and what that proves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.evaluation.tables.enumeration import Enumeration
from core.figures import heat
from core.storage import store
from ui.app import jobs, sources
from ui.form import bound, controls
from ui.form.select import select
from ui.show import at_once, downloads, elements, gallery, provenance
from ui.sparse import one_image, views
from ui.sparse.case import Case
from ui.sparse.choice import PAGE
from ui.text import counted, grey_levels, literal

MANY_PAIRS = 20_000
"""Pairs tried at first where the whole network must be run for each."""
AT_ONCE = {1: "one", 2: "one, then two"}
AT_MOST = {1: "one change", 2: "one or two changes"}


def attacks(case: Case) -> list[dict[str, Any]]:
    """The enumerations of an image in their usual settings, that of two changes first."""
    two = {"name": "exhaustive", "pixels": 2, "pairs": None if every_pair(case) else MANY_PAIRS}
    return [two, {"name": "exhaustive", "pixels": 1, "pairs": None}]


def every_pair(case: Case) -> bool:
    """Whether all pairs are tried at first: where rank-one updates of the first layer make that quick."""
    spec = sources.model_spec(case.model)
    return isinstance(spec, specs.TrainSpec) and specs.NETWORKS[spec.network].dense_first


def one(case: Case) -> None:
    """Draw the enumeration of one image as a sentence and a map."""
    unit = "feature (one colour of one pixel)" if len(case.x) > 1 else "pixel"
    attack = settings(case)
    spec = case.ask(attack)
    if spec is None:
        return
    result = asked(spec, "Try every change")
    if result is None:
        st.write(
            f"An attack that finds nothing proves nothing. Here *every* change of one {unit} to each of 256 grey "
            "levels is tried, and every change of two to 0 or 1. What is found is then the fewest possible; where "
            "nothing is found, none of these changes fools the model."
        )
    st.caption(effort(case, attack))
    if result is not None:
        show(result, case)


def settings(case: Case) -> dict[str, Any]:
    """Draw the settings: how many features are changed at once, and how many pairs are tried."""
    left, right = st.columns(2, vertical_alignment="bottom")
    with left:
        pixels = select(
            PAGE,
            "at_once",
            "Features changed at once" if len(case.x) > 1 else "Pixels changed at once",
            list(AT_ONCE),
            text=AT_ONCE.__getitem__,
            help="Two are tried for images that no single change flips.",
        )
    pairs: int | None = None
    if pixels == 2:
        with right:
            every = bound.toggle(
                "Every pair",
                value=every_pair(case),
                help="Off: only the most promising pairs, by what each change does alone. Then nothing is proven about "
                "the others.",
                key=f"{PAGE}_every_pair",
            )
        pairs = None if every else MANY_PAIRS
    return {"name": "exhaustive", "pixels": pixels, "pairs": pairs}


def effort(case: Case, attack: dict[str, Any]) -> str:
    """A sentence on how many images are tried at most."""
    size = case.x.size
    text = f"{size:,} × 256 = {256 * size:,} images with one change"
    if attack["pixels"] == 2:
        every = 2 * size * (size - 1)  # four corners for each of the size (size - 1) / 2 pairs
        known = attack["pairs"]
        text += f", then up to {every:,} with two" if known is None else f", then {known:,} of up to {every:,} with two"
    how = "by rank-one updates of the first layer" if every_pair(case) else "each passed through the whole network"
    return f"{text}, {how}."


def asked(spec: specs.AttackSpec, text: str, name: str = "enumerate") -> store.Artifact | None:
    """The stored result; if there is none, draw a button or the job that makes it."""
    result = sources.artifact(spec)
    if result is not None or not jobs.idle(PAGE, spec):
        return result
    if st.button(text, type="primary", icon=":material/grid_on:", key=f"{PAGE}_ask_{name}"):
        jobs.start(spec)
    return result


def show(result: store.Artifact, case: Case) -> None:
    """Draw what is proven about one image, the map, and the change that was found."""
    arrays = result.arrays("images")
    proof = Enumeration.of(arrays)
    found = result.table("images").iloc[0]
    say = st.warning if proof.fewest else st.success
    say(proof.sentence(), icon=":material/target:" if proof.fewest else ":material/verified:")
    with st.grid(3, min_column_width=150):
        st.metric("Fewest", proof.fewest if proof.fewest is not None else f"> {proof.more_than}")
        st.metric("Images tried", f"{proof.singles + proof.pairs:,}")
        st.metric("Of them flip", f"{proof.single_flips + proof.pair_flips:,}")
    left, right = st.columns(2)
    kinds = {"one": "one change, its best level"} | ({"two": "two changes, the best pair"} if proof.pairs else {})
    with left:
        kind = "one"
        if len(kinds) > 1:
            kind = select(
                PAGE,
                "map",
                "Margin lost with this pixel changed",
                list(kinds),
                text=kinds.__getitem__,
                default="two",
                kind="buttons",
            )
        name = "trace_margin" if kind == "one" else "trace_pair_margin"
        elements.chart(
            margin_map(arrays[name][0], float(arrays["trace_clean_margin"][0])),
            key=f"{PAGE}_enumeration_map",
            alt="Map of how far any change with each pixel pushes the margin down",
        )
        st.caption(
            f"How far {'each pixel alone' if kind == 'one' else 'the best pair with each pixel'} can push the margin "
            f"down. Unchanged it is {arrays['trace_clean_margin'][0]:.4g}: a pixel at "
            f"{-arrays['trace_clean_margin'][0]:.4g} or below flips the image."
        )
    with right:
        if proof.changed:
            after = case.read(arrays["x_adv"])[0]
            what = f"{len(proof.changed)} changed"
            picture = views.triptych(case, arrays["x_adv"][0], after, what=what, gain=1.0)
            st.dataframe(changed(proof), hide_index=True, alt="What was changed: where, from and to which level")
        else:
            picture = gallery.show([[case.x]], alt=f"Test image {case.index}, which nothing tried flips", tile=196)
            st.caption(f"Whatever was tried, it is still classified as {literal(case.names[int(found['pred'])])}.")
    line = one_image.source_line(result, case)
    provenance.show(line)
    with st.container(horizontal=True):
        downloads.picture(PAGE, picture, name="enumeration", provenance=line)
        downloads.arrays(PAGE, arrays, name="enumeration", provenance=line, images=result.table("images"))


def margin_map(margin: np.ndarray, clean: float) -> Any:
    """A heat map of the lowest margin (C, H, W) minus `clean`, the lowest over the channels; blank where not tried."""
    lowest = np.where(np.isnan(margin), np.inf, margin).min(axis=0)
    lowest = np.where(np.isinf(lowest), np.nan, lowest)
    return heat.signed_heatmap(lowest - clean, name="lowest margin − unchanged", height=320)


def changed(proof: Enumeration) -> pd.DataFrame:
    """A table of the changes that were found."""
    rows = [
        {"row": row, "column": column, "channel": channel, "old": grey_levels(old), "new": grey_levels(new)}
        for (channel, row, column), old, new in proof.changed
    ]
    frame = pd.DataFrame(rows)
    return frame if proof.colours > 1 else frame.drop(columns="channel")


def many(case: Case) -> None:
    """Draw the enumeration of many images beside the greedy attack's counts on the same images."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        attack = settings(case)
        with st.container(width=200):
            n = controls.field(PAGE, specs.AttackSpec, "n", key="enumerated_n", default=10)
    spec = case.ask_many(attack, n)
    if spec is None:
        return
    result = asked(spec, f"Try every change on {counted(n, 'image')}", name="enumerate_many")
    greedy = at_once.result(PAGE, case.ask_many({"name": "jacobian_sparse"}, n), name="greedy_many")
    if result is None and greedy is not None:
        found = greedy.table("images")
        few = int((found["success"] & (found["l0"] <= attack["pixels"])).sum())
        st.write(
            f"The greedy attack fools {few} of {len(found)} images with {AT_MOST[int(attack['pixels'])]}. It may miss "
            "a smaller change: only trying every change proves that there is none."
        )
    if result is None:
        return
    if greedy is None:
        return
    pixels = int(attack["pixels"])
    frame = beside(result, greedy, pixels)
    st.dataframe(frame, hide_index=True, alt="Images by the fewest changes that flip them: enumerated, and greedy")
    arrays, table = result.arrays("images"), result.table("images")
    tried = int((arrays["trace_singles"] + arrays["trace_pairs"]).sum())
    whole = bool(arrays["trace_all_pairs"][arrays["trace_pairs"] > 0].all())
    st.caption(
        f"{tried:,} images tried. {reach(pixels, whole)} Greedy is an upper bound: where it needs more, it missed a "
        "smaller change."
    )
    line = one_image.source_line(result, case, one=False)
    provenance.show(line)
    downloads.table(PAGE, frame, name="enumerated", provenance=line)
    proofs = [Enumeration.of(arrays, row) for row in range(len(table))]
    with st.expander("The sentence of each image"):
        for index, proof in zip(table["index"], proofs, strict=True):
            st.markdown(f"**#{index}**: {proof.sentence()}")


def reach(pixels: int, whole: bool) -> str:
    """A sentence on what the counts prove. `whole`: every pair was tried for each image for which any was."""
    if pixels == 1:
        return "Exact for one change; two were not tried."
    if whole:
        return "Exact for one change at 256 levels; pairs at 0 or 1 only."
    return "Exact for one change; pairs that were not tried may flip more images."


def beside(result: store.Artifact, greedy: store.Artifact, pixels: int) -> pd.DataFrame:
    """How many images need one, two or more changes, by the enumeration and by the greedy attack.

    With one of the `pixels` changed at once nothing is known of two, so both ways are only told apart at one.
    """
    arrays = result.arrays("images")
    fewest = np.array([Enumeration.of(arrays, row).fewest or 99 for row in range(len(arrays["x"]))])
    table = greedy.table("images")
    counts = np.where(table["success"], table["l0"], 99)
    kinds = {"one is enough": lambda k: k == 1}
    if pixels == 1:
        kinds |= {"more than one": lambda k: k > 1}
    else:
        kinds |= {"two are needed": lambda k: k == 2, "more, or not found": lambda k: k > 2}
    return pd.DataFrame(
        [
            {"changes": name, "enumerated": int(test(fewest).sum()), "greedy": int(test(counts).sum())}
            for name, test in kinds.items()
        ]
    )
