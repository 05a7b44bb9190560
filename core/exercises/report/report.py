"""The lab report: the items that are done, as one HTML file that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import date
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import core
from core.exercises import curves, evidence, notes, sets, written
from core.exercises.evidence import Evidence, Found
from core.exercises.items import SAY, ExerciseSet, Item
from core.exercises.report import blocks, page, svg
from core.storage import store

EPS_TITLE = "ε, in units of the pixel range [0, 1]"


def write(path: Path, root: Path | None = None, **options: Any) -> list[str]:
    """Write the report of the store at `root` (None: the usual one) to a file; options as in `html`.

    Returns the names of the items in it. Raises OSError.
    """
    root = store.default_root() if root is None else Path(root)
    known = evidence.gather(root, notes.read(root))
    Path(path).write_text(html(known, **options), encoding="utf-8")
    return [item.name for item in chosen(known, **{k: v for k, v in options.items() if k != "author"})]


def chosen(known: Evidence, *, with_bundled: bool = True, numbers: Collection[int] = tuple(sets.SETS)) -> list[Item]:
    """The items of a report: those that are done and, with `with_bundled`, those that bundled results show."""
    wanted = ("done", "bundled") if with_bundled else ("done",)
    return [item for k in sets.SETS if k in numbers for item in sets.SETS[k].items if item.status(known) in wanted]


def html(
    known: Evidence,
    *,
    with_bundled: bool = True,
    numbers: Collection[int] = tuple(sets.SETS),
    author: str = "",
) -> str:
    """The report as the text of an HTML file without a single request: pictures, charts and styles are inside.

    Args:
        known: what the store holds, with the notes.
        with_bundled: whether items are included that only bundled results show; they are labelled.
        numbers: the exercise sets.
        author: written under the title; the file leaves a space for it where it is empty.
    """
    included = chosen(known, with_bundled=with_bundled, numbers=numbers)
    body: list[str] = [_head(known, included, author)]
    seen: dict[str, str] = {}
    if not included:
        body.append(page.text("No item is done yet. Run an exercise in the dashboard, then make the report again."))
    for number in sets.SETS:
        mine = [item for item in sets.SETS[number].items if item in included]
        if mine:
            body += _set(known, sets.SETS[number], mine, with_bundled, seen)
    return page.document("Lab report: adversarial examples", body)


def _head(known: Evidence, included: list[Item], author: str) -> str:
    done = sum(item.status(known) == "done" for item in included)
    name = escape(author) or "your name"
    facts = (
        f"{date.today():%Y-%m-%d} · {len(included)} items, {done} of them done here, the others shown by bundled "
        f"results · Adversarial Lab {core.__version__}"
    )
    return (
        "<h1>Lab report: adversarial examples</h1>"
        f'<p contenteditable="true" role="textbox" aria-label="Name">{name}</p>'
        + page.text(facts)
        + page.text(
            "The boxes are for your answers: click into one and write, then print the page or save it. ε and distances "
            "are in units of the pixel range [0, 1]. Intervals are exact binomial ones (Clopper–Pearson, 95 %); a dash "
            "means that the figure is not known."
        )
    )


def _set(known: Evidence, one: ExerciseSet, items: list[Item], with_bundled: bool, seen: dict[str, str]) -> list[str]:
    parts = [f"<h2>Set {one.number}: {escape(one.title)}</h2>", page.text(one.about), *_central(known, one.number)]
    for item in items:
        parts += _item(known, item, with_bundled, seen)
    return parts


def _central(known: Evidence, number: int) -> list[str]:
    """The chart that a set is about, with published curves beside those of the store."""
    makers: dict[int, Callable[[], list[curves.Series]]] = {
        3: lambda: curves.set3_curves(known),
        4: curves.toy_curves,
        5: lambda: curves.set5_curves(known),
    }
    if number not in makers:
        return []
    lines = makers[number]()
    toy = number == 4
    words = (
        "Output f after each gradient step on x_A, for three rates"
        if toy
        else "Accuracy against ε under FGSM: filled circles from this store, open squares as published"
    )
    level = (0.5, "the class flips at ½") if toy else (0.1, "chance")
    chart = svg.chart(
        lines,
        alt=words,
        x_title="step" if toy else EPS_TITLE,
        y_title="f" if toy else "accuracy",
        level=level,
    )
    return [chart, page.text(words + "."), *(page.source(one.provenance()) for one in curves.sources(lines))]


def _item(known: Evidence, item: Item, with_bundled: bool, seen: dict[str, str]) -> list[str]:
    """`seen`: which item has shown an artifact before; each is shown once."""
    status = item.status(known)
    parts = [
        f'<h3>{escape(item.row)} {escape(item.title)} <span class="state {status}">{SAY[status]}</span></h3>',
        page.text(item.task),
    ]
    if item.figures:
        rows = [written.row(figure, figure.read(known)) for figure in item.figures]
        parts.append(page.table(written.HEAD, rows, caption="Published and measured", numbers=(1, 2, 3)))
    if item.quiz:
        parts += _quiz(known.notes.get("quiz", []))
    for found in _shown(item, known, with_bundled):
        before = seen.setdefault(found.artifact.id, item.row)
        parts.append(
            blocks.block(found) if before == item.row else page.source(f"Shown with item {before}: {found.artifact.id}")
        )
    parts += ["<h4>To discuss</h4>", page.bullets(item.discuss)]
    parts.append(page.answer(known.notes.get("answers", {}).get(item.name, ""), f"item {item.row}"))
    return parts


def _shown(item: Item, known: Evidence, with_bundled: bool) -> list[Found]:
    found = [one for group in item.found(known) for one in group if with_bundled or not one.bundled]
    return list({one.artifact.id: one for one in found}.values())


def _quiz(rows: list[dict[str, Any]]) -> list[str]:
    models = list(dict.fromkeys(name for row in rows for name in row.get("models", {})))
    table = page.table(
        ("ε", "images", "you", *models),
        [
            (
                f"{row['eps']:g}",
                row["asked"],
                written.share(row["right"] / row["asked"]) if row["asked"] else None,
                *(
                    written.share(row["models"][name] / row["asked"]) if name in row.get("models", {}) else None
                    for name in models
                ),
            )
            for row in rows
        ],
        caption="The quiz: the same images, classified by you and by the models",
        numbers=range(3 + len(models)),
    )
    lines = [_line(rows, "you", 0, lambda row: row["right"])]
    lines += [_line(rows, name, place, partial(_of_model, name=name)) for place, name in enumerate(models, start=1)]
    chart = svg.chart(lines, alt="Your accuracy and the models' at each ε", x_title=EPS_TITLE, y_title="accuracy")
    return [table, chart]


def _of_model(row: dict[str, Any], name: str) -> int:
    return int(row.get("models", {}).get(name, 0))


def _line(rows: list[dict[str, Any]], name: str, place: int, count: Callable[[Any], float]) -> curves.Series:
    asked = [row for row in rows if row["asked"]]
    return curves.Series(
        name, tuple(row["eps"] for row in asked), tuple(count(row) / row["asked"] for row in asked), place=place
    )
