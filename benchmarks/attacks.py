"""Attacks beside their peers from PyPI: foolbox, torchattacks, ART, adv-lib; one run, the same images, one table.

    python -m benchmarks.attacks [--sections pgd smallest l0 jsma universal memory] [--images 1000] [--few 200]

Needs the environment that `benchmarks/requirements.txt` describes, and MNIST. Two LeNets are attacked: the standard
fast preset and one trained by PGD at .3; they are trained on first use and found again. A peer that breaks is shown
with its error. Every count and every verdict comes from the benchmark, not from the attack: images through the model,
forwards and backwards, and a forward pass of what came back; images outside ball or box are put back into it first.

Seconds are CPU seconds of the process, all threads together (compare with OMP_NUM_THREADS=1), so that other work on the
machine counts little; medians over the rounds (slow sections: one round), in turns. Distances are means and medians
over the images that the model reads correctly, all of which count: an image that was not fooled has distance inf, so a
mean of inf says that some withstood. Optimality is the mean over images of the smallest distance that anyone found over
the attack's own.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from tabulate import tabulate
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.counting import Counting
from core import attacks
from core.attacks.engine.geometry import distances
from core.attacks.universal.universal import uap, universal_gradient
from core.data.sets import first_of_test, to_float
from core.jobs import queue
from core.models.saved import SavedModel, load_model
from core.specs import TrainSpec
from core.storage.store import default_root

STANDARD = TrainSpec(data={"dataset": "mnist"}, network="lenet", epochs=3)
ROBUST = TrainSpec(
    data={"dataset": "mnist"},
    network="lenet",
    epochs=6,
    lr=0.05,
    recipe={"name": "pgd", "eps": 0.3, "steps": 7, "warmup": 0.4},
)
EPS, STEPS = 0.3, 40
NORMS = ("l0", "l1", "l2", "linf")
OUR_JSMA = (
    ("probabilities", True, 12),
    ("probabilities", True, 1),
    ("probabilities", False, 8),
    ("probabilities", False, 2),
    ("probabilities", False, 1),
    ("logits", True, 1),
    ("logits", False, 1),  # Papernot's
)
"""Whose Jacobian, whether by effects (TJSMA), and how many pairs of features by one at most."""


@dataclass
class Line:
    """A row of the table."""

    section: str
    attack: str
    who: str
    value: str = ""
    passes: str = ""
    seconds: float = float("nan")
    ratio: str = ""
    note: str = ""
    distance: Tensor | None = field(default=None, repr=False)


@dataclass
class Outcome:
    """What came of an attack: images, passes an image, seconds of each round, or an error."""

    x_adv: Tensor | None
    forwards: float
    backwards: float
    seconds: list[float]
    error: str = ""


def run(attack: peers.Attack, model: Counting, x: Tensor, y: Tensor) -> Outcome:
    """One round; an exception is a result too."""
    model.reset()
    torch.manual_seed(0)
    start = time.process_time()
    try:
        x_adv = attack(model, x.clone(), y.clone()).detach()
    except Exception as error:
        return Outcome(None, 0, 0, [], f"{type(error).__name__}: {error}".splitlines()[0][:100])
    seconds = time.process_time() - start
    return Outcome(x_adv, model.forwards / len(x), model.backwards / len(x), [seconds])


def in_turns(
    entries: dict[str, peers.Attack], model: Counting, x: Tensor, y: Tensor, rounds: int
) -> dict[str, Outcome]:
    """Every attack once, then again, so that a slow spell of the machine meets all of them."""
    found: dict[str, Outcome] = {}
    for _ in range(rounds):
        for name, attack in entries.items():
            if name in found and found[name].error:
                continue
            now = run(attack, model, x, y)
            if name in found:
                found[name].seconds += now.seconds
            else:
                found[name] = now
    return found


@torch.no_grad()
def fooled(model: nn.Module, x_adv: Tensor, y: Tensor) -> Tensor:
    """Verdict by a forward pass of what came back."""
    return torch.cat([model(part).argmax(1) for part in x_adv.split(250)]) != y


def ours(method: Callable[..., attacks.AttackResult], **settings: object) -> peers.Attack:
    """One of the project's attacks behind the peers' signature."""
    return lambda model, x, y: method(model, x, y, **settings).x_adv


# ---------------------------------------------------------------- sections


def pgd(name: str, model: Counting, x: Tensor, y: Tensor, rounds: int) -> list[Line]:
    """PGD-40 in linf: seconds and remaining accuracy."""
    entries = {"ours": ours(attacks.pgd, eps=EPS, steps=STEPS), **peers.pgd_peers(EPS, STEPS)}
    found = in_turns(entries, model, x, y, rounds)
    base = statistics.median(found["ours"].seconds)
    lines = []
    for who, result in found.items():
        line = Line(name, f"PGD-{STEPS} ℓ∞ {EPS}", who, note=result.error)
        if result.x_adv is not None:
            inside = (x + (result.x_adv - x).clamp(-EPS, EPS)).clamp(0, 1)
            line.value = f"{1 - fooled(model.model, inside, y).float().mean().item():.4f} left"
            line.seconds = statistics.median(result.seconds)
            line.ratio, line.passes = f"{line.seconds / base:.1f}", _passes(result)
        lines.append(line)
    return lines


def smallest(name: str, norm: str, passes: int, model: Counting, x: Tensor, y: Tensor) -> list[Line]:
    """Smallest norm at equal passes: mean and median distance, optimality."""
    entries = {"ours": ours(attacks.minimum, norm=norm, budget=passes), **peers.smallest_peers(norm, passes)}
    found = in_turns(entries, model, x, y, 1)
    lines = []
    for who, result in found.items():
        line = Line(name, f"smallest {norm}, {passes} passes", who, note=result.error)
        if result.x_adv is not None:
            line.distance = _distance(model.model, result.x_adv, x, y, norm)
            line.seconds, line.passes = result.seconds[0], _passes(result)
            line.ratio = f"{line.seconds / found['ours'].seconds[0]:.1f}" if found["ours"].seconds else ""
        lines.append(line)
    best = torch.stack([line.distance for line in lines if line.distance is not None]).amin(0)
    for line in lines:
        if line.distance is not None:
            share = torch.where(line.distance > 0, best / line.distance, 1.0).nan_to_num(0)
            line.value = f"mean {line.distance.mean():.4g}, median {line.distance.median():.4g}"
            line.note = f"optimality {share.mean():.4f}, fooled {line.distance.isfinite().float().mean():.3f}"
    return lines


def sparse(name: str, model: Counting, x: Tensor, y: Tensor) -> list[Line]:
    """σ-zero with pruning beside every peer in l0, all with the passes that σ-zero's defaults take."""
    steps, calls = 450, 300
    entries = {
        "ours": ours(attacks.sigma_zero, steps=steps, prune_calls=calls),
        **peers.smallest_peers("l0", 2 * steps + calls),
    }
    lines = []
    for who, result in in_turns(entries, model, x, y, 1).items():
        line = Line(name, "σ-zero + pruning, pixels", who, note=result.error)
        if result.x_adv is not None:
            found = _distance(model.model, result.x_adv, x, y, "l0")
            line.value = f"mean {found.mean():.4g}, median {found.median():.4g}"
            line.seconds, line.passes = result.seconds[0], _passes(result)
            line.note = f"fooled {found.isfinite().float().mean():.3f}"
        lines.append(line)
    return lines


