"""Commands that judge models: compare, evaluate, trust, radii, curve, audit, certify."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from core.checks import check_choice
from core.cli import gate
from core.cli.flags import add_fields, given, number, path
from core.cli.output import about, artifacts, images, note, show
from core.data import shown
from core.epsilon import same
from core.models import trained_on
from core.specs import DEFAULT_EPS, METHODS, CertifySpec, CompareSpec, DataSpec, EvaluateSpec, Norm, RadiiSpec
from core.specs.base import settings_in
from core.storage import store

if TYPE_CHECKING:
    from core.evaluation.tables.records import Record


def compare_flags(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Flags for the fields of the task; the attacks are many, so each has its settings in its own word."""
    add_fields(command, CompareSpec, leave_out=("attacks",))
    command.add_argument("--attacks", nargs="+", metavar="NAME[:FIELD=VALUE,…]", help=f"some of {', '.join(METHODS)}")


def compare(options: dict[str, Any], as_json: bool) -> None:
    """Sweep several models by several attacks and show one table."""
    from core.evaluation.tables import comparison

    options = given(options)
    options["attacks"] = [_method(text) for text in options.get("attacks", ["fgsm"])]
    spec = CompareSpec.model_validate(options)
    artifacts(spec)
    made = comparison.compare(spec, store.default_root())
    for warning in made.warnings:
        note(warning)
    if as_json:
        rows = cast(list[dict[str, Any]], made.table.to_dict("records"))
        show([{**row, "seed": spec.seed, **images(made.spec.data)} for row in rows], as_json)
    else:
        print(comparison.to_markdown(made))


def _method(text: str) -> dict[str, Any]:
    """`pgd:norm=l2,steps=100` as the fields of a method."""
    name, _, settings = text.partition(":")
    check_choice("attacks", name, METHODS)
    return {"name": name, **settings_in(settings)}


def evaluate(options: dict[str, Any], as_json: bool) -> None:
    """Evaluate a model and show its robust accuracy, and whether it is a reliable estimate.

    Raises:
        gate.Failed: the result is below what was asked for, or must not be used.
    """
    from core.evaluation.robust.edition import remark

    wanted = gate.taken(options)
    spec = EvaluateSpec.model_validate(given(options))
    (artifact,) = artifacts(spec)
    trust = artifact.card["trust"]
    warning = _warning(trust)
    _note_fewer(spec, artifact)
    for text in artifact.card["notes"]:
        note(text)
    if older := remark(artifact.card):
        note(f"{older} Evaluate again with another seed to measure with the present one.")
    named = {"norm": spec.norm, "eps": spec.eps, "effort": spec.effort, "seed": spec.seed}
    metrics = dict(artifact.card["metrics"])
    if artifact.card.get("certificate") is None and not metrics["proven_accuracy"]:
        metrics["proven_accuracy"] = None  # no proof was tried, or (in older results) nobody knows
        note("proven_accuracy: unknown, because no proof was tried in this norm on this network")
    if wanted.asked:
        _cases(wanted, spec, metrics, trust, warning)
    show(
        {
            "usable": not warning if as_json else "NO, see above" if warning else "yes",
            **({"warning": warning} if as_json else {}),
            **about(artifact),
            **named,
            **metrics,
            "left_to_find": _left_to_find(artifact.card, as_json),
            "trust": trust if as_json else trust and trust["verdict"],
            "result": str(artifact.folder),
            **(wanted.row() if as_json else {}),
        },
        as_json,
    )
    _close(wanted, artifact, named | {"n": metrics["n"]})


def _left_to_find(card: Mapping[str, Any], as_json: bool) -> Any:
    """What a search of AutoAttack's strength would still fool; None where that is not known."""
    from core.evaluation.robust.left_to_find import LeftToFind

    found = LeftToFind.from_json(card.get("left_to_find"))
    return found if found is None else found.to_json() if as_json else found.said


