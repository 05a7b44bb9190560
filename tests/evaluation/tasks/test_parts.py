"""A task that is run on parts of its images gives what it gives on all of them."""

from __future__ import annotations

from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from core.data.sets import load
from core.evaluation.robust import digging
from core.evaluation.tasks.evaluate import ByImage
from core.evaluation.tasks.parts import Part
from core.jobs import running
from core.jobs.shards import ranges
from core.specs import (
    METHODS,
    AttackSpec,
    CertifySpec,
    DataSpec,
    EvaluateSpec,
    RadiiSpec,
    SweepSpec,
    Task,
    TransferSpec,
)
from core.storage import store
from core.storage.store import Outcome
from tests.rounding import ROUNDING, assert_arrays_alike

TIMES = ("seconds", "clean_seconds")
CUTS = (0, 9, 10, 26, 40)


def in_parts(spec: Task, root: Path, cuts: tuple[int, ...] = CUTS) -> Outcome:
    """Run a task as parts between these places, each opened anew, and close it."""
    by_image = import_module(running.runner_for(spec).__module__).ByImage
    first = by_image(spec, root, device="cpu")
    found = first.find()
    made = []
    for low, high in pairwise(cuts):
        task = by_image(spec, root, device="cpu", found=found)
        with task.asked():
            made.append(task.part(slice(low, min(high, task.count)), root / f"kept-{low}"))
    return by_image(spec, root, device="cpu", found=found).close(Part.joined(made))


def whole(spec: Task, root: Path) -> Outcome:
    """Run a task in one piece."""
    return running.runner_for(spec)(spec, root, device="cpu")


def assert_same(one: Outcome, other: Outcome) -> None:
    """The same verdicts, counts and cards; distances and confidences up to rounding."""
    assert one.tables.keys() == other.tables.keys()
    for name, table in one.tables.items():
        pd.testing.assert_frame_equal(table, other.tables[name], **ROUNDING)
    assert one.arrays.keys() == other.arrays.keys()
    for name, arrays in one.arrays.items():
        assert arrays.keys() == other.arrays[name].keys()
        for key, array in arrays.items():
            assert array.dtype == other.arrays[name][key].dtype, key
            assert_arrays_alike(array, other.arrays[name][key], f"{name} {key}")
    assert_alike(one.card, other.card, "card")


