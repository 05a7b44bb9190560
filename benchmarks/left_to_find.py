"""Whether the interval of what is left to find holds what the longer search finds: on small networks, trained here.

    python -m benchmarks.left_to_find [--images 200] [--only reported] [--norms l0]

Each is trained in seconds and evaluated with every effort on the same images; what `at_least_autoattack` fools and
`quick` or `standard` did not is the truth. The first `CHOSEN` of `SUBJECTS` are those that the estimate's prior was
fitted on; the others were only looked at.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.carry_over import trained
from core.data.sets import first_of_test, load, to_float
from core.evaluation.robust.robust import evaluate
from core.models.reference import train_spec
from core.specs import TrainSpec
from core.specs.methods.base import NORMS

_ROBUST: dict[str, Any] = {"optimizer": "adam", "weight_decay": 0.0, "lr": 0.002, "average": 0.98}


def _robust(dataset: str, network: str, recipe: str, seed: int, eps: float, epochs: int, **more: Any) -> TrainSpec:
    return train_spec(dataset, network, recipe, seed=seed, eps=eps, epochs=epochs, **_ROBUST, **more)


_SLOW: dict[str, Any] = {"warmup": 0.4}
_FEW: dict[str, Any] = {"steps": 4}
SUBJECTS: list[tuple[TrainSpec, str, float]] = [
    (_robust("digits", "cnn", "pgd", 1, 0.15, 20), "linf", 0.2),
    (_robust("digits28", "lenet", "fgsm", 1, 0.2, 15, **_SLOW), "linf", 0.2),
    (_robust("digits", "lenet", "trades", 1, 0.15, 15, **_FEW), "linf", 0.15),
    (_robust("digits", "mlp", "pgd", 2, 0.15, 20), "l2", 0.8),
    (_robust("digits28", "strided", "pgd", 2, 0.2, 12, **_FEW, **_SLOW), "linf", 0.2),
    (_robust("digits", "cnn", "pgd", 1, 0.15, 20), "l2", 1.0),
    (_robust("digits", "lenet", "ibp", 1, 0.15, 20), "linf", 0.15),
    (train_spec("digits", "cnn", "standard", seed=1, epochs=15), "linf", 0.05),
    (_robust("digits28", "lenet", "fgsm", 1, 0.2, 15, **_SLOW), "l2", 1.5),
    (_robust("digits", "lenet", "trades", 1, 0.15, 15, **_FEW), "l1", 3.0),
    (_robust("digits", "cnn", "fgsm", 3, 0.15, 15), "linf", 0.15),
    (_robust("digits28", "cnn", "trades", 3, 0.2, 12, **_FEW, **_SLOW), "linf", 0.2),
    (_robust("digits28", "strided", "fgsm", 4, 0.2, 12, **_SLOW), "linf", 0.25),
    (_robust("digits", "mlp", "trades", 4, 0.15, 20, **_FEW), "linf", 0.2),
    (_robust("digits", "strided", "pgd", 5, 0.1, 20, **_FEW), "linf", 0.1),
    (train_spec("digits", "lenet", "noise", seed=5, epochs=15), "linf", 0.08),
    (_robust("digits", "lenet", "pgd", 6, 0.1, 15), "l2", 0.6),
    (_robust("digits28", "lenet", "pgd", 7, 0.2, 12, **_FEW, **_SLOW), "linf", 0.15),
    (_robust("digits", "cnn", "ibp", 7, 0.15, 20), "linf", 0.12),
    (_robust("digits", "strided", "trades", 8, 0.1, 15, **_FEW), "l2", 0.8),
    (_robust("digits", "mlp", "fgsm", 9, 0.1, 20), "linf", 0.1),
    (_robust("digits28", "strided", "pgd", 2, 0.2, 12, **_FEW, **_SLOW), "l2", 1.5),
    (_robust("digits", "cnn", "fgsm", 3, 0.15, 15), "l1", 4.0),
    (train_spec("digits", "lenet", "fgsm_mix", seed=10, eps=0.12, epochs=15), "linf", 0.12),
    (_robust("digits", "lenet", "trades", 11, 0.2, 15, **_FEW), "linf", 0.25),
    (train_spec("digits28", "cnn", "fgsm_mix", seed=11, eps=0.2, epochs=12), "linf", 0.15),
    (_robust("digits", "cnn", "trades", 12, 0.1, 15, **_FEW), "linf", 0.1),
    (_robust("digits", "strided", "ibp", 12, 0.1, 20), "l2", 0.8),
    (_robust("digits", "mlp", "ibp", 13, 0.1, 20), "linf", 0.1),
    (_robust("digits", "lenet", "pgd", 14, 0.15, 15), "linf", 0.18),
    (_robust("digits", "cnn", "pgd", 1, 0.15, 20), "l0", 2),
    (_robust("digits28", "lenet", "fgsm", 1, 0.2, 15, **_SLOW), "l0", 4),
    (_robust("digits", "lenet", "trades", 1, 0.15, 15, **_FEW), "l0", 3),
    (_robust("digits", "mlp", "pgd", 2, 0.15, 20), "l0", 2),
    (_robust("digits", "lenet", "ibp", 1, 0.15, 20), "l0", 2),
    (train_spec("digits", "cnn", "standard", seed=1, epochs=15), "l0", 1),
    (_robust("digits", "cnn", "fgsm", 3, 0.15, 15), "l0", 3),
    (_robust("digits28", "cnn", "trades", 3, 0.2, 12, **_FEW, **_SLOW), "l0", 5),
    (_robust("digits", "mlp", "trades", 4, 0.15, 20, **_FEW), "l0", 2),
    (_robust("digits", "strided", "pgd", 5, 0.1, 20, **_FEW), "l0", 2),
    (train_spec("digits", "lenet", "noise", seed=5, epochs=15), "l0", 2),
    (_robust("digits", "cnn", "ibp", 7, 0.15, 20), "l0", 2),
    (_robust("digits", "mlp", "fgsm", 9, 0.1, 20), "l0", 1),
]
"""Trainings, each with a norm and a budget; of CPU seconds to a minute or two each, the evaluations included."""
CHOSEN = 15


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--only", choices=("chosen", "reported"))
    parser.add_argument("--norms", nargs="+", choices=NORMS, default=NORMS)
    options = parser.parse_args()
    rows, held, asked = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for place, (spec, norm, eps) in enumerate(SUBJECTS):
            chosen = place < CHOSEN
            if (options.only and chosen != (options.only == "chosen")) or norm not in options.norms:
                continue
            model = trained(spec, Path(folder))
            batch = first_of_test(load(spec.data), options.images)
            given: dict[str, Any] = {"norm": norm, "eps": eps, "index": batch.index, "trust": False}
            made = {
                effort: evaluate(model, to_float(batch.x), batch.y, effort=effort, **given)
                for effort in ("quick", "standard", "at_least_autoattack")
            }
            last = made.pop("at_least_autoattack")
            for effort, one in made.items():
                left, found = one.left_to_find, int((one.robust & ~last.robust).sum())
                assert left is not None
                held, asked = held + (left.low <= found <= left.high), asked + 1
                name = spec.artifact_name().rsplit("-", 1)[0]
                rows.append(
                    (
                        name,
                        "yes" if chosen else "no",
                        norm,
                        eps,
                        effort,
                        int(one.robust.sum()),
                        found,
                        left.expected,
                        left.low,
                        left.high,
                    )
                )
                print(*rows[-1], flush=True)
    head = ("network", "chosen on", "norm", "eps", "effort", "standing", "found later", "expected", "low", "high")
    print(tabulate(rows, head, "github", floatfmt=".2f"))
    print(f"The interval held what was found in {held} of {asked}.")


if __name__ == "__main__":
    main()