def _cases(
    wanted: gate.Gate, spec: EvaluateSpec, metrics: Mapping[str, Any], trust: Mapping[str, Any] | None, warning: str
) -> None:
    """What a gate asks of an evaluation: the attacked accuracy, whether it may be used, each reliability check.

    The attacked accuracy is the share that no attack fooled, so the true one is at most that.
    """
    n, interval = f"n = {metrics['n']:,}", f"95 % interval {metrics['low']:.3f}–{metrics['high']:.3f}"
    where = f"({spec.norm}, ε = {spec.eps:g}, {n}, {interval})"
    wanted.at_least("robust accuracy", metrics["robust_accuracy"], wanted.fail_under, where)
    wanted.at_least("clean accuracy", metrics["clean_accuracy"], wanted.fail_under_clean, f"({n})")
    said = f"this accuracy must not be used: {warning}" if warning else "nothing forbids using this accuracy"
    wanted.add("the robust accuracy may be used", "fail" if warning else "pass", said)
    for check in trust["checks"] if trust else ():
        bad = bool(warning) and check["verdict"] == "fail" and check["name"] in gate.UNUSABLE
        outcome: gate.Outcome = "fail" if bad else "skipped" if check["verdict"] == "skipped" else "pass"
        wanted.add(f"reliability: {check['title']}", outcome, f"{check['verdict']}: {check['finding']}")


def _close(wanted: gate.Gate, artifact: store.Artifact, named: Mapping[str, Any]) -> None:
    """Write a gate's report, under the name of what was measured. Raises `gate.Failed` where it does not pass."""
    task, about_it = artifact.card["task"], about(artifact)
    title = f"{task} {', '.join(about_it.values())} {named['norm']} ε = {named['eps']:g}"
    wanted.close(artifact, title, {"task": task, **about_it, **named})


def _warning(trust: Mapping[str, Any] | None) -> str:
    """Print first why the accuracies of an evaluation must not be used; "" where nothing forbids it."""
    from core.evaluation.trust.report import Trust

    warning = "" if trust is None else Trust.from_json(trust).warning
    if warning:
        note(f"DO NOT USE THIS ACCURACY. {warning}")
    return warning


def _note_fewer(spec: EvaluateSpec | RadiiSpec, artifact: store.Artifact) -> None:
    """Print a note where the test set has fewer images than were requested."""
    n = artifact.card["n"]
    if n < spec.n and "n" in spec.model_fields_set:
        note(f"n: the test set has {n:,} images, {spec.n:,} were requested")


def _note_changed(model: store.Artifact) -> None:
    """Print a note where stored results are about an image folder that has changed since."""
    if text := trained_on.changed(model):
        note(f"{text.removeprefix('model: ')} The results shown here were measured on the folder as it was.")


