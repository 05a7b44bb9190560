"""Every task on an accelerator, pretended or real, from its spec to its artifact: the same answers as on the CPU."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from core import specs
from core.jobs import at_once, importing, reference_build, running
from core.models import reference
from core.networks.onnx_export import exported
from core.specs import RECIPES, Task
from core.storage import store
from core.training import loop
from core.training.estimate import estimate_seconds
from tests.fixtures.artifacts import WEIGHTS
from tests.pretended import Pretended

Root, Device = Path, AbstractContextManager[object]
FEW = 3
EPS = {"linf": 0.08, "l2": 0.5, "l1": 2.0, "l0": 4.0}
TRAINING: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 2, "warmup": 0.3, "stability": 0.01},
    "trades": {"steps": 2},
    "free": {"replays": 2},
    "ibp": {"steps": 2, "weight": 0.3},
    "generator": {"rounds": 3, "steps": 2, "refresh": 5},
}
"""Settings of the recipes that are slow without."""


def _tasks() -> dict[str, Task]:
    mlp = {"model": "digits-mlp", "n": FEW}
    scalar = {"model": "digits-4v9", "n": FEW}
    attacked: dict[str, Any] = {"attack": {"name": "pgd", "steps": 3}, "eps": 0.1}
    patterns = {"model": "digits-mlp", "n": 6, "held_out": 4}
    return {
        "attack": specs.AttackSpec(**mlp, **attacked, target="all", mask="patch", eight_bit=True),
        "attack-start": specs.AttackSpec(**mlp, attack={"name": "hop_skip_jump", "queries": 60}, target=3),
        "attack-indices": specs.AttackSpec(model="digits-mlp", attack="deepfool", indices=(925, 108)),
        "attack-physical": specs.AttackSpec(**mlp, attack={"name": "physical", "steps": 3, "scenes": 2, "fresh": 2}),
        "attack-surrogate": specs.AttackSpec(
            **mlp, attack={"name": "transfer", "steps": 2, "surrogate": "digits-linear"}, eps=0.1
        ),
        "sweep": specs.SweepSpec(**scalar, attack="fgsm", eps=(0.0, 0.1, 0.3), threshold=0.5),
        "sweep-smallest": specs.SweepSpec(**mlp, attack="jacobian_dense", target=3, eps=(0.02, 0.1)),
        "compare": specs.CompareSpec(models=("digits-linear", "digits-mlp"), eps=(0.1,), n=FEW),
        "transfer": specs.TransferSpec(models=("digits-linear", "digits-mlp"), eps=0.1, n=FEW),
        "universal-gradient": specs.UniversalSpec(**patterns, eps=0.2, method={"name": "gradient", "epochs": 1}),
        "universal-uap": specs.UniversalSpec(**patterns, eps=0.2, method={"name": "uap", "epochs": 1}),
        "universal-lp": specs.UniversalSpec(**patterns | {"n": 3}, method={"name": "lp"}),
        "pattern": specs.PatternSpec(**patterns, epochs=1, scenes=2, source=(1, 2), target=4),
        **{f"radii-{norm}": specs.RadiiSpec(**mlp, norm=norm, budget=50) for norm in EPS},
        **{
            f"evaluate-{norm}": specs.EvaluateSpec(**mlp | {"n": 2}, norm=norm, eps=EPS[norm], effort="quick")
            for norm in EPS
        },
        **{f"certify-{way}": specs.CertifySpec(**mlp, method=way, eps=0.03) for way in ("ibp", "crown_ibp", "crown")},
        "certify-alpha_crown": specs.CertifySpec(**mlp, method="alpha_crown", norm="l2", eps=0.2),
        "certify-exact": specs.CertifySpec(**mlp, method="exact", eps=0.05, time_limit=5),
        "certify-smoothing": specs.CertifySpec(**mlp, method="smoothing", norm="l2", draws=200, sigma=0.1),
    }


TASKS = _tasks()


@pytest.fixture
def roots(trained_store: Path, tmp_path: Path) -> tuple[Root, Root]:
    """Two stores with the same models."""
    there, here = (shutil.copytree(trained_store, tmp_path / name) for name in ("there", "here"))
    return Path(there), Path(here)


def _made(task: Task, root: Path, device: str) -> list[store.Artifact]:
    with torch.random.fork_rng(devices=[]):
        return running.run_all(task, root, device=device)


def _same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """The same rows: verdicts exactly, numbers up to rounding in another layout of the images."""
    assert list(ours.columns) == list(theirs.columns)
    for name in ours.columns:
        if name == "seconds":
            continue
        if ours[name].dtype.kind == "f":
            assert ours[name].to_numpy() == pytest.approx(theirs[name].to_numpy(), rel=0.02, abs=0.02, nan_ok=True), (
                name
            )
        else:
            assert ours[name].tolist() == theirs[name].tolist(), name


@pytest.mark.parametrize("name", TASKS)
def test_task_on_the_device(name: str, roots: tuple[Root, Root], accelerator: Device) -> None:
    """Its card says where it ran, its tables are those of the CPU."""
    with accelerator:
        there = _made(TASKS[name], roots[0], "cuda")
    here = _made(TASKS[name], roots[1], "cpu")
    assert [one.id for one in there] == [one.id for one in here]
    for ours, theirs in zip(there, here, strict=True):
        assert (ours.card["device"], theirs.card["device"]) == ("cuda", "cpu")
        tables = [name.removesuffix(".parquet") for name in theirs.card["files"] if name.endswith(".parquet")]
        assert tables
        for table in tables if isinstance(accelerator, Pretended) else ():  # a real one rounds otherwise
            _same(ours.table(table), theirs.table(table))


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_on_the_device(recipe: str, tmp_path: Path, accelerator: Device) -> None:
    """One epoch of a small convolutional network: it ends, and its weights are files that the CPU reads."""
    spec = specs.TrainSpec(
        network="cnn",
        data=specs.DataSpec(classes=(3, 8)),
        recipe={"name": recipe, **TRAINING.get(recipe, {})},
        epochs=1,
        batch_size=128,
        average=0.9,
        augment="none" if recipe == "fgsm_mix" else "crop_flip_cutout",
    )
    with accelerator:
        (made,) = _made(spec, tmp_path, "cuda")
    assert made.card["device"] == "cuda"
    assert made.card["metrics"]["test_n"] > 0
    assert all(torch.from_numpy(value).isfinite().all() for value in made.arrays("weights").values())


def test_training_resumes_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelerator: Device) -> None:
    """Stopped after an epoch, it goes on from the state on disk: moments, averaged weights, random numbers."""
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 0.0)
    spec = specs.TrainSpec(network="linear", data=specs.DataSpec(classes=(3, 8)), epochs=3, average=0.9)

    class Stop(Exception):
        pass

    def stop(done: int, total: int, **metrics: Any) -> None:
        if "epoch" in metrics and metrics["epoch"] == 2:
            raise Stop

    with accelerator:
        with pytest.raises(Stop):
            running.run_all(spec, tmp_path, device="cuda", on_progress=stop)
        (made,) = _made(spec, tmp_path, "cuda")
    assert [row["epoch"] for row in made.card["history"]] == [1, 2, 3]
    assert made.card["timing"]["cpu_seconds"] is None  # of one that was resumed


def test_import_of_a_module_on_the_device(tmp_path: Path, accelerator: Device) -> None:
    """An ONNX graph is examined on the device, and its model is attacked there."""
    pytest.importorskip("onnx", reason="modules are exported to ONNX")
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        *(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2)),
        *(torch.nn.Flatten(), torch.nn.Linear(36, 10)),
    )
    graph = exported(module.eval(), (1, 8, 8), torch.rand(4, 1, 8, 8))  # no function is traced on the pretended device
    with accelerator:
        made = importing.import_model(graph, data="digits", label="net", root=tmp_path, device="cuda")
        found = running.run(specs.SweepSpec(model=made.id, eps=(0.1,), n=FEW), tmp_path, device="cuda")
    assert isinstance(found, store.Artifact)
    assert (made.card["device"], found.card["device"]) == ("cuda", "cuda")


def test_import_on_the_device(tmp_path: Path, accelerator: Device) -> None:
    """Somebody else's weights: examined there, with the findings of the CPU."""
    with accelerator:
        there = importing.import_model(
            WEIGHTS, data="digits", architecture="linear", root=tmp_path / "a", device="cuda"
        )
    here = importing.import_model(WEIGHTS, data="digits", architecture="linear", root=tmp_path / "b", device="cpu")
    assert there.card["device"] == "cuda"
    assert there.card["framing"] == here.card["framing"]
    assert [one["verdict"] for one in there.card["found"]] == [one["verdict"] for one in here.card["found"]]


