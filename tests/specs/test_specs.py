"""Specs: what can be asked for, and how a bad request is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from core import specs
from core.specs import (
    AttackSpec,
    CertifySpec,
    CompareSpec,
    DataSpec,
    EvaluateSpec,
    PatternSpec,
    RadiiSpec,
    SweepSpec,
    TrainSpec,
    TransferSpec,
    UniversalSpec,
    explain,
)

EXAMPLES: list[specs.Task] = [
    TrainSpec(data=DataSpec(dataset="mnist", classes=(4, 9)), network="mlp", scalar=True),
    AttackSpec(model="m", attack="generator", target="all", indices=(3, 1)),
    SweepSpec(model="m", attack={"name": "pgd", "norm": "l2"}, eps=(0.1, 0)),
    CompareSpec(models=("a", "b"), attacks=("fgsm", {"name": "pgd", "steps": 5})),
    UniversalSpec(model="m", method="lp", source=(9, 4)),
    PatternSpec(model="m", mask="patch:size=0.2", target=3),
    RadiiSpec(model="m", norm="l2", budget=500),
    TransferSpec(models=("b", "a"), eps=0.1),
    EvaluateSpec(model="m", norm="l2", eps=1, effort="quick"),
    CertifySpec(model="m", method="exact", norm="l1", eps=2, time_limit=5),
]


@pytest.mark.parametrize("spec", EXAMPLES, ids=lambda spec: type(spec).__name__)
def test_task_survives_json(spec: specs.Task) -> None:
    """A task written as JSON and read again is the same, with the same key."""
    again = specs.load_task(json.loads(json.dumps(specs.dump_task(spec))))
    assert again == spec
    assert again.key() == spec.key()


def test_key_depends_on_every_field() -> None:
    """Another seed, data set or network is another artifact; equal specs share one."""
    keys = {
        TrainSpec(**fields).key()
        for fields in ({}, {"seed": 1}, {"network": "mlp"}, {"data": {"dataset": "mnist"}}, {"lr": 0.2})
    }
    assert len(keys) == 5
    assert TrainSpec(seed=1).key() == TrainSpec(seed=1).key()


def test_key_is_pinned() -> None:
    """Keys of saved artifacts must not move by accident: a change here orphans every user's store."""
    assert TrainSpec(data=DataSpec(dataset="mnist")).artifact_name() == "mnist-lenet-standard-ef26041bb7"


def test_refusals_say_what_is_missing_or_no_number() -> None:
    """Pydantic's own words are put into those of the project."""
    for fields, said in (
        ({"eps": 0.1}, "model: expected a value, got nothing"),
        ({"model": "m", "eps": "much"}, "eps: expected a number such as 0.03 or 8/255, got 'much'"),
        ({"model": "m", "eps": 0.1, "n": "all"}, "n: expected a whole number, got 'all'"),
    ):
        with pytest.raises(ValidationError) as caught:
            EvaluateSpec(**fields)
        assert explain(caught.value) == said


def test_slug_is_readable() -> None:
    """Folder names tell data, network and recipe."""
    assert EXAMPLES[0].slug() == "mnist-4v9-mlp-scalar-standard"
    assert TrainSpec(data={"dataset": "folder", "folder": "/x/My Cats!"}).slug() == "folder-my-cats-lenet-standard"


