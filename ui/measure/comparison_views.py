"""The comparison page's tabs: set 3's tables, two models on the same images, the exports."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from core.epsilon import same
from core.evaluation.tables import comparison, paired, workbook
from ui.form.select import select
from ui.measure import ranking_views, sweep_views
from ui.measure.measured import Measured
from ui.measure.sweep_views import Curve
from ui.show import downloads, gallery
from ui.show.sheet import Picture
from ui.text import both, counted, sentence_case

LAYOUT = {
    "accuracy": "Correctly predicted",
    "error": "Error",
    "confidence": "Confidence",
    "confidence_correct": "Confidence when correct",
    "confidence_wrong": "Confidence when wrong",
    "calibration_gap": "Calibration gap",
}
"""The rows of exercise set 3's table, and the gap that the first and third of them make."""
OUTCOMES = ("both right", "only A right", "only B right", "both wrong")


def set_three(measured: Measured, eps: float) -> None:
    """Draw exercise set 3's table for each model: the five metrics, clean and under each attack, on the same images."""
    with st.grid(2, min_column_width=330, gap="medium"):
        for model in measured.models:
            own = list(measured.of(model.id).values())
            with st.container():
                st.markdown(f"**{measured.names[model.id]}**")
                if not own:
                    st.caption("Not run yet.")
                    continue
                frame = pd.DataFrame(
                    {name: [_text(row[key], key) for key in LAYOUT] for name, row in columns_of(own, eps).items()},
                    index=pd.Index(LAYOUT.values(), name=f"n = {own[0].rows[0]['n']:,}"),
                )
                st.table(frame, alt=f"Five metrics of {measured.names[model.id]}, clean and at ε = {eps:g}")
    st.caption(
        "Shares from 0 to 1. Calibration gap = confidence − correctly predicted: above 0, the model is surer than it "
        "is right. “Clean” is measured on the same n images. –: not run at this ε, or no such image."
    )
    if measured.curves:
        downloads.table(
            measured.page,
            five_metrics(measured, eps),
            name="five_metrics",
            provenance="\n".join(curve.provenance() for curve in measured.curves) + f"\nat ε {both(eps)}",
            formats=("csv", "md", "tex", "xlsx"),
            label="As shown",
            keep=list(five_metrics(measured, eps).columns),
        )


def columns_of(own: Sequence[Curve], eps: float) -> dict[str, Mapping[str, Any]]:
    """Column of set 3's table → its metrics: clean, and each attack at ε; None for what was not run there."""
    blank: dict[str, Any] = dict.fromkeys(LAYOUT)
    return {"clean": own[0].clean()} | {c.attack: c.at(eps) if c.has(eps) else blank for c in own}


def five_metrics(measured: Measured, eps: float) -> pd.DataFrame:
    """Set 3's tables of all models beside each other as they are shown: a row a metric, shares with four decimals."""
    several = len(measured.models) > 1
    table: dict[str, Any] = {"metric": list(LAYOUT.values())}
    for model in measured.models:
        own = list(measured.of(model.id).values())
        for name, row in (columns_of(own, eps) if own else {}).items():
            title = f"{measured.names[model.id]}, {name}" if several else name
            values = [float("nan") if row[key] is None else float(row[key]) for key in LAYOUT]
            table[title] = [round(value, 4) for value in values]
    return pd.DataFrame(table)


def _text(value: float | None, key: str) -> str:
    if value is None or math.isnan(value):
        return "–"
    return f"{value:+.4f}" if key == "calibration_gap" else f"{value:.4f}"


# ---------------------------------------------------------------- two models on the same images


def outcomes(first: Curve, second: Curve, eps: float) -> list[int]:
    """How many images in both curves each model classifies correctly at ε, in the order of `OUTCOMES`."""
    halves = []
    for curve in (first, second):
        table = curve.images()
        halves.append(table.loc[same(table["eps"], eps), ["index", "y", "pred"]])
    both = halves[0].merge(halves[1], on=["index", "y"], suffixes=("_a", "_b"))
    a, b = both["pred_a"] == both["y"], both["pred_b"] == both["y"]
    return [int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum())]


def verdict(names: Sequence[str], counts: Sequence[int], eps: float) -> str:
    """The two-by-two table in words, with McNemar's p."""
    n, p = sum(counts), paired.mcnemar(counts[1], counts[2])
    ahead = names[0] if counts[1] >= counts[2] else names[1]
    chance = f"{p:.2g}" if p >= 1e-300 else "below 1e-300"
    if counts[1] == counts[2]:
        start = "The two are level"
    elif p < 0.05:
        start = f"**{ahead}** classifies more of them correctly, beyond what chance explains"
    else:
        start = f"**{ahead}** classifies more of them correctly, but chance alone could do that"
    return (
        f"{start}: of {n:,} images at ε = {eps:g} one model alone is right on {counts[1] + counts[2]:,} "
        f"({counts[1]:,} for A, {counts[2]:,} for B); exact McNemar p = {chance}."
    )


