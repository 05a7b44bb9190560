"""The strongest evaluation beside its peers in one run: AutoAttack, torchattacks' APGD, adv-lib's APGD-T, PGD-100×10.

    python -m benchmarks.evaluation --models ID ID --norm linf --eps 0.3 --images 1000
    python -m benchmarks.evaluation --models ID --norm l2 --eps 2 --images 300 --peers autoattack --efforts standard
    python -m benchmarks.evaluation --suite carry-over --images 1000 --norms linf l2

Needs the environment that `benchmarks/requirements.txt` describes, and saved models (`python -m core models`). Every
count comes from the benchmark: images through the model, forwards and backwards. Every verdict is a forward pass of
what came back, put into ball and box first; what the model misreads counts as fallen for everyone. Seconds are wall
time, and beside them the processor's, which says more on a machine that others use too. `ratio` is AutoAttack's
seconds (processor) over the row's; `only` counts images that fell to this row and not to AutoAttack, and the other way.

`--suite carry-over` is about the networks of `benchmarks.carry_over`: those that thresholds were chosen on, and those
that were only looked at afterwards. Beside `standard` and `quick` stands AutoAttack: torchattacks', and in l1, which it
has not, the package of its authors' code; in l0, which neither has, `at_least_autoattack`, whose last stages are
Sparse-RS at 10,000 queries and `minimum`. `until its figure` is how many times fewer passes `standard` had taken after
the stage that brought it to the reference's figure; what it spends after that is on images that the reference leaves.
AutoAttack takes nearly all of the time, hours on one core: `--keep FOLDER` keeps its rows there, and takes those that
are there instead of measuring them again, seconds included.
"""

from __future__ import annotations

import argparse
import itertools
import operator
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn

from benchmarks import carry_over
from benchmarks.counting import Counting
from benchmarks.peers import Attack, in_chunks
from core.attacks.engine.geometry import into_ball
from core.data.sets import first_of_test, to_float
from core.evaluation.robust.result import Evaluation
from core.evaluation.robust.robust import evaluate
from core.evaluation.robust.schedule import EFFORTS
from core.models.saved import load_model
from core.storage.store import default_root

PEERS = ("autoattack", "apgd", "apgdt", "pgd")
TORCHATTACKS = {"linf": "Linf", "l2": "L2"}
CHUNK = 250


@dataclass
class Row:
    """What one evaluation left, its cost, and what it says that a longer search would still fool.

    `course`: of ours, after each stage, images that stood and the passes until then.
    """

    who: str
    robust: Tensor | None
    forwards: float = 0
    backwards: float = 0
    seconds: float = 0
    processor: float = 0
    note: str = ""
    left: str = "not known"
    course: tuple[tuple[int, int], ...] = ()