REFUSED: list[tuple[type[specs.Spec], dict[str, Any], str, str]] = [
    (TransferSpec, {"models": ["a"], "eps": 0.1}, "models", "at least 2 items"),
    (TransferSpec, {"models": ["a", "a"], "eps": 0.1}, "models", "different models"),
    (TransferSpec, {"models": ["a", "b"]}, "eps", "mifgsm needs a budget, got none"),
    (TransferSpec, {"models": ["a", "b"], "attack": "generator"}, "attack", "no target, got generator"),
    (CertifySpec, {"model": "m"}, "eps", "alpha_crown needs a radius, got none"),
    (CertifySpec, {"model": "m", "eps": 1.5}, "eps", "expected at most 1 in linf, got 1.5"),
    (CertifySpec, {"model": "m", "eps": 0.1, "norm": "l0"}, "norm", "'linf', 'l2' or 'l1'"),
    (CertifySpec, {"model": "m", "method": "smoothing"}, "norm", "expected l2 for smoothing"),
    (CertifySpec, {"model": "m", "method": "smoothing", "norm": "l2", "eps": 0.5}, "eps", "takes none, got 0.5"),
    (CertifySpec, {"model": "m", "eps": 0.1, "time_limit": 0}, "time_limit", "greater than 0"),
    (RadiiSpec, {"model": "m", "norm": "l3"}, "norm", "'linf', 'l2', 'l1' or 'l0'"),
    (RadiiSpec, {"model": "m", "budget": 10}, "budget", "greater than or equal to 50"),
    (PatternSpec, {"model": "m", "mask": "hat"}, "mask", "expected none or one of eyeglasses"),
    (PatternSpec, {"model": "m", "source": (3,), "target": 3}, "target", "another class"),
    (UniversalSpec, {"model": "m"}, "eps", "gradient needs a budget, got none"),
    (UniversalSpec, {"model": "m", "eps": 1.5}, "eps", "at most 1 for gradient in linf, got 1.5"),
    (UniversalSpec, {"model": "m", "method": "lp", "eps": 0.1}, "eps", "takes no budget, got 0.1"),
    (UniversalSpec, {"model": "m", "method": "lp", "n": 500}, "n", "expected at most 200 for lp, got 500"),
    (UniversalSpec, {"model": "m", "method": "x"}, "method", "expected one of gradient, uap, lp"),
    (UniversalSpec, {"model": "m", "method": "lp", "source": (3,), "target": 3}, "target", "another class"),
    (SweepSpec, {"model": "m", "eps": [1.5]}, "eps", "expected at most 1 for fgsm in linf, got 1.5"),
    (SweepSpec, {"model": "m", "eps": [101], "attack": {"name": "pgd", "norm": "l2"}}, "eps", "at most 100 for pgd"),
    (AttackSpec, {"model": "m", "attack": "pgd", "eps": 1.5}, "eps", "expected at most 1 for pgd in linf, got 1.5"),
    (CompareSpec, {"models": ["m"], "eps": [2]}, "eps", "expected at most 1 for fgsm in linf, got 2"),
    (
        SweepSpec,
        {"model": "m", "eps": [1001], "attack": {"name": "apgd", "norm": "l1"}},
        "eps",
        "at most 1000 for apgd",
    ),
    (SweepSpec, {"model": "m", "attack": {"name": "apgd", "restarts": 0}}, "attack", "at least 1 where no classes"),
    (SweepSpec, {"model": "m", "attack": {"name": "apgd", "targets": 3}, "target": 1}, "attack.targets", "expected 0"),
    (
        CompareSpec,
        {"models": ["m"], "attacks": [{"name": "apgd", "targets": 3}], "target": 1},
        "attack.targets",
        "0 to",
    ),
    (
        AttackSpec,
        {"model": "m", "attack": {"name": "apgd", "targets": 3}, "eps": 0.1, "target": "all"},
        "attack.targets",
        "expected 0 towards a target class, got 3",
    ),
    (SweepSpec, {"model": "m", "eps": [-0.1]}, "eps.0", "greater than or equal to 0"),
    (SweepSpec, {"model": "m", "eps": [float("nan")]}, "eps.0", "finite"),
    (SweepSpec, {"model": "m", "eps": []}, "eps", "at least one"),
    (SweepSpec, {"model": "m", "attack": "generator"}, "attack", "expected one of fgsm, pgd, rfgsm, bim"),
    (SweepSpec, {"model": "m", "attack": "bogus"}, "attack", "expected one of fgsm"),
    (SweepSpec, {"model": "m", "n": 0}, "n", "greater than or equal to 1"),
    (SweepSpec, {"model": ""}, "model", "at least 1 character"),
    (SweepSpec, {}, "model", "expected a value"),
    (CompareSpec, {"models": []}, "models", "at least 1 item"),
    (AttackSpec, {"model": "m", "attack": "fgsm"}, "spec", "needs a budget"),
    (AttackSpec, {"model": "m", "attack": "fgsm", "eps": 0.1, "indices": []}, "indices", "at least one image"),
    (AttackSpec, {"model": "m", "attack": "fgsm", "eps": 0.1, "indices": [2, 2]}, "indices", "different"),
    (AttackSpec, {"model": "m", "attack": "fgsm", "eps": 0.1, "target": -2}, "target", "0 or more"),
    (AttackSpec, {"model": "m", "attack": "generator"}, "spec", "needs a class"),
    (AttackSpec, {"model": "m", "attack": "jacobian_sparse", "eps": 0.1}, "spec", "takes no budget"),
    (
        DataSpec,
        {"dataset": "imagenet"},
        "dataset",
        "'digits28', 'mnist', 'fashion_mnist', 'cifar10', 'digits', 'folder' or 'file'",
    ),
    (DataSpec, {"classes": [4, 10]}, "classes", "classes 0 to 9"),
    (DataSpec, {"classes": [4]}, "classes", "two different classes"),
    (DataSpec, {"dataset": "folder"}, "spec", "'folder' must be given"),
    (TrainSpec, {"network": "resnet"}, "network", "'linear', 'mlp', 'cnn', 'lenet'"),
    (TrainSpec, {"recipe": "magic"}, "recipe", "one of standard"),
    (TrainSpec, {"scalar": True}, "spec", "two classes"),
    (TrainSpec, {"network": "preactresnet18", "recipe": "ibp"}, "network", "few layers for ibp"),
    (TrainSpec, {"network": "resnet_small", "batch_size": 1}, "batch_size", "at least 2 for the batch normalisation"),
    (
        TrainSpec,
        {"recipe": {"name": "fgsm_mix", "remade": "epoch"}, "augment": "crop_flip"},
        "augment",
        "expected none",
    ),
    (TrainSpec, {"recipe": {"name": "generator", "steps": 1}}, "recipe", "greater than or equal to 2"),
    (TrainSpec, {"recipe": {"name": "noise", "sigma": 0}}, "recipe", "greater than 0"),
    (TrainSpec, {"recipe": {"name": "noise", "eps": 0.3}}, "recipe", "not permitted"),
    (TrainSpec, {"epochs": 0}, "epochs", "greater than or equal to 1"),
    (TrainSpec, {"colour": "red"}, "colour", "not permitted"),
]


