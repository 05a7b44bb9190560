"""Memory: what an attack needs beyond the images grows with the batch, not with the set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = '''
import resource, sys, torch
from pathlib import Path
from torch import nn
from core import specs
from core.attacks import run_method

def peak():
    """Bytes; not from getrusage where there is another way: it starts from what the parent process had."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

METHODS = [specs.Fgsm(), specs.Pgd(steps=2), specs.Pgd(steps=2, norm="l2"), specs.Apgd(steps=2, norm="l1")]
METHODS += [specs.Square(queries=3), specs.Ddn(steps=2), specs.SigmaZero(steps=2)]
torch.set_num_threads(1)
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 10))
peaks = []
for n in (300, 2300):
    x, y = torch.rand(n, 3, 32, 32), torch.randint(10, (n,))
    for method in METHODS:
        run_method(model, x, y, method, eps=0.05 if method.needs_eps else None, eight_bit=True)
        size = peak()
        print(n, method.slug(), size >> 20, file=sys.stderr)
    peaks.append(size)
print((peaks[1] - peaks[0]) / (2000 * 3 * 32 * 32 * 4))
'''
"""Prints how many sets of images as float32 the peak has grown by, from 300 images to 2,300."""


MOST = 16
"""Sets of 10,000 CIFAR-10 images (0.11 GiB each) that lie, beside PyTorch's own 0.6 GiB, well under 3 GiB."""


@pytest.mark.slow
def test_memory_grows_by_a_few_copies_of_the_images() -> None:
    """x, x_adv, the images in 8 bits and what is at hand while they are measured; nothing for each step or feature."""
    found = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=600)
    assert 1 < float(found.stdout) < MOST, found.stdout + found.stderr


CLASSES = '''
import sys, torch
from pathlib import Path
from torch import nn
from core.attacks import fmn, jacobian_dense

def peak():
    """Bytes."""
    return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

torch.set_num_threads(1)
torch.manual_seed(0)
x = torch.rand(8, 3, 64, 64)
small, large = (nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), classes)).eval() for classes in (3, 400))
jacobian_dense(small, x, small(x).argmax(1))
before = peak()
jacobian_dense(large, x, large(x).argmax(1))
print((peak() - before) >> 20)
conv = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 62 * 62, 3)).eval()
y = conv(x).argmax(1)
fmn(conv, x, y, norm="l2", steps=40)
before = peak()
made = fmn(conv, x.clone().requires_grad_(), y, norm="l2", steps=40)
print((peak() - before) >> 20, made.x_adv.requires_grad)
'''
"""Prints the MiB that 400 classes take in place of 3, and those that images that require gradients take in fmn."""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_memory_does_not_grow_with_the_classes_nor_with_the_steps() -> None:
    """A gradient of each of 400 classes would be 157 MiB, the graph of 40 steps several hundred."""
    found = subprocess.run([sys.executable, "-c", CLASSES], capture_output=True, text=True, check=True, timeout=300)
    classes, steps = found.stdout.split("\n")[:2]
    assert int(classes) < 80, found.stdout
    assert int(steps.split()[0]) < 80, found.stdout
    assert steps.split()[1] == "False"
