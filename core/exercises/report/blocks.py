"""A stored model or result as a part of a report: its table, its chart, its pictures, and where they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from core import specs
from core.exercises import curves, written
from core.exercises.evidence import Found, count
from core.exercises.report import page, svg
from core.figures import pixels
from core.storage import store

SHOWN = 5
"""Images of a result that are shown."""
METRICS: dict[str, tuple[str, str]] = {
    "test_accuracy": ("test accuracy", "share"),
    "clean_accuracy": ("clean accuracy", "share"),
    "robust_accuracy": ("robust accuracy", "share"),
    "proven_accuracy": ("proven accuracy", "share"),
    "success_rate": ("success rate", "share"),
    "fooling_rate": ("held-out images fooled", "share"),
    "noise_rate": ("fooled by noise of the same size", "share"),
    "fit_rate": ("fooled of the images that it was made from", "share"),
    "mean_share": ("share of transformations that fool, mean", "share"),
    "median_distance": ("median smallest perturbation found", ""),
    "median_proven": ("median radius proven safe", ""),
    "median_pixels": ("median number of pixels changed", "pixels"),
    "median_l2": ("median ℓ2 distance", ""),
    "median_linf": ("median ℓ∞ distance", ""),
    "median_confidence": ("median confidence of the adversarial examples", "share"),
    "linf": ("ℓ∞ norm of the perturbation", ""),
    "l2": ("ℓ2 norm of the perturbation", ""),
}
"""What a card's metrics are called, and their units; others are left out."""
INTERVALS = {
    "test_accuracy": ("test_low", "test_high"),
    **dict.fromkeys(("success_rate", "fooling_rate", "robust_accuracy"), ("low", "high")),
}


def block(found: Found) -> str:
    """Everything of one artifact. A damaged file is said in its place."""
    makers: dict[str, Callable[[Found], list[str]]] = {
        "train": _model,
        "sweep": _sweep,
        "attack": _attack,
        "universal": _universal,
        "pattern": _pattern,
        "transfer": _transfer,
    }
    make = makers.get(specs.task_name(found.spec), _metrics)
    try:
        parts = make(found)
    except (store.DamagedArtifact, ValueError, OSError) as error:
        parts = [page.text(f"The files of {found.artifact.id} cannot be read: {error}")]
    return "".join([*parts, page.source(found.provenance())])


def _metrics(found: Found) -> list[str]:
    metrics: dict[str, Any] = found.artifact.card.get("metrics") or {}
    n = count(found.artifact)
    wanted = ("test_accuracy",) if isinstance(found.spec, specs.TrainSpec) else METRICS  # others have an n of their own
    rows = []
    for name, (title, unit) in METRICS.items():
        if name not in wanted or metrics.get(name) is None:
            continue
        low, high = (metrics.get(end) for end in INTERVALS.get(name, ("", "")))
        between = f"{written.share(low, n)} to {written.share(high, n)}" if low is not None and high is not None else ""
        rows.append((title, written.number(metrics[name], unit, n), between))
    if not rows:
        return []
    caption = f"{_title(found)}" + (f", n = {n:,}" if n else "")
    return [page.table(("figure", "value", "95 % interval"), rows, caption=caption, numbers=(1, 2))]


def _title(found: Found) -> str:
    task = specs.task_name(found.spec)
    if task == "train":
        return found.name()
    method = getattr(found.attack, "title", "")
    return method or {"radii": "Smallest perturbations", "evaluate": "Evaluation", "certify": "Proof"}.get(task, task)


def _model(found: Found) -> list[str]:
    card = found.artifact.card
    parts = _metrics(found)
    lines = curves.epochs(found)
    layers = card.get("network", {}).get("parameters")
    facts = [f"{layers:,} parameters" if layers else "", f"{card['timing']['seconds']:,.0f} s of training"]
    parts.append(page.text(" · ".join(part for part in facts if part)))
    if lines and len(lines[0].x) > 1:
        parts.append(
            svg.chart(
                lines,
                alt=f"Accuracy by epoch of {found.name()}",
                x_title="epoch",
                y_title="accuracy",
            )
        )
    return parts


def _sweep(found: Found) -> list[str]:
    rows = found.artifact.card["rows"]
    line = curves.of_sweep(found, "accuracy with its 95 % interval")
    sure = curves.of_sweep(found, "mean confidence", 1, "confidence")
    chart = svg.chart(
        [line, sure],
        alt=f"Accuracy and confidence against ε of {found.name()} under {found.attack.title}",
        x_title="ε, in units of the pixel range [0, 1]",
        y_title="accuracy, confidence",
    )
    columns = ("accuracy", "low", "high", "confidence", "confidence_correct", "confidence_wrong")
    table = page.table(
        ("ε", "ε in grey levels", "accuracy", "95 % from", "to", "confidence", "when correct", "when wrong", "n"),
        [
            (
                f"{row['eps']:g}",
                f"{255 * row['eps']:.4g}/255",
                *(None if row.get(name) is None else written.share(row[name], row["n"]) for name in columns),
                f"{row['n']:,}",
            )
            for row in rows
        ],
        caption=f"{found.attack.title} on {found.name()}",
        numbers=range(9),
    )
    return [chart, table, *_gallery(found)]


