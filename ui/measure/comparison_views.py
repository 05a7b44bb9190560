"""The parts of the comparison page: the table of models, set 3's tables, two models on the same images, the exports."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from core import specs
from core.epsilon import same
from core.evaluation.tables import comparison, paired, workbook
from core.storage import store
from ui.measure import sweep_views
from ui.measure.sweep_views import Curve
from ui.show import downloads, gallery, model_names
from ui.show.sheet import Picture
from ui.text import PERCENT, in_percent, percent_interval

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


def models_table(
    page: str, spec: specs.CompareSpec, models: Sequence[store.Artifact], curves: Sequence[Curve], eps: float
) -> None:
    """Draw a row for each model: test accuracy, accuracy at ε and the curve under each attack, size, training time."""
    names = model_names.short_names(models)
    by_cell = {(curve.sweep.model, sweep_views.attack_text(curve.sweep.attack)): curve for curve in curves}
    attacks = [sweep_views.attack_text(method) for method in spec.attacks]
    rows = []
    for model in models:
        card: dict[str, Any] = comparison.model_row(model)
        row = {
            "Model": names[model.id],
            "Test": card["test_accuracy"],
            "Test, interval": percent_interval(card["test_low"], card["test_high"]),
        }
        for attack in attacks:
            curve = by_cell.get((model.id, attack))
            at = curve.at(eps) if curve else {}
            row[attack] = at.get("accuracy")
            row[f"{attack}, interval"] = percent_interval(at["low"], at["high"]) if at else None
            row[f"{attack}, passes"] = comparison.passes(at)
            row[f"{attack}, curve"] = [line["accuracy"] for line in curve.rows] if curve else None
        rows.append({**row, "Parameters": card["parameters"], "Training": card["seconds"], "Id": model.id})
    st.dataframe(
        in_percent(pd.DataFrame(rows), ["Test", *attacks]),
        hide_index=True,
        placeholder="–",
        key=f"{page}_models_table",
        alt=f"Models with their accuracy under each attack at ε = {eps:g}",
        column_config={
            "Model": st.column_config.TextColumn(pinned=True),
            "Test": st.column_config.NumberColumn(
                format=PERCENT, help="Accuracy on the whole test set, unchanged, when the model was trained."
            ),
            "Parameters": st.column_config.NumberColumn(format="localized"),
            "Training": st.column_config.NumberColumn(format="%.0f s", help="Time that training took."),
            **{
                attack: st.column_config.NumberColumn(
                    f"{attack} at {eps:g}", format=PERCENT, help="Share of the n images still read correctly."
                )
                for attack in attacks
            },
            **{
                f"{attack}, passes": st.column_config.TextColumn(
                    "Passes",
                    help="Model evaluations per image (forward + backward passes) of the search that its verdict at "
                    "this ε rests on, with one look at the result. –: not counted for this ε alone.",
                )
                for attack in attacks
            },
            **{f"{which}, interval": st.column_config.TextColumn("95 %") for which in ("Test", *attacks)},
            **{
                f"{attack}, curve": st.column_config.LineChartColumn(
                    f"ε {min(spec.eps):g}–{max(spec.eps):g}", y_min=0, y_max=1, width="small"
                )
                for attack in attacks
            },
        },
    )


def set_three(page: str, models: Sequence[store.Artifact], curves: Sequence[Curve], eps: float) -> None:
    """Draw exercise set 3's table for each model: the five metrics, clean and under each attack, on the same images."""
    names = model_names.short_names(models)
    with st.grid(2, min_column_width=330, gap="medium"):
        for model in models:
            own = [curve for curve in curves if curve.sweep.model == model.id]
            with st.container():
                st.markdown(f"**{names[model.id]}**")
                if not own:
                    st.caption("Not run yet.")
                    continue
                columns = {"clean": clean_row(own[0])}
                columns |= {sweep_views.attack_text(curve.sweep.attack): curve.at(eps) for curve in own}
                frame = pd.DataFrame(
                    {name: [_text(row[key], key) for key in LAYOUT] for name, row in columns.items()},
                    index=pd.Index(LAYOUT.values(), name=f"n = {own[0].rows[0]['n']:,}"),
                )
                st.table(frame, alt=f"Five metrics of {names[model.id]}, clean and at ε = {eps:g}")
    st.caption(
        "Calibration gap = confidence − correctly predicted: above 0, the model is surer than it is right. “Clean” is "
        "measured on the same n images."
    )


def clean_row(curve: Curve) -> Mapping[str, Any]:
    """The five metrics on the curve's images without any change."""
    if curve.rows[0]["eps"] == 0:
        return curve.rows[0]
    from core.evaluation.tables import metrics  # imports SciPy, which takes a moment

    tests = curve.tests().loc[curve.images()["index"].unique()]
    return metrics.five_metrics(tests["y"].to_numpy(), tests["pred"].to_numpy(), tests["confidence"].to_numpy()).row()


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
        start = f"**{ahead}** reads more of them, beyond what chance explains"
    else:
        start = f"**{ahead}** reads more of them, but chance alone could do that"
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
        legend="True class → how the model reads the image made against it, with its confidence.",
        alt=f"Images at ε = {eps:g} against {names[0]} and against {names[1]}",
        tile=84,
    )


# ---------------------------------------------------------------- exports


def exports(
    page: str, made: comparison.Comparison, more: Mapping[str, pd.DataFrame], sources: Sequence[str] = ()
) -> None:
    """Draw buttons that download the table with every ε of every cell that has been run, as `files` makes it."""
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
