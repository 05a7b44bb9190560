"""What trained models reach: PGD by us and by torchattacks side by side, and the exercises' tables beside the sheets'.

Called by `benchmarks.training`, which see. Everything is measured here from the saved weights; the figures of the
sheets are those that came with the exercises (sets 3 and 5).
"""

from __future__ import annotations

import time

import torch
from tabulate import tabulate

from core.attacks.fixed_budget.pgd import pgd
from core.data.sets import first_of_test, to_float
from core.jobs import queue, reference_build
from core.models.saved import load_model
from core.networks.catalogue import logits_of
from core.specs import GeneratorStrong, SweepSpec
from core.storage.store import default_root

SET3_SHEET = {
    "standard, clean": (0.9858, 0.0142, 0.9858, 0.9899, 0.7029),
    "standard, FGSM": (0.0496, 0.9504, 0.9305, 0.8869, 0.9328),
    "FGSM mix, clean": (0.9840, 0.0160, 0.9712, 0.9761, 0.6734),
    "FGSM mix, FGSM": (0.8328, 0.1672, 0.8458, 0.8761, 0.6947),
}
"""Correct, error, confidence, when correct, when wrong; ε unstated (.9712 is printed .9721, a misprint)."""
SET5_EPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
SET5_SHEET = {
    "logistic regression": (0.913, 0.618, 0.157, 0.027, 0.002, 0.0, 0.0),
    "CNN": (0.972, 0.914, 0.795, 0.601, 0.367, 0.172, 0.055),
    "CNN, FGSM-trained at .25": (0.965, 0.941, 0.910, 0.871, 0.813, 0.746, 0.646),
}
FIVE = ("accuracy", "error", "confidence", "confidence_correct", "confidence_wrong")


def reach(models: list[str], n: int, steps: int, restarts: int, eps: float | None) -> str:
    """Accuracy under PGD, ours and torchattacks' with so many random starts each, at the ε a model was trained for.

    The peer steps by 2.5 ε / steps, as in Madry's challenge; each of its starts is run on all images, and an image
    counts as correct where it is read correctly after every one of them.
    """
    rows = []
    for name in models:
        saved = load_model(name, default_root())
        data = first_of_test(saved.data(), n)
        x, y = to_float(data.x), data.y
        usual = 8 / 255 if saved.spec.data.dataset == "cifar10" else 0.3
        budget = eps if eps is not None else getattr(saved.spec.recipe, "eps", usual)
        start = time.process_time()
        ours = pgd(saved.model, x, y, eps=budget, steps=steps, restarts=restarts)
        spent = time.process_time() - start
        start = time.process_time()
        theirs = _torchattacks(saved.model, x, y, budget, steps, restarts)
        rows.append(
            {
                "model": saved.artifact.id,
                "eps": f"{budget:.4g}",
                "n": len(y),
                "clean": _accuracy(saved.model, x, y),
                f"ours, PGD-{steps}×{restarts}": 1 - ours.success.float().mean().item(),
                f"torchattacks, PGD-{steps}×{restarts}": theirs,
                "CPU-s ours": spent,
                "CPU-s theirs": time.process_time() - start,
            }
        )
    return tabulate(rows, headers="keys", tablefmt="github", floatfmt=".4f")


def _torchattacks(
    model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, eps: float, steps: int, restarts: int
) -> float | str:
    try:
        import torchattacks
    except ImportError:
        return "not installed"
    held = torch.ones(len(y), dtype=torch.bool)
    for start in range(restarts):
        torch.manual_seed(start)
        attack = torchattacks.PGD(model, eps=eps, alpha=2.5 * eps / steps, steps=steps)
        for rows in torch.arange(len(y)).split(256):
            held[rows] &= logits_of(model, attack(x[rows], y[rows])).argmax(dim=1) == y[rows]
    return held.float().mean().item()


def _accuracy(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    return (logits_of(model, x).argmax(dim=1) == y).float().mean().item()


def set1(models: list[str], n: int) -> str:
    """The strong generator attack on an undefended model and on others: medians of the fooled, times the first one's.

    Below them the share of all n images that each has fooled within a distance.
    """
    rows: list[list[object]] = []
    found = {name: _drawn_distances(name, n) for name in models}
    first: dict[str, float] = {}
    for name, distances in found.items():
        medians = {norm: values[values < torch.inf].median().item() for norm, values in distances.items()}
        first = first or medians
        fooled = (distances["l2"] < torch.inf).float().mean().item()
        rows.append([name, fooled, *(f"{value:.3f} ({value / first[norm]:.2f}x)" for norm, value in medians.items())])
    lines = [tabulate(rows, headers=["set 1D", "fooled", "median l2", "median linf"], tablefmt="github")]
    for norm in ("l2", "linf"):
        widest = max(values[values < torch.inf].max().item() for values in (held[norm] for held in found.values()))
        caps = [widest * place / 10 for place in range(1, 11)]
        shares = [[name, *((held[norm] <= cap).float().mean().item() for cap in caps)] for name, held in found.items()]
        headers = [f"fooled within {norm}", *(f"{cap:.2f}" for cap in caps)]
        lines.append(tabulate(shares, headers=headers, tablefmt="github", floatfmt=".2f"))
    return "\n\n".join(lines)


def _drawn_distances(name: str, n: int) -> dict[str, torch.Tensor]:
    """l2 and linf of each image that the attack made; infinite where it did not fool."""
    saved = load_model(name, default_root())
    result = reference_build.drawn(saved.model, saved.data(), GeneratorStrong(), n=n)
    return {norm: result.distance[norm].where(result.success, torch.inf) for norm in ("l2", "linf")}


def set3(standard: str, mixed: str, n: int, eps: float) -> str:
    """The five metrics of both networks, clean and moved by FGSM at `eps`, clipped and not, under the sheet's."""
    rows: list[list[object]] = [[f"sheet: {name}", "", *values] for name, values in SET3_SHEET.items()]
    for name in (standard, mixed):
        for clip in (True, False):
            clean, moved = _sweep(name, (0.0, eps), n, clip)
            if clip:
                rows.append([f"{name}, clean", 0, *(clean[metric] for metric in FIVE)])
            how = f"{name}, FGSM {'clipped' if clip else 'unclipped'}"
            rows.append([how, eps, *(moved[metric] for metric in FIVE)])
    headers = ["set 3", "ε", "correct", "error", "confidence", "when correct", "when wrong"]
    return tabulate(rows, headers=headers, tablefmt="github", floatfmt=".4f")


def set5(models: list[str], n: int) -> str:
    """The three curves of accuracy against ε under clipped FGSM, each under the sheet's."""
    rows: list[list[object]] = []
    for (title, sheet), name in zip(SET5_SHEET.items(), models, strict=True):
        found = [row["accuracy"] for row in _sweep(name, SET5_EPS, n, True)]
        rows += [[f"sheet: {title}", *sheet], [name, *found]]
    return tabulate(rows, headers=["set 5", *map(str, SET5_EPS)], tablefmt="github", floatfmt=".3f")


def _sweep(model: str, eps: tuple[float, ...], n: int, clip: bool) -> list[dict[str, float]]:
    swept = queue.run(SweepSpec(model=model, attack={"name": "fgsm", "clip": clip}, eps=eps, n=n))
    assert not isinstance(swept, list)
    return list(swept.card["rows"])