def jsma(name: str, model: Counting, x: Tensor, y: Tensor, count: int, rounds: int) -> list[Line]:
    """JSMA towards the next class: success, features changed, seconds an image; ours on more images than the peers."""
    target = (y + 1) % 10
    few = slice(0, count)
    entries: dict[str, tuple[peers.Attack, slice]] = {}
    for images, rows in (("", slice(None)), (", same images", few)):
        for outputs, taylor, pairs in OUR_JSMA:
            settings = {"y_target": target[rows], "pairs": pairs, "outputs": outputs, "taylor": taylor}
            many = f"{pairs} {'pair' if pairs == 1 else 'pairs'} a Jacobian"
            who = f"ours, {outputs}{', Taylor' if taylor else ''}, {many}{images}"
            entries[who] = (ours(attacks.jsma, **settings), rows)
    entries |= {who: (attack, few) for who, attack in peers.jsma_peers(target[few]).items()}
    found: dict[str, Outcome] = {}
    for _ in range(rounds):
        for who, (attack, rows) in entries.items():
            one = in_turns({who: attack}, model, x[rows], y[rows], 1)[who]
            if who in found:
                one.seconds += found[who].seconds
            found[who] = one
    each = {
        who: statistics.median(result.seconds) / len(x[entries[who][1]])
        for who, result in found.items()
        if result.seconds
    }
    lines = []
    for who, result in found.items():
        rows = entries[who][1]
        line = Line(name, "JSMA θ 1, γ .1, towards y + 1", who, note=result.error)
        if result.x_adv is not None:
            with torch.no_grad():
                reached = model.model(result.x_adv).argmax(1) == target[rows]
            changed = distances(result.x_adv, x[rows])["l0"][reached]
            share = f"{reached.float().mean():.3f} reached"
            line.value = f"{share}, median {changed.float().median():.0f} features" if len(changed) else share
            line.seconds, line.passes = each[who], _passes(result)
            line.ratio = f"{each[who] / next(iter(each.values())):.1f}"  # the first line's
            quicker = [f"{time / each[who]:.0f} times {peer}" for peer, time in each.items() if peer[:4] != "ours"]
            faster = f"; speed {', '.join(quicker)}" if who[:4] == "ours" else ""
            line.note = f"seconds an image, {len(x[rows])} images{faster}"
        lines.append(line)
    return lines