@pytest.mark.parametrize(("spec", "fields", "where", "expected"), REFUSED)
def test_bad_request_names_field_expected_and_got(
    spec: type[specs.Spec], fields: dict[str, Any], where: str, expected: str
) -> None:
    """A refusal says which field, what was expected and what came."""
    with pytest.raises(ValidationError) as caught:
        spec(**fields)
    text = explain(caught.value)
    assert text.startswith(where)
    assert expected in text
    assert ", got " in text


def test_l2_budgets_may_exceed_one() -> None:
    """In l2 a budget of 2 is ordinary on MNIST."""
    assert SweepSpec(model="m", attack={"name": "pgd", "norm": "l2"}, eps=(2,)).eps == (2.0,)


def test_specs_are_frozen() -> None:
    """A spec cannot be changed after its key was taken."""
    with pytest.raises(ValidationError):
        TrainSpec().seed = 3  # type: ignore[misc]


def test_every_setting_has_a_label_and_help() -> None:
    """Forms, command line and docs are drawn from the fields: none may be silent."""
    classes = [
        *specs.METHODS.values(),
        *specs.RECIPES.values(),
        DataSpec,
        TrainSpec,
        AttackSpec,
        SweepSpec,
        CompareSpec,
    ]
    silent = [
        f"{cls.__name__}.{name}"
        for cls in classes
        for name, info in cls.model_fields.items()
        if name not in ("name", "data") and not (info.title and info.description)
    ]
    assert silent == []


def test_every_method_says_what_it_is() -> None:
    """Each attack names itself, its norms and its paper."""
    for method in specs.METHODS.values():
        assert method.title
        assert method.help
        assert method.paper
        assert method.norms


@pytest.mark.parametrize("name", specs.PRESETS)
def test_presets_are_valid(name: str) -> None:
    """Every preset is a TrainSpec and has a title."""
    TrainSpec(**specs.PRESETS[name])
    assert specs.PRESET_TITLES[name]


def test_universal_images_by_method() -> None:
    """How many images a universal perturbation is made from hangs on the method, unless told; classes are a set."""
    for method, eps, images in (("gradient", 0.1, 1000), ("uap", 0.1, 300), ("lp", None, 20)):
        assert UniversalSpec(model="m", method=method, eps=eps).n == images
    assert UniversalSpec(model="m", method={"name": "lp"}, n=None) == UniversalSpec(model="m", method="lp", n=20)
    assert UniversalSpec(model="m", method="lp", source=(9, 4)).source == (4, 9)


def test_classes_of_a_pattern_are_a_set() -> None:
    """As for `universal`: sorted, so that one wish has one name, and none twice."""
    assert PatternSpec(model="m", source=(9, 4)) == PatternSpec(model="m", source=(4, 9))
    for source in ((4, 4), (), (-1,)):
        with pytest.raises(ValidationError, match="expected different classes of 0 or more"):
            PatternSpec(model="m", source=source)


def test_universal_results_from_before_the_budget_are_found() -> None:
    """The budget came later: without one the key is what it was."""
    spec = UniversalSpec(model="m", eps=0.1)
    assert "budget" not in spec.body()
    assert spec.key() != UniversalSpec(model="m", eps=0.1, budget=50).key()


def test_settings_that_came_later_leave_no_trace_at_their_default_even_inside() -> None:
    """A recipe's own later fields: the key of before at their default, another one otherwise; JSON gives both back."""
    before, after = (TrainSpec(recipe={"name": "ibp", "bounds": bounds}) for bounds in ("ibp", "crown_ibp"))
    assert "bounds" not in before.body()["recipe"]
    assert after.body()["recipe"]["bounds"] == "crown_ibp"
    assert before.key() != after.key()
    assert TrainSpec.model_validate(before.body()) == before
    compared = CompareSpec(models=("a",), attacks=("square", {"name": "simba", "norm": "l2"}))
    assert compared.body() == compared.model_dump(mode="json", exclude={"data"})