def test_a_reference_is_made_on_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelerator: Device
) -> None:
    """Trained, brought to half precision, attacked, proven and bundled."""
    tiny = reference.Reference(
        "tiny", specs.TrainSpec(network="linear", recipe={"name": "ibp", "eps": 0.05}, epochs=1), "A test.", drawn=True
    )
    monkeypatch.setenv("ADVERSARIAL_LAB_REFERENCE", str(tmp_path / "reference"))
    monkeypatch.setitem(reference.REFERENCES, "tiny", tiny)
    monkeypatch.setattr(reference_build, "PGD", specs.Pgd(steps=2))
    monkeypatch.setattr(reference_build, "DRAWN", (specs.GeneratorStrong(rounds=5),))
    monkeypatch.setattr(reference_build, "DRAWN_N", FEW)
    with accelerator:
        made = reference_build.make("tiny", tmp_path / "store", device="cuda", n=FEW)
    assert made.card["reference"]["measuring"]["device"] == "cuda"
    assert list(made.table("measurements")["measure"]) == ["clean", "pgd", "proven", "generator_strong"]


def test_answers_and_estimates_on_the_device(trained_store: Path, accelerator: Device) -> None:
    """What a page asks for at once, and how long a training would take."""
    spec = specs.TrainSpec(network="cnn", recipe={"name": "pgd", "steps": 2}, batch_size=32)
    with accelerator:
        made = at_once.answer(TASKS["attack-surrogate"], trained_store, seconds=600, device="cuda")
        assert estimate_seconds(spec, device="cuda")
    assert made.card["device"] == "cuda"