def universal(name: str, model: Counting, x: Tensor, y: Tensor, held_x: Tensor, held_y: Tensor) -> list[Line]:
    """One perturbation for all: fooling rate on images that it was not made from."""
    lines, base = [], float("nan")
    entries: dict[str, Callable[[], Tensor]] = {
        "ours, gradient": lambda: universal_gradient(model, x, y, eps=EPS).delta,
        "ours, gradient, one epoch": lambda: universal_gradient(model, x, y, eps=EPS, epochs=1).delta,
        "ours, UAP": lambda: uap(model, x, y, eps=EPS).delta,
        "ART UAP (DeepFool)": lambda: peers.art_universal(model, x, y, EPS, "deepfool", epochs=1),
        "ART UAP (FGSM)": lambda: peers.art_universal(model, x, y, EPS, "fgsm", epochs=2),
    }
    for who, make in entries.items():
        model.reset()
        start = time.process_time()
        line = Line(name, f"universal ℓ∞ {EPS}", who)
        try:
            delta = make()
        except Exception as error:
            line.note = f"{type(error).__name__}: {error}".splitlines()[0][:100]
            lines.append(line)
            continue
        line.seconds = time.process_time() - start
        base = line.seconds if who == "ours, gradient" else base
        rate = fooled(model.model, (held_x + delta.clamp(-EPS, EPS)).clamp(0, 1), held_y).float().mean()
        line.value, line.ratio = f"{rate:.4f} fooled (held out)", f"{line.seconds / base:.1f}"
        line.passes = f"{model.forwards / len(x):.0f} + {model.backwards / len(x):.0f}"
        lines.append(line)
    return lines


MEMORY = """
import torch
from pathlib import Path
from core import attacks
from core.data.sets import load, to_float
from core.networks import build
from core.specs import DataSpec
data = load(DataSpec(dataset="cifar10"))
torch.manual_seed(0)
model = build("cnn", data.shape, 10).eval()
x, y = to_float(data.test.x), data.test.y
attacks.{attack}(model, x, y, {settings})
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 2**20)
"""


