"""The command line, made from the specs: `python -m core COMMAND --help`; `python -m core --help` lists the commands.

Flags are the specs' fields. Results go to standard output (`--json`: as JSON), progress and errors to standard error;
exit status 0, or 2 for a request that is refused, or 1 for one that fails.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, cast, get_args, get_origin

import pandas as pd
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from tabulate import tabulate

from core import reference, running, store
from core.data_folder import DataMissing
from core.specs import (
    DEFAULT_EPS,
    METHODS,
    PRESETS,
    RECIPES,
    TASKS,
    UNIVERSAL_METHODS,
    AttackSpec,
    CertifySpec,
    CompareSpec,
    DataSpec,
    EvaluateSpec,
    Minimum,
    Norm,
    PatternSpec,
    RadiiSpec,
    Spec,
    SweepSpec,
    Task,
    TrainSpec,
    TransferSpec,
    UniversalSpec,
    explain,
    preset,
)

_SUMMARIES = {
    "train": "train a model, or find it in the store",
    "models": "list the saved models",
    "reference": "list the reference models; named, make them anew: train, measure, put them where they ship",
    "attack": "attack images of a model and keep what was made",
    "minimum": "the smallest perturbation of each image that a budget of passes finds, in any norm",
    "sweep": "accuracy and confidence of a model against ε",
    "compare": "several models under several attacks, as one table",
    "universal": "one perturbation for many images, measured on images that it was not made from",
    "evaluate": "what is left of the accuracy inside a ball, by the strongest evaluation; says when not to trust it",
    "pattern": "one pattern on glasses or a patch for many images, measured likewise, in fresh scenes",
    "radii": "the smallest perturbation of each test image: what a curve over any ε is looked up in",
    "curve": "accuracy of models at any ε, between proven and attacked: looked up, nothing is run",
    "audit": "check a published table of the five metrics: can its printed digits be right?",
    "transfer": "who fools whom: images made on each of several models, shown to all of them",
    "certify": "which test images no perturbation of a ball can fool: a proof for each",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if len(arguments) == 2 and arguments[0] == "work":  # the body of a job's process, started by core.jobs
        from core import jobs

        return jobs.work(Path(arguments[1]))
    options = vars(_parser(arguments).parse_args(arguments))
    command, as_json = options.pop("command"), options.pop("json")
    try:
        if command == "models":
            _print_models(as_json)
        elif command == "reference":
            _reference(as_json, **options)
        elif command == "curve":
            _curve(**options, as_json=as_json)
        elif command == "audit":
            _audit(**options, as_json=as_json)
        else:
            _run(command, {name: value for name, value in options.items() if value is not None}, as_json)
    except ValidationError as error:
        print(explain(error), file=sys.stderr)
        return 2
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except (DataMissing, store.DamagedArtifact, FloatingPointError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; a training goes on from its last state when it is asked for again", file=sys.stderr)
        return 130
    return 0


# ---------------------------------------------------------------- flags from fields


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m core", description="Adversarial Lab")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{" + ", ".join(_SUMMARIES) + "}")
    for name, summary in _SUMMARIES.items():
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("--json", action="store_true", help="print JSON instead of a table")
        if name == "train":
            command.add_argument("--preset", choices=list(PRESETS), help="settings by name; other flags change them")
            _add_fields(command, DataSpec)
            _add_fields(command, TrainSpec, leave_out=("data", "recipe"))
            _add_choice(command, "recipe", RECIPES, "standard", arguments)
        elif name == "minimum":
            _add_fields(command, AttackSpec, leave_out=("attack", "eps", *Minimum.model_fields))
            _add_fields(command.add_argument_group(Minimum.title, Minimum.help), Minimum, leave_out=("name",))
        elif name == "reference":
            command.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(reference.REFERENCES)}")
            command.add_argument("--all", action="store_true", help="all that this machine can make")
            command.add_argument("--device", help="cpu or cuda. Default: cuda where there is one.")
            command.add_argument("--n", type=int, help="test images for PGD and proofs. Default: all.")
        elif name == "curve":
            command.add_argument(
                "--models", nargs="+", required=True, metavar="ID", help="saved models of one data set"
            )
            command.add_argument("--norm", choices=get_args(Norm), default="linf", help="what ε is measured in")
            command.add_argument("--eps", nargs="+", type=float, default=list(DEFAULT_EPS), metavar="EPS")
            command.add_argument("--n", type=int, help="only the first n images")
        elif name == "audit":
            command.add_argument("file", help="CSV, Markdown, LaTeX or plain text; - for standard input")
        elif name != "models":
            plain = name in ("compare", "universal", "pattern", "radii", "evaluate", "certify")
            method = None if plain else _named("attack", METHODS, _first_attack(name), arguments)
            own = () if method is None else tuple(method.model_fields)  # a method's own budget goes before the task's
            choice = ("method",) if name == "universal" else ()  # whose settings become flags
            _add_fields(command, TASKS[name], leave_out=("attack", "attacks", *choice, *own))
            _add_attack_flags(command, name, arguments)
    return parser


def _add_attack_flags(command: argparse.ArgumentParser, name: str, arguments: Sequence[str]) -> None:
    if name == "compare":
        command.add_argument(
            "--attacks", nargs="+", metavar="NAME[:FIELD=VALUE,…]", help=f"some of {', '.join(METHODS)}"
        )
    elif name in ("pattern", "radii", "evaluate", "certify"):
        return
    elif name == "universal":
        _add_choice(command, "method", UNIVERSAL_METHODS, "gradient", arguments)
    else:
        _add_choice(command, "attack", METHODS, _first_attack(name), arguments)


def _first_attack(command: str) -> str:
    """The attack of a command that is given none."""
    return "mifgsm" if command == "transfer" else "fgsm"


def _add_choice(
    command: argparse.ArgumentParser, name: str, choices: Mapping[str, Any], default: str, arguments: Sequence[str]
) -> None:
    """A flag that names one of several specs, and the fields of the one that is named."""
    example = list(choices)[-1]
    command.add_argument(
        f"--{name}", help=f"one of {', '.join(choices)}; its settings become flags (--{name} {example} --help)"
    )
    chosen = _named(name, choices, default, arguments)
    if chosen:
        _add_fields(command.add_argument_group(chosen.title, chosen.help), chosen, leave_out=("name",))


def _named(name: str, choices: Mapping[str, Any], default: str, arguments: Sequence[str]) -> Any:
    """The spec that a flag names: which settings there are depends on it, so it is looked for before flags are made."""
    finder = argparse.ArgumentParser(add_help=False)
    finder.add_argument(f"--{name}", default=default)
    return choices.get(vars(finder.parse_known_args(list(arguments))[0])[name])


def _add_fields(command: Any, spec: type[Spec], leave_out: tuple[str, ...] = ()) -> None:
    for name, info in spec.model_fields.items():
        if name in leave_out:
            continue
        flag = "--" + name.replace("_", "-")
        text = _help(info)
        if info.annotation is bool:
            command.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif _is_tuple(info.annotation):
            command.add_argument(flag, nargs="+", metavar=name.upper(), help=text)
        else:
            command.add_argument(
                flag, metavar="{" + ",".join(_choices(info)) + "}" if _choices(info) else None, help=text
            )


def _help(info: FieldInfo) -> str:
    default = "" if info.is_required() or info.default is None else f" Default: {info.get_default()}."
    return f"{info.title}. {info.description or ''}{default}".replace("%", "%%")


def _is_tuple(annotation: Any) -> bool:
    if get_origin(annotation) in (Union, types.UnionType):
        return any(_is_tuple(part) for part in get_args(annotation))
    return get_origin(annotation) is tuple


def _choices(info: FieldInfo) -> list[str]:
    return [str(value) for value in get_args(info.annotation)] if get_origin(info.annotation) is Literal else []


# ---------------------------------------------------------------- specs from flags


def _run(command: str, options: dict[str, Any], as_json: bool) -> None:
    if command == "train":
        _train(_train_spec(options), as_json)
    elif command == "compare":
        options["attacks"] = [_method(text) for text in options.get("attacks", ["fgsm"])]
        _compare(CompareSpec.model_validate(options), as_json)
    elif command == "universal":
        options["method"] = _chosen(options, "method", UNIVERSAL_METHODS, "gradient")
        _universal(UniversalSpec.model_validate(options), as_json)
    elif command == "minimum":
        options["attack"] = _chosen(options, "attack", METHODS, "minimum")
        _attack(AttackSpec.model_validate(options), as_json)
    elif command == "evaluate":
        _evaluate(EvaluateSpec.model_validate(options), as_json)
    elif command == "pattern":
        _pattern(PatternSpec.model_validate(options), as_json)
    elif command == "radii":
        _radii(RadiiSpec.model_validate(options), as_json)
    elif command == "transfer":
        options["attack"] = _chosen(options, "attack", METHODS, _first_attack(command))
        _transfer(TransferSpec.model_validate(options), as_json)
    elif command == "certify":
        _certify(CertifySpec.model_validate(options), as_json)
    else:
        options["attack"] = _chosen(options, "attack", METHODS, "fgsm")
        if command == "attack":
            _attack(AttackSpec.model_validate(options), as_json)
        else:
            _sweep(SweepSpec.model_validate(options), as_json)


def _train_spec(options: dict[str, Any]) -> TrainSpec:
    data = {name: options.pop(name) for name in DataSpec.model_fields if name in options}
    recipe = _chosen(options, "recipe", RECIPES, "standard")
    settings = preset(options.pop("preset", "fast"), data.get("dataset", "digits"))
    return TrainSpec.model_validate({**settings, **options, "data": data, "recipe": recipe})


def _chosen(options: dict[str, Any], name: str, choices: Mapping[str, type[Spec]], default: str) -> dict[str, Any]:
    """Take a choice and its settings out of the flags: `{"name": …, setting: value, …}`."""
    chosen = options.pop(name, default)
    if chosen not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {chosen!r}")
    settings = {field: options.pop(field) for field in choices[chosen].model_fields if field in options}
    return {"name": chosen, **settings}


def _method(text: str) -> dict[str, Any]:
    """`pgd:norm=l2,steps=100` as the fields of a method."""
    name, _, settings = text.partition(":")
    if name not in METHODS:
        raise ValueError(f"attacks: expected one of {', '.join(METHODS)}, got {name!r}")
    pairs = [setting.partition("=") for setting in settings.split(",") if setting]
    return {"name": name, **{field.strip(): value.strip() for field, _, value in pairs}}


# ---------------------------------------------------------------- running and printing


class _Line:
    """Progress as one line on standard error that overwrites itself; silent where nobody looks."""

    def __init__(self) -> None:
        self.shown = False

    def __call__(
        self, done: int, total: int, *, phase: str | None = None, snapshot: object = None, **metrics: Any
    ) -> None:
        if not sys.stderr.isatty():
            return
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items() if isinstance(value, float))
        print(
            f"\r\033[K{phase or ''} {100 * done / max(1, total):.0f} %  {numbers}", end="", file=sys.stderr, flush=True
        )
        self.shown = True

    def end(self) -> None:
        if self.shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _artifacts(spec: Task) -> list[store.Artifact]:
    from core import jobs

    line = _Line()
    try:
        made = jobs.run(spec, on_progress=line)
    finally:
        line.end()
    return made if isinstance(made, list) else [made]


def _train(spec: TrainSpec, as_json: bool) -> None:
    cached = spec.artifact_name() in [model.id for model in store.models(store.default_root())]
    (artifact,) = _artifacts(spec)
    if not running.leads():  # torchrun: the first of the processes speaks for all
        return
    metrics = artifact.card["metrics"]
    _show(
        {
            "model": artifact.id,
            "test_accuracy": metrics["test_accuracy"],
            "low": metrics["test_low"],
            "high": metrics["test_high"],
            "n": metrics["test_n"],
            "seconds": artifact.card["timing"]["seconds"],
            "images_per_second": artifact.card["timing"]["images_per_second"],
            "seed": spec.seed,
            "cached": cached,
        },
        as_json,
    )


def _attack(spec: AttackSpec, as_json: bool) -> None:
    (artifact,) = _artifacts(spec)
    _show(
        {
            "model": artifact.folder.parents[1].name,
            "attack": spec.attack.slug(),
            "norm": getattr(spec.attack, "norm", spec.attack.norms[0]),
            "eps": spec.eps,
            "target": spec.target,
            "budget": spec.budget or getattr(spec.attack, "budget", None),
            "eight_bit": spec.eight_bit,
            "mask": spec.mask and f"{spec.mask.shape}, {artifact.card['mask']['pixels']} pixels",
            "seed": spec.seed,
            **artifact.card["metrics"],
            **artifact.card.get("proven", {}),
            "result": str(artifact.folder),
        },
        as_json,
    )


def _evaluate(spec: EvaluateSpec, as_json: bool) -> None:
    (artifact,) = _artifacts(spec)
    for note in artifact.card["notes"]:
        print(note, file=sys.stderr)
    named = {"norm": spec.norm, "eps": spec.eps, "effort": spec.effort, "seed": spec.seed}
    trust = artifact.card["trust"]
    _show(
        {
            "model": artifact.folder.parents[1].name,
            **named,
            **artifact.card["metrics"],
            "trust": trust if as_json else trust and trust["verdict"],
            "result": str(artifact.folder),
        },
        as_json,
    )


def _sweep(spec: SweepSpec, as_json: bool) -> None:
    (artifact,) = _artifacts(spec)
    named = {"model": artifact.folder.parents[1].name, "attack": spec.attack.slug(), "seed": spec.seed}
    _show([{**named, **row} for row in artifact.card["rows"]], as_json)


def _universal(spec: UniversalSpec, as_json: bool) -> None:
    (artifact,) = _artifacts(spec)
    _show(
        {
            "model": artifact.folder.parents[1].name,
            "method": spec.method.slug(),
            "eps": spec.eps,
            "target": spec.target,
            "budget": spec.budget,
            "seed": spec.seed,
            **artifact.card["metrics"],
            **artifact.card.get("lp", {}),
            "result": str(artifact.folder),
        },
        as_json,
    )


def _pattern(spec: PatternSpec, as_json: bool) -> None:
    (artifact,) = _artifacts(spec)
    named = {"model": artifact.folder.parents[1].name, "mask": spec.mask.shape, "target": spec.target}
    _show({**named, "seed": spec.seed, **artifact.card["metrics"], "result": str(artifact.folder)}, as_json)


def _radii(spec: RadiiSpec, as_json: bool) -> None:
    (artifact,) = _artifacts(spec)
    card = artifact.card
    named = {"model": artifact.folder.parents[1].name, "norm": spec.norm, "budget": spec.budget}
    _show({**named, **card["metrics"], "seconds": card["seconds"], "result": str(artifact.folder)}, as_json)


def _curve(models: list[str], norm: str, eps: list[float], n: int | None, as_json: bool) -> None:
    from core.evaluation import paired, records

    root = store.default_root()
    if len({str(store.open_model(model, root).card["spec"]["data"]) for model in models}) > 1:
        raise ValueError("models: expected models of one data set, got several")
    found = {}
    for model in models:
        record = records.load(model, norm, root, n=n)
        if record is None:
            raise ValueError(f"models: expected models with radii or another result in {norm}, got {model!r} without")
        found[record.model] = record
    for record in found.values():
        if not record.searched:
            print(f"{record.model}: single attacks only in {norm}: find its radii; it is not tested", file=sys.stderr)
        for row in record.contradictions.to_dict("records"):
            print(f"{record.model}: a proof and an example contradict each other: {row}", file=sys.stderr)
    shared = dict(zip(found, records.common(list(found.values())), strict=True))
    rows, tests = [], []
    for value in sorted(eps):
        rows += [{"model": model, **records.curve(record, [value]).iloc[0]} for model, record in shared.items()]
        right = {
            model: pd.Series(record.robust(value), index=record.table["index"])
            for model, record in shared.items()
            if record.searched
        }
        tests += [{"eps": value, **row} for row in paired.pairs(right).to_dict("records")]
    if as_json:
        _show({"norm": norm, "curves": rows, "tests": tests}, as_json)
        return
    _show(rows, as_json)
    for row in tests:
        print(f"ε = {row['eps']:g}: {paired.sentence(cast(Mapping[str, object], row))}")


def _audit(file: str, as_json: bool) -> None:
    from core.evaluation import auditor

    findings = auditor.audit(sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8"))
    _show(
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


def _transfer(spec: TransferSpec, as_json: bool) -> None:
    (artifact,) = _artifacts(spec)
    named = {"attack": spec.attack.slug(), "eps": spec.eps, "seed": spec.seed}
    _show(
        [{**row, **named, "passes": artifact.card["cost"][row["surrogate"]]} for row in artifact.card["rows"]], as_json
    )


def _certify(spec: CertifySpec, as_json: bool) -> None:
    (artifact,) = _artifacts(spec)
    card = artifact.card
    named = {"model": artifact.folder.parents[1].name, "method": spec.method, "norm": spec.norm, "eps": spec.eps}
    rest = {"seconds": card["seconds"], "seed": spec.seed, "result": str(artifact.folder)}
    _show({**named, **card["metrics"], **rest}, as_json)


def _compare(spec: CompareSpec, as_json: bool) -> None:
    from core.evaluation import comparison

    _artifacts(spec)
    made = comparison.compare(spec, store.default_root())
    for warning in made.warnings:
        print(warning, file=sys.stderr)
    if as_json:
        rows = cast(list[dict[str, Any]], made.table.to_dict("records"))
        _show([{**row, "seed": spec.seed} for row in rows], as_json)
    else:
        print(comparison.to_markdown(made))


def _print_models(as_json: bool) -> None:
    from core.evaluation.comparison import model_row

    rows = [model_row(artifact) for artifact in store.models(store.default_root())]
    if not rows and not as_json:
        print(f"no saved models in {store.default_root()}; train one: python -m core train")
        return
    _show(rows, as_json)


def _reference(as_json: bool, names: list[str], all: bool, device: str | None, n: int | None) -> None:
    root = store.default_root()
    if names or all:
        from core import reference_build, running

        gpu = (device or running.default_device()).startswith("cuda")
        chosen = [one.name for one in reference.REFERENCES.values() if gpu or not one.needs_gpu] if all else names
        line = _Line()
        for name in chosen:
            try:
                made = reference_build.make(name, root, device=device, n=n, on_progress=line)
            finally:
                line.end()
            print(f"{name}: {made.folder}", file=sys.stderr)
    rows = [row for row in reference.rows(root) if not names or row["name"] in names]
    _show(rows, as_json)


def _show(result: dict[str, Any] | list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(_strict(result), indent=2, allow_nan=False))
    elif isinstance(result, list):
        print(tabulate(result, headers="keys", floatfmt=".4f", missingval="–"))
    else:
        print(tabulate(list(result.items()), tablefmt="plain", floatfmt=".4f", missingval="–"))


def _strict(value: Any) -> Any:
    """NaN, an undefined metric, as null: JSON has no other word for it."""
    if isinstance(value, dict):
        return {name: _strict(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
