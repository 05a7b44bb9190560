"""Networks of others: what the import finds out, what is left of them under attack, what is proven, and in what time.

    python -m benchmarks.foreign FILE:DATA … [--eps 2/255 8/255] [--n 200] [--plain]

    python -m benchmarks.foreign net.onnx:mnist other.onnx:cifar10 --eps 1/255 2/255

For each file: import, `evaluate` (quick) and `certify` (alpha_crown) at each ε, on the first n test images, in a store
of its own. With `--plain`, the same by a script that knows nothing of this program: onnx2pytorch runs the graph one
image at a time where it is made for one, torchattacks attacks it (AutoAttack's first attack, APGD-CE, and PGD of 40
steps; see `benchmarks/requirements.txt` for it), with the normalisation that was found. Seconds are the clock's.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn

from core.data.sets import first_of_test, load, to_float
from core.epsilon import parse
from core.jobs import running
from core.jobs.importing import import_model
from core.specs import CertifySpec, DataSpec, EvaluateSpec, Framing


class Plain(nn.Module):
    """A graph as onnx2pytorch runs it, behind a framing."""

    def __init__(self, data: bytes, framing: Framing) -> None:
        super().__init__()
        import onnx
        from onnx2pytorch import ConvertModel

        self.body = ConvertModel(onnx.load(io.BytesIO(data)), experimental=True)
        self.framing = framing

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.framing.mean, self.framing.std))
        x = (x - mean) / std
        return self.body(x if self.framing.shape is None else x.reshape(len(x), *self.framing.shape))


def measured(file: Path, data: str, eps: list[float], n: int, root: Path) -> tuple[list[dict[str, Any]], Framing]:
    """A row an ε for one file, and the framing that was found."""
    begun = time.perf_counter()
    model = import_model(file, data=data, root=root)
    seconds = time.perf_counter() - begun
    found = {finding["name"]: finding for finding in model.card["found"]}
    rows = []
    for value in eps:
        begun = time.perf_counter()
        left = running.run(EvaluateSpec(model=model.id, eps=value, effort="quick", n=n), root)
        middle = time.perf_counter()
        proof = running.run(CertifySpec(model=model.id, eps=value, n=n), root)
        assert not isinstance(left, list)
        assert not isinstance(proof, list)
        rows.append(
            {
                "network": file.stem,
                "normalisation": f"{found['normalisation']['verdict']}: {found['normalisation']['said'].split(':')[0]}",
                "clean": model.card["metrics"]["test_accuracy"],
                "import s": seconds,
                "eps": value,
                "robust": left.card["metrics"]["robust_accuracy"],
                "evaluate s": middle - begun,
                "proven": proof.card["metrics"]["proven_accuracy"],
                "certify s": time.perf_counter() - middle,
            }
        )
    return rows, Framing.model_validate(model.card["framing"])


def plainly(file: Path, framing: Framing, data: str, eps: list[float], n: int) -> list[dict[str, Any]]:
    """The same images by onnx2pytorch and torchattacks."""
    import torchattacks

    model = Plain(file.read_bytes(), framing).eval()
    images = first_of_test(load(DataSpec.model_validate(data)), n)
    x, y = to_float(images.x), images.y
    rows = []
    for value in eps:
        for attack in (
            torchattacks.PGD(model, eps=value, alpha=2.5 * value / 40, steps=40),
            torchattacks.APGD(model, eps=value, steps=100, loss="ce"),
        ):
            begun = time.perf_counter()
            x_adv = torch.cat([attack(*part) for part in zip(x.split(128), y.split(128), strict=True)])
            with torch.no_grad():
                right = (model(x_adv).argmax(1) == y) & (model(x).argmax(1) == y)
            rows.append(
                {
                    "network": file.stem,
                    "attack": type(attack).__name__,
                    "eps": value,
                    "robust": float(right.double().mean()),
                    "seconds": time.perf_counter() - begun,
                }
            )
    return rows


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE:DATA")
    parser.add_argument("--eps", nargs="+", type=parse, default=[2 / 255, 8 / 255])
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--plain", action="store_true", help="also by onnx2pytorch and torchattacks")
    options = parser.parse_args()
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as root:
        for entry in options.files:
            name, _, data = entry.rpartition(":")
            rows, framing = measured(Path(name), data, options.eps, options.n, Path(root))
            ours += rows
            if options.plain:
                theirs += plainly(Path(name), framing, data, options.eps, options.n)
    print(tabulate(ours, headers="keys", floatfmt=".3g", tablefmt="github"))
    if theirs:
        print()
        print(tabulate(theirs, headers="keys", floatfmt=".3g", tablefmt="github"))


if __name__ == "__main__":
    main()