def peers(norm: str, eps: float, classes: int) -> dict[str, tuple[str, Attack]]:
    """The peers that know the norm, by the name that `--peers` takes."""

    def torchattacks(name: str, **settings: Any) -> Attack:
        def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            import torchattacks

            return getattr(torchattacks, name)(model, eps=eps, **settings)(x, y)

        return in_chunks(attack, CHUNK)

    def pyautoattack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        from pyautoattack import AutoAttack

        made = AutoAttack(model, norm="L1", eps=eps, seed=0)
        return made.run_standard_evaluation(x, y, batch_size=CHUNK)[0]

    def advlib_apgdt(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        from adv_lib.attacks.auto_pgd import apgd_targeted

        return apgd_targeted(model, x, y, eps=eps, norm={"linf": float("inf"), "l2": 2, "l1": 1}[norm])

    def pgd(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        import torchattacks

        make = torchattacks.PGD if norm == "linf" else torchattacks.PGDL2
        best, left = x.clone(), torch.ones_like(y, dtype=torch.bool)
        for _ in range(10):
            made = make(model, eps=eps, alpha=2.5 * eps / 100, steps=100)(x[left], y[left])
            best[left] = made
            with torch.no_grad():
                fooled = model(made).argmax(1) != y[left]
            left[left.clone()] = ~fooled
            if not left.any():
                break
        return best

    known: dict[str, tuple[str, Attack]] = {}
    if norm in TORCHATTACKS:
        name = TORCHATTACKS[norm]
        known["autoattack"] = (
            "torchattacks AutoAttack",
            torchattacks("AutoAttack", norm=name, n_classes=classes, seed=0),
        )
        known["apgd"] = ("torchattacks APGD", torchattacks("APGD", norm=name, seed=0))
        known["pgd"] = ("torchattacks PGD-100×10", in_chunks(pgd, CHUNK))
    if norm == "l1":  # which torchattacks has not
        known["autoattack"] = ("pyautoattack's AutoAttack", in_chunks(pyautoattack, CHUNK))
    if norm in ("linf", "l2", "l1"):
        known["apgdt"] = ("adv-lib APGD-T", in_chunks(advlib_apgdt, CHUNK))
    return known


def measured(who: str, work: Callable[[], Tensor], model: Counting, n: int) -> Row:
    """Run it; an exception is a result too."""
    model.reset()
    torch.manual_seed(0)
    start, used = time.perf_counter(), time.process_time()
    try:
        robust = work()
    except Exception as error:
        return Row(who, None, note=f"{type(error).__name__}: {error}".splitlines()[0][:100])
    wall, processor = time.perf_counter() - start, time.process_time() - used
    return Row(who, robust, model.forwards / n, model.backwards / n, wall, processor)


def verdict(model: nn.Module, x_adv: Tensor, x: Tensor, y: Tensor, norm: str, eps: float) -> Tensor:
    """Who stands: read rightly as it is, and as what came back, put into ball and box."""
    if norm == "linf":
        inside = (x + (x_adv - x).clamp(-eps, eps)).clamp(0, 1)
    else:
        inside = into_ball(x_adv.clamp(0, 1), x, torch.full((len(x),), eps), norm)
    with torch.no_grad():
        right = [torch.cat([model(part).argmax(1) for part in images.split(CHUNK)]) == y for images in (x, inside)]
    return right[0] & right[1]


def compare(model_id: str, options: argparse.Namespace) -> list[Row]:
    """Ours at every effort, then the peers, on the same images of a saved model."""
    saved = load_model(model_id, default_root())
    batch = first_of_test(saved.data(), options.images)
    images = (to_float(batch.x), batch.y, batch.index)
    return rows_of(saved.model.eval(), images, options.norm, options.eps, options.efforts, options.peers)


def rows_of(
    plain: nn.Module,
    images: tuple[Tensor, Tensor, Tensor],
    norm: str,
    eps: float,
    efforts: Sequence[str],
    asked: Sequence[str],
    keep: Path | None = None,
) -> list[Row]:
    """Ours at every effort, then the peers that are asked for and know the norm, on images (x, y, index).

    Peers' rows are kept in files whose names begin with `keep`.
    """
    x, y, index = images
    model = Counting(plain).eval()
    more: dict[str, dict[str, Any]] = {}

    def ours(effort: str) -> Tensor:
        # the plain model, since certificates know its layers; the counter is filled from what it says of itself
        made = evaluate(plain, x, y, norm=norm, eps=eps, effort=effort, index=index, trust=False)
        model.forwards, model.backwards = int(made.forwards.sum()), int(made.backwards.sum())
        more[effort] = {"course": _course(made)}
        if made.left_to_find is not None:
            more[effort]["left"] = made.left_to_find.said
        return made.robust if norm == "l0" else verdict(plain, made.x_adv, x, y, norm, eps)

    rows = [measured(f"ours, {effort}", lambda e=effort: ours(e), model, len(x)) for effort in efforts]
    rows = [replace(row, **more.get(effort, {})) for row, effort in zip(rows, efforts, strict=True)]
    with torch.no_grad():
        known = peers(norm, eps, plain(x[:1]).shape[1])
    for name in asked:
        if name not in known:
            continue
        who, attack = known[name]
        work = lambda a=attack: verdict(plain, a(model, x.clone(), y.clone()).detach(), x, y, norm, eps)  # noqa: E731
        rows.append(kept(keep and Path(f"{keep}-{name}.pt"), partial(measured, who, work, model, len(x))))
    return rows


def _course(made: Evaluation) -> tuple[tuple[int, int], ...]:
    """Images that stood after each stage, and all passes until then, a first one of each image among them."""
    assert made.trials is not None
    spent, fell = (len(made.robust) + made.trials.spent.sum(0).cumsum(0)).tolist(), made.trials.fell.sum(0).tolist()
    stood = itertools.accumulate([int(made.robust.sum()) + sum(fell), *fell], operator.sub)
    return tuple(zip(list(stood)[1:], spent, strict=True))


def kept(file: Path | None, measure: Callable[[], Row]) -> Row:
    """What the file holds; where there is none, what is measured, which is written to it unless it failed."""
    if file is not None and file.exists():
        return Row(**torch.load(file))
    row = measure()
    if file is not None and row.robust is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(vars(row), file)
    return row


def suite(options: argparse.Namespace) -> None:
    """Every network that is trained, in every norm that is asked for: a line each, as soon as it is measured."""
    head = (
        "network",
        "chosen on",
        "norm",
        "n",
        "reference",
        "standard",
        "difference",
        "only standard / only it",
        "left to find",
        "passes, times fewer",
        "until its figure",
        "processor, times less",
        "quick",
        "its passes, times fewer",
    )
    print("|", " | ".join(head), "|")
    print("|", " | ".join("---" for _ in head), "|")
    for name, subject in carry_over.SUBJECTS.items():
        if not carry_over.file_of(name).exists() or (options.networks and name not in options.networks):
            continue
        plain, images = carry_over.network(name), carry_over.images(name, options.images)
        for norm in options.norms:
            beside = ["at_least_autoattack"] if norm == "l0" else []
            keep = options.keep and options.keep / f"{name}-{norm}-{options.images}"
            efforts = ["quick", "standard", *beside]
            made = rows_of(plain, images, norm, subject.eps[norm], efforts, ["autoattack"], keep)
            print("|", " | ".join((name, "yes" if subject.chosen_on else "no", norm, *_line(*made))), "|", flush=True)


def _line(quick: Row, ours: Row, reference: Row) -> tuple[str, ...]:
    """What a row of the suite says of them."""
    if quick.robust is None or ours.robust is None or reference.robust is None:
        return ("", "", "", "", "", "", "", "", "", "", quick.note or ours.note or reference.note)
    shares = [100 * stands.double().mean().item() for stands in (reference.robust, ours.robust, quick.robust)]
    passes = [row.forwards + row.backwards for row in (reference, ours, quick)]
    return (
        str(len(ours.robust)),
        f"{shares[0]:.2f} %",
        f"{shares[1]:.2f} %",
        f"{shares[1] - shares[0]:+.2f}",
        f"{int((reference.robust & ~ours.robust).sum())} / {int((~reference.robust & ours.robust).sum())}",
        ours.left,
        f"{passes[0] / passes[1]:.1f}",
        _until(ours, int(reference.robust.sum()), passes[0]),
        f"{reference.processor / ours.processor:.1f}",
        f"{shares[2]:.2f} %",
        f"{passes[0] / passes[2]:.1f}",
    )


def _until(ours: Row, standing: int, passes: float) -> str:
    """How many times fewer passes it took until no more images stood than so many; "never" where more do."""
    assert ours.robust is not None
    spent = [spent for stood, spent in ours.course if stood <= standing]
    return f"{passes * len(ours.robust) / spent[0]:.1f}" if spent else "never"


def show(title: str, rows: list[Row], reference: str) -> None:
    """Print a table in Markdown."""
    base = next((row for row in rows if row.who == reference and row.robust is not None), None)
    head = ("", "robust", "n", "passes (f + b)", "seconds", "processor", "ratio", "only it / only AutoAttack", "note")
    lines = []
    for row in rows:
        if row.robust is None:
            lines.append((row.who, "", "", "", "", "", "", "", row.note))
            continue
        ratio, only = "", ""
        if base is not None and base.robust is not None:
            ratio = f"{base.processor / row.processor:.1f}"
            only = f"{int((base.robust & ~row.robust).sum())} / {int((~base.robust & row.robust).sum())}"
        share, passes = f"{100 * row.robust.float().mean():.2f} %", f"{row.forwards:.0f} + {row.backwards:.0f}"
        cost = (f"{row.seconds:.1f}", f"{row.processor:.1f}")
        lines.append((row.who, share, str(len(row.robust)), passes, *cost, ratio, only, row.note))
    print(f"\n{title}\n")
    print(tabulate(lines, headers=head, tablefmt="github", disable_numparse=True), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--models", nargs="+", help="ids of saved models")
    what.add_argument("--suite", choices=("carry-over",))
    parser.add_argument("--norm", choices=("linf", "l2", "l1", "l0"), default="linf")
    parser.add_argument("--norms", nargs="+", choices=("linf", "l2", "l1", "l0"), default=["linf"], help="of the suite")
    parser.add_argument("--networks", nargs="+", choices=carry_over.SUBJECTS, help="of the suite; default all")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of the suite: keeps AutoAttack's rows")
    parser.add_argument("--eps", type=float, help="needed with --models")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--efforts", nargs="*", choices=EFFORTS, default=["quick", "standard"])
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    options = parser.parse_args()
    if options.models and options.eps is None:
        parser.error("--eps: expected a budget for --models")
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    print(f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    if options.suite:
        suite(options)
    for model_id in options.models or ():
        rows = compare(model_id, options)
        show(f"{model_id}, {options.norm} {options.eps:g}", rows, "torchattacks AutoAttack")


if __name__ == "__main__":
    main()
