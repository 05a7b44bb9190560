"""Training by several processes: the weights of one, and one artifact."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from core import specs
from core.data.sets import load
from core.storage import store
from core.training.loop import train
from core.training.parallel import ALONE, Group
from core.training.steps import new_model
from tests.training.together import weights

COMMAND = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "core")


def run_together(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, run by two processes on the CPU."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    return subprocess.run(
        [sys.executable, *COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=600
    )


@pytest.mark.slow
def test_two_processes_end_in_the_weights_of_one(store_root: Path) -> None:
    """Digits, dense network, standard recipe: the same batches, so equal but for rounding; told once, written once."""
    spec = specs.TrainSpec(network="mlp", epochs=2)
    ended = run_together("train", "--network", "mlp", "--epochs", "2", "--json")
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    artifact = store.find(spec, store_root)
    assert artifact is not None
    assert artifact.id == spec.artifact_name() == told["model"]
    data = load(spec.data)
    alone = train(spec, data)
    made = artifact.arrays("weights")
    torch.manual_seed(spec.seed)
    first = new_model(spec, data).state_dict()
    moved, apart = (
        torch.cat([(alone.model.state_dict()[name] - other).flatten() for name, other in others.items()]).norm()
        for others in (first, {name: torch.from_numpy(value) for name, value in made.items()})
    )
    assert apart < 0.02 * moved  # rounded to bfloat16 on the way, in other batches
    for ours, theirs in zip(alone.history, artifact.card["history"], strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-2)
        assert theirs["epoch"] == ours["epoch"]
    assert not list((store_root / store.CHECKPOINTS).glob("*"))


def test_in_float32_only_the_order_of_sums_differs(tmp_path: Path) -> None:
    """Two processes by gloo against one: averaged gradients of even and uneven shares, momentum, averaged weights."""
    script, out = Path(__file__).with_name("together.py"), tmp_path / "weights.safetensors"
    command = [sys.executable, *COMMAND[:5], str(script), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    together = load_file(out)
    for name, value in weights().items():
        assert (value - together[name]).abs().max() <= 1e-5 * value.abs().max(), name


def test_shares_make_up_the_batch() -> None:
    """Every row once; a batch of fewer rows than processes goes to each of them whole; alone, all rows."""
    rows = torch.arange(11)
    assert torch.equal(torch.cat([Group(rank, 4).share(rows) for rank in range(4)]), rows)
    assert [len(Group(rank, 4).share(rows)) for rank in range(4)] == [3, 3, 3, 2]
    assert torch.equal(Group(3, 4).share(rows[:3]), rows[:3])
    assert torch.equal(ALONE.share(rows), rows)


def test_batch_too_small_for_the_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch normalisation needs two images in each; the message names both numbers."""
    from core.training import parallel

    monkeypatch.setattr(parallel, "group", lambda: Group(0, 4))
    spec = specs.TrainSpec(network="resnet_small", batch_size=7)
    with pytest.raises(ValueError, match=r"batch_size: expected at least 8 .* resnet_small in 4 processes.* got 7"):
        train(spec, load(spec.data))


def test_one_process_changes_nothing() -> None:
    """Alone, gradients, numbers and random states are left as they are."""
    model = nn.Linear(3, 2)
    model(torch.ones(4, 3)).sum().backward()
    assert model.weight.grad is not None
    before, state = model.weight.grad.clone(), torch.get_rng_state()
    ALONE.average_gradients(model, 4)
    ALONE.average_buffers(model, None)
    ALONE.seed(0, 1)
    assert torch.equal(model.weight.grad, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert ALONE.agreed([0.5, 1], "cpu") == [0.5, 1]
    assert ALONE.named("cuda:0") == "cuda:0"
    with ALONE.one_first():
        pass


def test_other_tasks_are_refused(monkeypatch: pytest.MonkeyPatch, trained_store: Path) -> None:
    """Only a training is shared out."""
    from core.jobs import running

    monkeypatch.setenv("WORLD_SIZE", "2")
    model = store.models(trained_store)[0].id
    with pytest.raises(ValueError, match="expected a training"):
        running.run(specs.SweepSpec(model=model), trained_store)