def trust_flags(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Which model, and which of its evaluations."""
    command.add_argument("--model", required=True, metavar="ID", help="a saved model that was evaluated")
    _data_flag(command)
    command.add_argument("--norm", choices=get_args(Norm), default="linf", help="what ε is measured in")
    command.add_argument("--eps", type=number, help="show the evaluation at this ε. Default: the newest one.")


def trust(options: dict[str, Any], as_json: bool) -> None:
    """Print the reliability checks of a stored evaluation, failed ones first. Nothing is run."""
    from core.evaluation.trust.report import MARKS, Trust

    norm, root = options["norm"], store.default_root()
    model, data = store.open_model(options["model"], root), _data(options)
    if data is None:
        _note_changed(model)
    stored = [
        result
        for result in store.results(model.id, root, "evaluate", data=data)
        if result.card["norm"] == norm and result.card["trust"]
    ]
    if not stored:
        on = "" if data is None else f" on {shown.title(data)}"
        raise ValueError(
            f"model: expected one that was evaluated in {norm}{on}, got {model.id!r}: run `evaluate` first"
        )
    wanted = options["eps"]
    fitting = [result for result in stored if wanted is None or same(result.card["eps"], wanted)]
    if not fitting:
        made = ", ".join(f"{eps:g}" for eps in sorted({result.card["eps"] for result in stored}))
        raise ValueError(
            f"eps: expected one at which {model.id} was evaluated in {norm} ({made}), got {wanted:g}: the checks "
            f"say nothing about another ε; run `evaluate --model {model.id} --norm {norm} --eps {wanted:g}`"
        )
    artifact = fitting[0]
    report = Trust.from_json(artifact.card["trust"])
    _warning(artifact.card["trust"])
    rows = [
        {"verdict": f"{MARKS[check.verdict]} {check.verdict}", "check": check.title, "measured": check.said}
        | {"limits": check.limits, "what to do": check.advice if check in report.doubts() else ""}
        for check in sorted(report.checks, key=lambda check: list(MARKS).index(check.verdict))
    ]
    where = ", ".join(about(artifact).values())
    note(f"{where}, {norm}, ε = {report.eps:g}, {artifact.card['effort']}: {report.line()}")
    show({**about(artifact), "result": artifact.id, **report.to_json()} if as_json else rows, as_json)


def radii(options: dict[str, Any], as_json: bool) -> None:
    """Find the smallest perturbation of each test image and show their summary."""
    spec = RadiiSpec.model_validate(given(options))
    (artifact,) = artifacts(spec)
    card = artifact.card
    _note_fewer(spec, artifact)
    named = {**about(artifact), "norm": spec.norm, "budget": spec.budget}
    show({**named, **card["metrics"], "seconds": card["seconds"], "result": str(artifact.folder)}, as_json)


def certify(options: dict[str, Any], as_json: bool) -> None:
    """Certify test images and show the proven accuracy.

    Raises:
        gate.Failed: the result is below what was asked for.
    """
    wanted = gate.taken(options)
    spec = CertifySpec.model_validate(given(options))
    if wanted.asked and spec.eps is None:
        raise ValueError(
            "fail_under: expected a method that proves at one ε, got smoothing, which finds a radius for each image"
        )
    (artifact,) = artifacts(spec)
    card = artifact.card
    named = {**about(artifact), "method": spec.method, "norm": spec.norm, "eps": spec.eps}
    rest = {"seconds": card["seconds"], "seed": spec.seed, "result": str(artifact.folder)}
    metrics = card["metrics"]
    if wanted.asked:
        where = f"({spec.method}, {spec.norm}, ε = {spec.eps:g}, n = {metrics['n']:,})"
        wanted.at_least("proven accuracy", metrics["proven_accuracy"], wanted.fail_under, where)
        wanted.at_least("clean accuracy", metrics["clean_accuracy"], wanted.fail_under_clean, f"(n = {metrics['n']:,})")
    show({**named, **metrics, **rest, **(wanted.row() if as_json else {})}, as_json)
    if wanted.asked:
        _close(wanted, artifact, {**named, "n": metrics["n"], "seed": spec.seed})


def curve_flags(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Which models, and where to look."""
    command.add_argument("--models", nargs="+", required=True, metavar="ID", help="saved models of one data set")
    _data_flag(command)
    command.add_argument("--norm", choices=get_args(Norm), default="linf", help="what ε is measured in")
    shown_at = " ".join(f"{eps:g}" for eps in DEFAULT_EPS)
    command.add_argument(
        "--eps", nargs="+", type=number, metavar="EPS", help=f"where to look. Default: {shown_at}. A gate needs it."
    )
    command.add_argument("--n", type=int, help="only the first n images")
    gate.add_flags(command, "robust accuracy of a model at one of the ε")


def curve(options: dict[str, Any], as_json: bool) -> None:
    """Look accuracies up in stored results, and test their differences.

    Raises:
        gate.Failed: an accuracy is below what was asked for, or not known.
    """
    from core.evaluation.tables import paired, records

    wanted = gate.taken(options)
    if wanted.asked and options["eps"] is None:
        raise ValueError("eps: expected at least one ε at which the gate looks, such as 8/255, got none")
    values = sorted(DEFAULT_EPS if options["eps"] is None else set(options["eps"]))
    models, norm, root, data = options["models"], options["norm"], store.default_root(), _data(options)
    if data is None and len({str(store.open_model(model, root).card["spec"]["data"]) for model in models}) > 1:
        raise ValueError("models: expected models of one data set, got several; name images for all of them in `data`")
    found = {}
    for model in models:
        record = records.load(model, norm, root, n=options["n"], data=data)
        if record is None:
            on = "" if data is None else f" on {shown.title(data)}"
            raise ValueError(
                f"models: expected models with radii or another result in {norm}{on}, got {model!r} without"
            )
        found[record.model] = record
        if data is None:
            _note_changed(store.open_model(record.model, root))
    for record in found.values():
        if not record.searched:
            note(
                f"{record.model}: {record.search or 'single attacks only'} in {norm}; run `radii` to search all images"
            )
        for name in record.left_out:
            note(f"{record.model}: {name} was measured on other images and is left out")
        for row in record.contradictions.to_dict("records"):
            note(f"{record.model}: a proof and an adversarial example contradict each other: {row}")
    shared = dict(zip(found, records.common(list(found.values())), strict=True))
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    tests = []
    for value in values:
        for model, record in shared.items():
            (at,) = cast(list[dict[str, Any]], records.curve(record, [value]).to_dict("records"))
            rows.append({"model": model, **images(data), **at})
            notes += [f"{model}, ε = {value:g}: {at['note']}"] if at["note"] else []
            if at["single_attacks"]:
                weak = (
                    f"only single attacks were run on {at['single_attacks']} of {at['n']} images that count as robust"
                )
                notes.append(f"{model}, ε = {value:g}: {weak}; run `radii`, or `evaluate` at this ε")
        table = records.tests(shared, value)
        tests += [{"eps": value, **row} for row in table.to_dict("records")]
    if wanted.asked:
        _curve_cases(wanted, shared, rows, norm)
    if as_json:
        show({"norm": norm, "curves": rows, "tests": tests, **wanted.row()}, as_json)
    else:
        show([{name: value for name, value in row.items() if name != "note"} for row in rows], as_json)
        for text in notes:
            print(text)
        for row in tests:
            print(f"ε = {row['eps']:g}: {paired.sentence(cast(Mapping[str, object], row))}")
    at_all = " ".join(f"{value:g}" for value in values)
    properties = {"task": "curve", "models": ", ".join(shared), **images(data), "norm": norm, "eps": at_all}
    wanted.close(None, f"curve {', '.join(shared)} {norm} ε = {at_all}", properties)


def _curve_cases(
    wanted: gate.Gate, shared: Mapping[str, Record], rows: Sequence[Mapping[str, Any]], norm: Norm
) -> None:
    """What a gate asks of curves: of each model the clean accuracy, and the attacked one at each ε.

    An accuracy that is reached only because single attacks did not fool some images passes no gate; neither does that
    of a model of which a proof and an adversarial example contradict each other.
    """
    from core.evaluation.tables import records

    for model, record in shared.items():
        clean = float(records.curve(record, [0.0])["attacked"].iloc[0])
        known = None if isnan(clean) else clean
        wanted.at_least(f"clean accuracy of {model}", known, wanted.fail_under_clean, f"(n = {len(record):,})")
        if len(record.contradictions):
            said = "a proof and an adversarial example contradict each other"
            wanted.add(f"the accuracies of {model} may be used", "fail", f"{model}: {said}")
    for row in rows:
        name, least, found = f"robust accuracy of {row['model']}", wanted.fail_under, float(row["attacked"])
        interval = f"95 % interval {row['attacked_low']:.3f}–{row['attacked_high']:.3f}"
        where = f"({norm}, ε = {row['eps']:g}, n = {row['n']:,}, {interval})"
        sure = found - row["single_attacks"] / max(1, row["n"])
        if isnan(found):
            wanted.at_least(name, None, least, f"({norm}, ε = {row['eps']:g}): run `evaluate` there, or `radii`")
        elif least is not None and found >= least - gate.ROUNDING > sure:
            said = f"only single attacks were run on {row['single_attacks']} of the images that count as robust"
            wanted.add(name, "fail", f"{name} {found:.4g} is not known to be {least:g} {where}: {said}")
        else:
            wanted.at_least(name, found, least, where)


def _data_flag(command: argparse.ArgumentParser) -> None:
    """The flag of the data set that stored results are about."""
    command.add_argument(
        "--data",
        metavar="NAME",
        help="results on the images of this data set: NAME, NAME:CLASS,CLASS or folder:PATH. Default: the models' own.",
    )


def _data(options: Mapping[str, Any]) -> DataSpec | None:
    return None if options["data"] is None else DataSpec.model_validate(options["data"])


def audit_flags(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Which table."""
    command.add_argument("file", type=path, help="CSV, Markdown, LaTeX or plain text; - for standard input")


def audit(options: dict[str, Any], as_json: bool) -> None:
    """Check each row of a table and show the verdicts."""
    from core.evaluation.tables import auditor

    file = options["file"]
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"file: expected text in UTF-8, got {file!r}") from None
    findings = auditor.audit(text)
    show(
        [
            {
                "row": finding.row.label,
                "verdict": finding.verdict,
                "finding": finding.note,
                "could_be": "; ".join(f"{name} {new} instead of {old}" for name, old, new in finding.misprints),
            }
            for finding in findings
        ],
        as_json,
    )
