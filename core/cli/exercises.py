"""The command `report`, and the page of the docs that lists the exercises."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from core.checks import check_choice
from core.cli.flags import path
from core.cli.output import note, show
from core.exercises import sets, written
from core.exercises.report import report as lab
from core.storage import store


def report_flags(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Where the report is written, and what is in it."""
    command.add_argument(
        "--out", type=path, default="lab.html", metavar="FILE", help="file to write. Default: lab.html"
    )
    command.add_argument(
        "--sets", nargs="+", type=int, metavar="N", help="exercise sets, some of 1 to 5. Default: all of them"
    )
    command.add_argument(
        "--own",
        action="store_true",
        help="leave out the items that only bundled results show. Default: they are included and labelled",
    )
    command.add_argument("--author", default="", help="name under the title")


def report(options: dict[str, Any], as_json: bool) -> None:
    """Write the report of the store and list the items in it."""
    numbers = options.get("sets") or tuple(sets.SETS)
    for number in numbers:
        check_choice("sets", number, tuple(sets.SETS))
    names = lab.write(
        options["out"],
        store.default_root(),
        with_bundled=not options["own"],
        numbers=numbers,
        author=options["author"],
    )
    if not names:
        note("No item is done yet: the report has no results.")
    show({"report": options["out"], "items": names if as_json else ", ".join(names) or None}, as_json)


def exercises(made: str) -> str:
    """The page of the docs: every row of the exercise sheets, the page where it is done, its links."""
    return made + "\n" + "\n\n".join(_parts()) + "\n"


def _parts() -> Iterator[str]:
    yield "# Exercises"
    yield (
        "The five exercise sets, row by row. The page *Exercises* of the dashboard has the same list with a button for "
        "each link, published figures beside yours, and the lab report, which `python -m core report` writes too. "
        "The links are for a machine that has MNIST; without it, the buttons of the page lead to the embedded digits."
    )
    for one in sets.SETS.values():
        yield f"## Set {one.number}: {one.title}"
        yield one.about
        for item in one.items:
            yield f"### {item.row}: {item.title}"
            yield item.task
            yield "\n".join(
                ["| button | page | link |", "| --- | --- | --- |"]
                + [f"| {link.label} | `{link.page}` | `{link.address('mnist')}` |" for link in item.links]
            )
            yield "Done when: " + (
                "the quiz was answered."
                if item.quiz
                else "you tick it; it leaves nothing in the store."
                if item.by_hand
                else "; ".join(f"there is {need.what}" for need in item.needs) + "."
            )
            if known := [figure for figure in item.figures if figure.published is not None]:
                yield "\n".join(
                    ["| figure | published | by |", "| --- | ---: | --- |"]
                    + [f"| {figure.name} | {written.published(figure)} | {figure.source} |" for figure in known]
                )
            yield "To discuss: " + " ".join(item.discuss)