def memory() -> list[Line]:
    """Peak memory of a process that attacks all 10,000 test images of CIFAR-10, PyTorch included."""
    lines = []
    for attack, settings in (("pgd", "eps=8/255, steps=3"), ("ddn", "steps=3"), ("sigma_zero", "steps=3")):
        code = MEMORY.format(attack=attack, settings=settings)
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        line = Line("CIFAR-10, 10,000 images", f"{attack}, peak memory", "ours", seconds=time.perf_counter() - start)
        if done.returncode:
            line.note = done.stderr.strip().splitlines()[-1][:100]
        else:
            line.value = f"{float(done.stdout):.2f} GiB"
        lines.append(line)
    return lines


# ---------------------------------------------------------------- small things


def _distance(model: nn.Module, x_adv: Tensor, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """Distance of each image inside the box; inf where it does not fool."""
    x_adv = x_adv.clamp(0, 1)
    size = distances(x_adv, x)[norm].double()
    return torch.where(fooled(model, x_adv, y), size, torch.inf)


def _passes(result: Outcome) -> str:
    return f"{result.forwards:.0f} + {result.backwards:.0f}"


def victim(spec: TrainSpec) -> SavedModel:
    """The model of a spec, trained or found."""
    queue.run(spec)
    return load_model(spec.artifact_name(), default_root())


def show(lines: Iterable[Line]) -> None:
    """Print the rows as a table."""
    head = ("model", "attack", "who", "accuracy or distance", "passes (f + b)", "seconds", "ratio", "note")
    rows = [
        (li.section, li.attack, li.who, li.value, li.passes, f"{li.seconds:.3g}", li.ratio, li.note) for li in lines
    ]
    print(tabulate(rows, headers=head, tablefmt="github", disable_numparse=True), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections = ("pgd", "smallest", "l0", "jsma", "universal", "memory")
    parser.add_argument("--sections", nargs="+", choices=sections, default=list(sections))
    parser.add_argument("--models", nargs="+", choices=("standard", "robust"), default=["standard", "robust"])
    parser.add_argument("--norms", nargs="+", choices=NORMS, default=list(NORMS))
    parser.add_argument("--budgets", nargs="+", type=int, default=[200, 2000])
    many = "for PGD, our JSMA, the universal attack and budgets up to 500"
    parser.add_argument("--images", type=int, default=1000, help=many)
    parser.add_argument("--few", type=int, default=200, help="images for the larger budgets and in l0")
    parser.add_argument("--slow", type=int, default=100, help="images for the peers' JSMA, and ours on the same")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    print(f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, spec in (("standard", STANDARD), ("robust", ROBUST)):
        if name not in options.models or options.sections == ["memory"]:
            continue
        saved = victim(spec)
        plain = saved.model.eval()
        model = Counting(plain).eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)  # for everybody: peers that do not would pay for gradients of the weights
        batch = first_of_test(saved.data(), 3 * options.images)
        x, y = to_float(batch.x), batch.y
        good = ~fooled(plain, x, y)
        right_x, right_y = x[good], y[good]
        title = f"LeNet {name}, {good.float().mean():.3f} correct"
        if "pgd" in options.sections:
            show(pgd(title, model, x[: options.images], y[: options.images], options.rounds))
        if "smallest" in options.sections:
            for passes in options.budgets:
                n = options.images if passes <= 500 else options.few
                for norm in options.norms:
                    show(smallest(title, norm, passes, model, right_x[:n], right_y[:n]))
        if "l0" in options.sections:
            show(sparse(title, model, right_x[: options.few], right_y[: options.few]))
        if "jsma" in options.sections and name == "standard":
            n = options.images
            show(jsma(title, model, right_x[:n], right_y[:n], options.slow, options.rounds))
        if "universal" in options.sections:
            half = len(right_x) // 2
            show(
                universal(
                    title,
                    model,
                    right_x[:half][: options.images],
                    right_y[:half][: options.images],
                    right_x[half:],
                    right_y[half:],
                )
            )
    if "memory" in options.sections:
        show(memory())


if __name__ == "__main__":
    main()