def _gallery(found: Found) -> list[str]:
    kept, seen = found.artifact.arrays("gallery"), found.artifact.table("images")
    names = found.artifact.card["class_names"]
    places = range(min(SHOWN, len(kept["index"])))
    pictures, captions, rows = [], [], []
    for step, eps in enumerate(kept["eps"]):
        at = seen[np.isclose(seen["eps"], eps, rtol=1e-12, atol=0)].set_index("index")
        pictures.append([kept["x_adv"][step, place] for place in places])
        captions.append([f"{names[int(kept['y'][k])]}→{names[int(at.loc[kept['index'][k], 'pred'])]}" for k in places])
        rows.append(f"ε = {eps:.3g}")
    if not len(places):
        return []
    return [
        page.text("The same images at every ε, each with its true class and the class that the model gives it."),
        page.images(pictures, alt="Adversarial example", rows=rows, captions=captions),
    ]


def _attack(found: Found) -> list[str]:
    arrays, table = found.artifact.arrays("images"), found.artifact.table("images")
    names = found.artifact.card["class_names"]
    parts = _metrics(found)
    if getattr(found.spec, "target", None) == "all":
        return [*parts, *_grid(arrays, table, names)]
    rows = [int(row) for row in table["row"][:SHOWN]]
    changes = [arrays["x_adv"][row] - arrays["x"][row] for row in rows]
    gain = pixels.gain_for(changes)
    captions = [
        [names[int(table["y"][row])] for row in rows],
        ["" for _ in rows],
        [
            f"→ {names[int(table['pred'][row])]}{'' if table['success'][row] else ', not fooled'}, "
            f"{int(table['pixels'][row])} pixels"
            for row in rows
        ],
    ]
    pictures = [
        [arrays["x"][row] for row in rows],
        [pixels.difference(change, gain) for change in changes],
        [arrays["x_adv"][row] for row in rows],
    ]
    labels = ("original", f"change × {gain:g}", "adversarial")
    note = "Change: red is brighter, blue is darker than before."
    return [*parts, page.images(pictures, alt="", rows=labels, captions=captions, wide=84), page.text(note)]


def _grid(arrays: dict[str, np.ndarray], table: Any, names: list[str]) -> list[str]:
    pictures, captions, labels = [], [], []
    classes = sorted(set(table["target"]))
    for index in list(dict.fromkeys(table["index"]))[:SHOWN]:
        mine = table[table["index"] == index].set_index("target")
        first = mine.iloc[0]
        pictures.append([arrays["x"][int(first["row"])], *(arrays["x_adv"][int(mine.loc[k, "row"])] for k in classes)])
        captions.append(
            [
                "original",
                *(
                    "true class"
                    if k == first["y"]
                    else f"→ {names[int(mine.loc[k, 'pred'])]}, {100 * mine.loc[k, 'confidence']:.0f} %"
                    for k in classes
                ),
            ]
        )
        labels.append(f"{names[int(first['y'])]} (#{index})")
    columns = ["sample", *(f"as {names[k]}" for k in classes)]
    return [page.images(pictures, alt="", rows=labels, columns=columns, captions=captions)]


def _universal(found: Found) -> list[str]:
    delta = found.artifact.arrays("perturbation")["delta"]
    gain = pixels.gain_for([delta])
    picture = pixels.difference(delta, gain)
    shown = page.images([[picture]], alt="The perturbation", rows=(f"perturbation × {gain:g}",), wide=140)
    return [*_metrics(found), shown, *_before_after(found)]


def _pattern(found: Found) -> list[str]:
    return [*_metrics(found), *_before_after(found)]


def _before_after(found: Found) -> list[str]:
    kept = found.artifact.arrays("held_out")
    places = range(min(SHOWN, len(kept["x"])))
    names = found.artifact.card["class_names"]
    pictures = [[kept["x"][k] for k in places], [kept["x_adv"][k] for k in places]]
    captions = [[names[int(kept["y"][k])] for k in places], ["" for _ in places]]
    labels = ("held-out image", "with the change")
    return [page.images(pictures, alt="", rows=labels, captions=captions, wide=84)]


def _transfer(found: Found) -> list[str]:
    rows = [
        (row["surrogate"], row["victim"], written.share(row["rate"], row["counted"]), f"{row['counted']:,}")
        for row in found.artifact.card["rows"]
    ]
    return [page.table(("made on", "shown to", "fooled", "n"), rows, caption="Transfer", numbers=(2, 3))]
