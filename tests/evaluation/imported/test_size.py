"""ImageNet-sized networks: 224×224×3 and 1,000 outputs through import, attack, sweep, radii, evaluation in 4 GiB."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from core.evaluation.imported.asking import Sample
from core.networks.framed import Framed
from core.networks.portions import BUDGET, arithmetic, at_once, in_portions, memory, most_of
from core.specs import Framing

PROJECT = Path(__file__).resolve().parents[3]
SIDE, CLASSES = 224, 5
RUN = """
import json, resource, sys
import torch
from safetensors.torch import save_file
from core.jobs import running
from core.jobs.importing import import_model
from core.networks.architectures import build
from core.specs import AttackSpec, DataSpec, EvaluateSpec, RadiiSpec, SweepSpec

name, folder, root, tasks, n = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4].split(), int(sys.argv[5])
torch.manual_seed(0)
save_file(build(name, (3, 224, 224), 1000).state_dict(), root + "/net.safetensors")
data = DataSpec(dataset="folder", folder=folder, image_size=224)
model = import_model(root + "/net.safetensors", data=data, root=root, architecture=name, classes=tuple(range(5)))
specs = {
    "attack": AttackSpec(model=model.id, attack={"name": "pgd", "steps": 3}, eps=4 / 255, n=n),
    "sweep": SweepSpec(model=model.id, attack={"name": "pgd", "steps": 2}, eps=(1 / 255, 4 / 255), n=n),
    "radii": RadiiSpec(model=model.id, budget=50, n=n),
    "evaluate": EvaluateSpec(model=model.id, eps=4 / 255, effort="quick", n=n),
}
made = [running.run(specs[task], root and __import__("pathlib").Path(root)).id for task in tasks]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"made": made, "peak": peak, "cost": model.card["cost"], "network": model.card["network"]}))
"""


def _folder(root: Path, each: int) -> Path:
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        for part, count in (("train", 1), ("test", each)):
            place = root / part / f"class{label}"
            place.mkdir(parents=True)
            for row in range(count):
                pixels = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
                Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(place / f"{row}.png")
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tasks", "n"),
    [
        ("timm:test_vit", "attack sweep radii evaluate", 10),
        ("timm:vit_tiny_patch16_224", "attack", 5),
        ("torchvision:resnet18", "attack", 5),
    ],
)
def test_large_networks_go_through_within_the_memory(name: str, tasks: str, n: int, tmp_path: Path) -> None:
    """Every task ends, in a process of its own that never held 4 GiB."""
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    folder = _folder(tmp_path / "images", 2)
    root = tmp_path / "store"
    root.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", RUN, name, str(folder), str(root), tasks, str(n)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert len(said["made"]) == len(tasks.split())
    assert said["peak"] < 4 << 30
    assert said["network"]["outputs"] == 1000
    assert said["cost"]["bytes_an_image"] > 0


class _Watched(nn.Module):
    """A convolution that notes the batches that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        self.seen.append(len(x))
        return self.layers(x)


def test_a_batch_goes_in_portions_with_the_same_logits_and_gradients() -> None:
    """No portion is larger than what fits, forwards and backwards."""
    torch.manual_seed(0)
    body = _Watched().requires_grad_(False).eval()
    x = torch.rand(11, 3, 12, 12)
    whole, parts = Framed(body, Framing()), Framed(body, Framing(), 4)
    assert torch.allclose(whole(x), parts(x), atol=1e-6)
    slopes = []
    for model in (whole, parts):
        body.seen.clear()
        leaf = x.clone().requires_grad_()
        slopes.append(torch.autograd.grad(model(leaf).square().sum(), leaf)[0])
    assert torch.allclose(slopes[0], slopes[1], atol=1e-6)
    assert max(body.seen) <= 4
    assert most_of(nn.Sequential(parts)) == 4
    assert most_of(whole) is None
    assert torch.equal(in_portions(body, x, None), body(x))


def test_attacks_take_as_many_images_as_fit() -> None:
    """Their batch is cut down, and results are those of the larger one."""
    from core.attacks.minimal.ddn import ddn

    torch.manual_seed(0)
    body = _Watched().requires_grad_(False).eval()
    x = torch.rand(9, 3, 12, 12)
    whole, parts = Framed(body, Framing()).eval(), Framed(body, Framing(), 2).eval()
    y = whole(x).argmax(1)
    first = ddn(whole, x, y, steps=5)
    body.seen.clear()
    second = ddn(parts, x, y, steps=5)
    assert max(body.seen) <= 2
    assert torch.allclose(first.x_adv, second.x_adv, atol=1e-5)


def test_what_an_image_costs_is_counted() -> None:
    """Products by hand; memory grows with the activations, and does not count the weights."""
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Flatten(), nn.Linear(48, 1000), nn.ReLU(), nn.Linear(1000, 10)).requires_grad_(False)
    x = torch.rand(2, 3, 4, 4)
    assert arithmetic(dense, x) == 2 * (48 * 1000 + 1000 * 10)
    few = memory(dense, x)
    assert 4 * 1000 <= few < 4 * 48 * 1000
    wide = nn.Sequential(nn.Flatten(), nn.Linear(48, 4000), nn.ReLU(), nn.Linear(4000, 10)).requires_grad_(False)
    assert 3 * few < memory(wide, x) < 5 * few
    assert at_once(0) is None
    assert at_once(BUDGET) == 1
    assert at_once(2 * BUDGET) == 1
    assert at_once(BUDGET // 8) == 8
    sample = Sample.of(dense, x, [Framing()])
    assert sample.memory == few