def assert_alike(one: Any, other: Any, where: str) -> None:
    """The same fields but for times; numbers up to rounding."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name, value in one.items():
            if name not in TIMES:
                assert_alike(value, other[name], f"{where}.{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_alike(left, right, f"{where}[{place}]")
    elif isinstance(one, float):
        assert other == pytest.approx(one, rel=1e-3, abs=1e-4, nan_ok=True), where
    else:
        assert one == other, where


CHANCY = ("simba",)
"""Attacks whose ways part at the last digit, which a batch of another size may change: it takes every step that lowers
the margin, by however little. `tests/attacks/test_contract.py` holds it to the same in float64."""
NUMBERS = tuple(load(DataSpec(dataset="digits")).test.index.tolist()[60:29:-1])
MLP: dict[str, Any] = {"model": "digits-mlp"}
SPECS: dict[str, Task] = {
    "evaluate-linf": EvaluateSpec(**MLP, eps=0.05, n=40),
    "evaluate-l2": EvaluateSpec(**MLP, norm="l2", eps=0.4, effort="quick", n=40),
    "evaluate-l1": EvaluateSpec(**MLP, norm="l1", eps=1.0, effort="quick", n=40),
    "evaluate-l0": EvaluateSpec(**MLP, norm="l0", eps=3, effort="quick", n=40),
    "evaluate-scalar": EvaluateSpec(model="digits-4v9", eps=0.05, effort="quick", n=40),
    "evaluate-at-zero": EvaluateSpec(**MLP, eps=0, effort="quick", n=40),
    "radii-linf": RadiiSpec(**MLP, n=40, budget=60),
    "radii-l0": RadiiSpec(**MLP, norm="l0", n=40, budget=60),
    "sweep-fgsm": SweepSpec(**MLP, n=40, eps=(0.0, 0.05, 0.2)),
    "sweep-pgd": SweepSpec(**MLP, n=40, attack={"name": "pgd", "steps": 5}, eps=(0.0, 0.05, 0.2), target=3),
    "sweep-dense": SweepSpec(**MLP, n=40, attack={"name": "jacobian_dense"}, eps=(0.05, 0.2)),
    "attack-first": AttackSpec(**MLP, attack={"name": "ddn", "steps": 10}, n=38),
    "attack-all": AttackSpec(**MLP, attack={"name": "pgd", "steps": 5}, eps=0.1, n=30, target="all"),
    "attack-named": AttackSpec(
        **MLP,
        attack={"name": "square", "queries": 30},
        eps=0.1,
        indices=NUMBERS,
    ),
    "certify-ibp": CertifySpec(**MLP, method="ibp", eps=0.01, n=40),
    "certify-exact": CertifySpec(model="digits-linear", method="exact", eps=0.02, n=40, time_limit=600),
    "certify-smoothing": CertifySpec(**MLP, method="smoothing", norm="l2", draws=200, n=40),
    "transfer": TransferSpec(models=("digits-linear", "digits-mlp"), eps=0.1, n=40),
}


@pytest.mark.parametrize("name", SPECS)
def test_parts_give_what_the_whole_gives(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, verdicts, rows, galleries and cards are those of a run in one piece, however its images were cut.

    An evaluation's searches end when they find nothing in a block of images: it is cut at blocks.
    """
    monkeypatch.setattr(digging, "BLOCK", 20)
    spec = store.resolve(SPECS[name], root)
    assert_same(whole(spec, root), in_parts(spec, root, (0, 20, 40) if isinstance(spec, EvaluateSpec) else CUTS))


def test_shards_of_an_evaluation_are_its_blocks() -> None:
    """The list of shards is made without PyTorch, so that it has a number of its own."""
    assert ranges.SIZES[EvaluateSpec] == digging.BLOCK == ByImage.unit


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", [name for name in METHODS if name not in CHANCY])
def test_parts_of_every_attack_give_what_the_whole_gives(name: str, root: Path) -> None:
    """Whatever an attack records of its images comes together row by row."""
    method = METHODS[name]
    settings = {key: 5 for key in ("steps", "iterations") if key in method.model_fields}
    more: dict[str, Any] = {"eps": 3 if method.norms[0] == "l0" else 0.1} if method.needs_eps else {}
    if method.needs_target:
        more["target"] = 3
    if method.needs_surrogate:
        settings["surrogate"] = "digits-linear"
    try:
        spec = AttackSpec(**MLP, attack={"name": name, **settings}, n=8, **more)
    except ValueError:
        spec = AttackSpec(**MLP, attack={"name": name}, n=8, **more)
    spec = store.resolve(spec, root)
    assert_same(whole(spec, root), in_parts(spec, root, (0, 3, 8)))


def test_parts_that_differ_in_what_all_share_are_refused() -> None:
    """Where one part has a proof and the other none, there is no sum of both."""
    table = pd.DataFrame({"index": [1]})
    with pytest.raises(ValueError, match="run the task without an engine"):
        Part.joined([Part(table, facts={"certificate": None}), Part(table, facts={"certificate": "interval bounds"})])


class _Noisy(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x) + torch.randn(len(x), 1)


class _Neighbourly(_Noisy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x - x.mean(0, keepdim=True))


@pytest.mark.parametrize(("kind", "said"), [(_Noisy, "outputs are random"), (_Neighbourly, "other images of")])
def test_models_that_cannot_be_judged_in_parts_are_refused(kind: type, said: str, root: Path) -> None:
    """Random outputs, and answers that hang on the neighbours, are said in a sentence; an ordinary model passes."""
    from core.evaluation.tasks.radii import ByImage

    task = ByImage(store.resolve(SPECS["radii-linf"], root), root, device="cpu")
    task.check_apart()
    task.models = [kind(task.lab.model)]
    with pytest.raises(ValueError, match=said):
        task.check_apart()