def examples(curves: Sequence[Curve], names: Sequence[str], eps: float, shown: int = 8) -> Picture | None:
    """Draw images that both curves keep: original, attacked on A, attacked on B; different outcomes first."""
    kept = [curve.gallery() for curve in curves]
    shared = [int(index) for index in kept[0]["index"] if index in kept[1]["index"]]
    if not shared:
        return None
    places = [[list(arrays["index"]).index(index) for index in shared] for arrays in kept]
    read = [sweep_views.readings(curve, at, eps) for curve, at in zip(curves, places, strict=True)]
    classes = curves[0].model.card["class_names"]
    truth = [int(kept[0]["y"][place]) for place in places[0]]
    right = [[pred == y for (pred, _), y in zip(now, truth, strict=True)] for _, now in read]
    order = sorted(range(len(shared)), key=lambda k: right[0][k] == right[1][k])[:shown]
    steps = [curve.step(eps) for curve in curves]
    return gallery.show(
        [
            [kept[0]["x"][places[0][k]] for k in order],
            *(
                [arrays["x_adv"][step][at[k]] for k in order]
                for arrays, step, at in zip(kept, steps, places, strict=True)
            ),
        ],
        rows=["original", "against A", "against B"],
        captions=[
            [classes[truth[k]] for k in order],
            *([f"{classes[truth[k]]}→{classes[now[k][0]]}\n{now[k][1]:.0%}" for k in order] for _, now in read),
        ],
        legend="True class → what the model classifies the image made against it as, with its confidence.",
        alt=f"Images at ε = {eps:g} against {names[0]} and against {names[1]}",
        tile=84,
    )


def side_by_side(measured: Measured, eps: float) -> None:
    """Compare models A and B under one attack: how many images each classifies correctly, a test, examples."""
    by_attack: dict[str, dict[str, Curve]] = {}
    for curve in measured.curves:
        if curve.has(eps):
            by_attack.setdefault(curve.attack, {})[curve.sweep.model] = curve
    attacks = [attack for attack, cells in by_attack.items() if len(cells) >= 2]
    if not attacks:
        st.info(
            "Choose and run two models under the same attack at this ε to see them side by side.",
            icon=":material/info:",
        )
        return
    page, names = measured.page, measured.names
    left, middle, right = st.columns(3)
    with left:
        attack = select(page, "pair_attack", "Attack", attacks, kind="list")
    ids = list(by_attack[attack])
    with middle:
        a = select(page, "a", "Model A", ids, text=names.__getitem__, kind="list")
    with right:
        rest = [other for other in ids if other != a]
        b = select(page, "b", "Model B", rest, text=names.__getitem__, kind="list")
    pair = [by_attack[attack][a], by_attack[attack][b]]
    if len({curve.result.card["data"]["fingerprint"] for curve in pair}) > 1:
        st.warning("A and B were attacked on different images.", icon=":material/warning:")
        return
    counts = outcomes(pair[0], pair[1], eps)
    with st.grid(4, min_column_width=130):
        for text, count in zip(OUTCOMES, counts, strict=True):
            share = f"{count / max(1, sum(counts)):.1%} of {counted(sum(counts), 'image')}"
            st.metric(sentence_case(text), f"{count:,}", help=share)
    st.markdown(verdict([names[a], names[b]], counts, eps))
    st.caption("Each model is shown the images that the attack made against that model, from the same originals.")
    line = f"A: {pair[0].provenance()}\nB: {pair[1].provenance()}\nε {both(eps)}"
    picture = examples(pair, [names[a], names[b]], eps)
    with st.container(horizontal=True):
        if picture is not None:
            downloads.picture(page, picture, name="side_by_side", provenance=line)
        shares = [count / max(1, sum(counts)) for count in counts]
        table = pd.DataFrame({"images": list(OUTCOMES), "count": counts, "share": shares})
        downloads.table(page, table, name="side_by_side", provenance=line, formats=("csv",))


# ---------------------------------------------------------------- exports


def ranking(measured: Measured, eps: float) -> pd.DataFrame:
    """The ranked table at ε for files: shares from 0 to 1, ids, NaN for what is not known at this ε."""
    frame = ranking_views.ranked(measured, eps).rename(columns={"id": "model", "model": "name"})
    return frame.assign(eps=eps, norm=measured.norm, trust=[text.removeprefix("– ") for text in frame["trust"]])


def exports(
    page: str, made: comparison.Comparison, more: Mapping[str, pd.DataFrame], sources: Sequence[str] = ()
) -> None:
    """Draw buttons that download the table with every ε of every cell that has been run, as `files` makes it."""
    if made.table.empty:
        st.info("No sweep of these models has been run with these settings: there is no table.", icon=":material/info:")
        return
    with st.container(horizontal=True):
        for ending, (title, mime, content) in files(made, more, sources).items():
            st.download_button(
                title,
                content,
                file_name=f"model_comparison.{ending}",
                mime=mime,
                icon=":material/download:",
                key=f"{page}_download_{ending}",
                on_click="ignore",
            )


def files(
    made: comparison.Comparison, more: Mapping[str, pd.DataFrame], sources: Sequence[str] = ()
) -> dict[str, tuple[str, str, Any]]:
    """Ending → title of the button, media type, and content (for Excel a function that makes it).

    Args:
        made: the table of all formats.
        more: further tables by name, for JSON and Excel.
        sources: lines that say where these come from.
    """
    body = {
        "provenance": made.provenance(),
        "sources": list(sources),
        "spec": made.spec.model_dump(mode="json"),
        "models": json.loads(made.models.to_json(orient="records")),
        "rows": json.loads(made.table.to_json(orient="records", double_precision=15)),
        **{name: json.loads(table.to_json(orient="records", double_precision=15)) for name, table in more.items()},
        "warnings": made.warnings,
    }

    def excel() -> bytes:
        lines = [made.provenance(), *sources, *made.warnings]
        return workbook.to_excel({"figures": made.table, "models": made.models, **more}, lines)

    return {
        "csv": ("CSV", "text/csv", comparison.to_csv(made)),
        "md": ("Markdown", "text/markdown", comparison.to_markdown(made)),
        "tex": ("LaTeX", "application/x-tex", comparison.to_latex(made)),
        "json": ("JSON", "application/json", json.dumps(body, indent=1, ensure_ascii=False)),
        "xlsx": ("Excel", downloads.EXCEL, excel),
    }
