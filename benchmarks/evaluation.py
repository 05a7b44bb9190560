"""The strongest evaluation beside its peers: torchattacks' AutoAttack and APGD, adv-lib's APGD-T, PGD-100×10; one run.

    python -m benchmarks.evaluation --models ID ID --norm linf --eps 0.3 --images 1000
    python -m benchmarks.evaluation --models ID --norm l2 --eps 2 --images 300 --peers autoattack --efforts standard

Needs the environment that `benchmarks/requirements.txt` describes, and saved models (`python -m core models`). Every
count comes from the benchmark: images through the model, forwards and backwards. Every verdict is a forward pass of
what came back, put into ball and box first; what the model misreads counts as fallen for everyone. Seconds are wall
time, and beside them the processor's, which says more on a machine that others use too. `ratio` is AutoAttack's
seconds (processor) over the row's; `only` counts images that fell to this row and not to AutoAttack, and the other way.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn

from benchmarks.counting import Counting
from benchmarks.peers import Attack, in_chunks
from core.attacks.engine.geometry import into_ball
from core.data.sets import first_of_test, to_float
from core.evaluation.robust.robust import evaluate
from core.evaluation.robust.schedule import EFFORTS
from core.models.saved import load_model
from core.storage.store import default_root

PEERS = ("autoattack", "apgd", "apgdt", "pgd")
TORCHATTACKS = {"linf": "Linf", "l2": "L2"}
CHUNK = 250


@dataclass
class Row:
    """What one evaluation left, and its cost."""

    who: str
    robust: Tensor | None
    forwards: float = 0
    backwards: float = 0
    seconds: float = 0
    processor: float = 0
    note: str = ""


def peers(norm: str, eps: float, classes: int) -> dict[str, tuple[str, Attack]]:
    """The peers that know the norm, by the name that `--peers` takes."""

    def torchattacks(name: str, **settings: Any) -> Attack:
        def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            import torchattacks

            return getattr(torchattacks, name)(model, eps=eps, **settings)(x, y)

        return in_chunks(attack, CHUNK)

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
    """Ours at every effort, then the peers, on the same images."""
    saved = load_model(model_id, default_root())
    plain = saved.model.eval()
    model = Counting(plain).eval()
    batch = first_of_test(saved.data(), options.images)
    x, y = to_float(batch.x), batch.y
    norm, eps = options.norm, options.eps

    def ours(effort: str) -> Tensor:
        # the plain model, since certificates know its layers; the counter is filled from what it says of itself
        made = evaluate(plain, x, y, norm=norm, eps=eps, effort=effort, index=batch.index, trust=False)
        model.forwards, model.backwards = int(made.forwards.sum()), int(made.backwards.sum())
        return verdict(plain, made.x_adv, x, y, norm, eps)

    rows = [measured(f"ours, {effort}", lambda e=effort: ours(e), model, len(x)) for effort in options.efforts]
    known = peers(norm, eps, len(saved.class_names))
    for name in options.peers:
        if name not in known:
            continue
        who, attack = known[name]
        work = lambda a=attack: verdict(plain, a(model, x.clone(), y.clone()).detach(), x, y, norm, eps)  # noqa: E731
        rows.append(measured(who, work, model, len(x)))
    return rows


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
    parser.add_argument("--models", nargs="+", required=True, help="ids of saved models")
    parser.add_argument("--norm", choices=("linf", "l2", "l1", "l0"), default="linf")
    parser.add_argument("--eps", type=float, required=True)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--efforts", nargs="*", choices=EFFORTS, default=["quick", "standard"])
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    options = parser.parse_args()
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    print(f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for model_id in options.models:
        rows = compare(model_id, options)
        show(f"{model_id}, {options.norm} {options.eps:g}", rows, "torchattacks AutoAttack")


if __name__ == "__main__":
    main()
