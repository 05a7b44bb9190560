"""The reference models: their specs, what each is for, and what was measured on them. Imports no torch.

`REFERENCES` is the one place for their settings. `python -m core reference NAME --make` makes one from its spec,
measures it and bundles it (see `core.jobs.reference_build`, `core.storage.bundled`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.specs import RECIPES, TrainSpec, preset
from core.storage import store

EPS = {"digits28": 0.2, "digits": 0.15, "mnist": 0.3, "fashion_mnist": 0.1, "cifar10": 8 / 255}
"""The linf budget at which a model is measured that was trained for none."""

FAMILIES = (
    ("standard",),
    ("fgsm_mix", "fgsm", "free"),
    ("pgd", "trades"),
    ("generator",),
    ("ibp",),
    ("noise",),
)
"""Recipes of a kind: those of one family are compared with each other."""


@dataclass(frozen=True)
class Reference:
    """One reference model.

    Attributes:
        name: what people call it, and the command line.
        spec: what it is trained from; its artifact's name is made from this.
        purpose: one sentence.
        needs_gpu: not made where there is none, and left out of `--all` there.
        drawn: whether the generator attack is measured on it.
    """

    name: str
    spec: TrainSpec
    purpose: str
    needs_gpu: bool = False
    drawn: bool = False

    @property
    def eps(self) -> float:
        """The linf budget at which it is measured: its recipe's, or else its data set's."""
        return float(getattr(self.spec.recipe, "eps", None) or EPS[self.spec.data.dataset])


def train_spec(dataset: str, network: str, recipe: str, begin: str = "fast", /, **settings: Any) -> TrainSpec:
    """A training: the preset `begin`, changed by `settings`; those of the recipe and of the data by their names."""
    fields = RECIPES[recipe].model_fields
    of_recipe = {name: settings.pop(name) for name in list(settings) if name in fields}
    data = {"dataset": dataset, "classes": settings.pop("classes", None)}
    return TrainSpec.model_validate(
        {**preset(begin, dataset), **settings, "data": data, "network": network, "recipe": {"name": recipe} | of_recipe}
    )


_ADAM: dict[str, Any] = {"optimizer": "adam", "weight_decay": 0.0}
_ROBUST: dict[str, Any] = {**_ADAM, "lr": 0.002, "average": 0.995, "eps": 0.3, "warmup": 0.3}
_ROBUST_SMALL: dict[str, Any] = {**_ROBUST, "eps": 0.2, "average": 0.98, "warmup": 0.4}
_CIFAR: dict[str, Any] = {"epochs": 10, "lr": 0.15, "augment": "crop_flip", "average": 0.995}
_PREACT: dict[str, Any] = {"epochs": 30, "lr": 0.2, "augment": "crop_flip", "average": 0.999}

_LIST = (
    Reference(
        "digits28-standard",
        train_spec("digits28", "lenet", "standard"),
        "A first victim: the embedded digits in MNIST's frame, no download, every attack in seconds.",
        drawn=True,
    ),
    Reference(
        "digits28-fgsm-mix",
        train_spec("digits28", "lenet", "fgsm_mix", eps=0.2, epochs=30),
        "The cheapest defence on the embedded digits: half of every batch are adversarial examples of one step.",
    ),
    Reference(
        "digits28-pgd",
        train_spec("digits28", "lenet", "pgd", epochs=20, batch_size=64, steps=5, relative_step=0.35, **_ROBUST_SMALL),
        "The strongest of the embedded digits against many steps, to see the two side by side without a download.",
    ),
    Reference(
        "mnist-lenet",
        train_spec("mnist", "lenet", "standard"),
        "The usual victim of the generator attack, and of most others.",
        drawn=True,
    ),
    Reference(
        "mnist-lenet-fgsm-mix",
        train_spec("mnist", "lenet", "fgsm_mix", eps=0.25, epochs=6),
        "Exercise set 3: half of every batch clean, half adversarial examples of FGSM.",
    ),
    Reference(
        "mnist-linear",
        train_spec("mnist", "linear", "standard", "set5", weight_decay=0.01),
        "The exactly solvable case: bounds, smallest perturbations and FGSM are all exact on it.",
    ),
    Reference(
        "mnist-mlp", train_spec("mnist", "mlp", "standard"), "A dense network, for the Jacobian and exact proofs."
    ),
    Reference(
        "mnist-cnn", train_spec("mnist", "cnn", "standard", "set5"), "The network of exercise set 5, undefended."
    ),
    Reference(
        "mnist-4v9",
        train_spec("mnist", "mlp", "standard", classes=(4, 9), scalar=True),
        "A single-output network that tells 4 from 9: the network of exercise set 2.",
    ),
    Reference(
        "mnist-cnn-fgsm",
        train_spec("mnist", "cnn", "fgsm_mix", eps=0.25, epochs=15, batch_size=256, lr=0.003, average=0.995, **_ADAM),
        "Exercise set 5: trained with FGSM; half of each batch stays clean, which this small network needs.",
    ),
    Reference(
        "mnist-strided",
        train_spec("mnist", "strided", "standard", epochs=6),
        "The network of the defended models below, undefended, to see what their defence is worth.",
        drawn=True,
    ),
    Reference(
        "mnist-fgsm",
        train_spec("mnist", "strided", "fgsm", epochs=20, **_ROBUST),
        "The same budget by single steps (N-FGSM): what a fifth of the cost buys.",
    ),
    Reference(
        "mnist-pgd",
        train_spec("mnist", "strided", "pgd", epochs=25, steps=10, **_ROBUST),
        "The usual defended model of the field, at the usual budget.",
    ),
    Reference(
        "mnist-pgd-wide",
        train_spec("mnist", "strided_wide", "pgd", epochs=20, steps=10, **{**_ROBUST, "lr": 0.001}),
        "The same defence with ten times the weights: the most robust on MNIST.",
    ),
    Reference(
        "mnist-trades",
        train_spec("mnist", "strided", "trades", epochs=15, steps=10, beta=1.0, **_ROBUST),
        "The same budget, with clean accuracy weighed against robustness.",
    ),
    Reference(
        "mnist-generator",
        # where ε is withstood, grey beyond 1 - ε is as good as flipped: a larger ε would shorten the way in linf; a
        # larger share of the generator's examples shortens it too, a smaller one that in l2
        train_spec(
            "mnist", "strided", "generator", epochs=24, relative_cap=1.0, share=0.42, **{**_ROBUST, "eps": 0.165}
        ),
        "Exercise set 1: defended against the generator attack itself.",
        drawn=True,
    ),
    Reference(
        "mnist-mlp-stable",
        train_spec("mnist", "mlp", "pgd", epochs=10, steps=7, stability=0.7, batch_size=256, **{**_ROBUST, "eps": 0.1}),
        "An interval that becomes a point: most ReLUs keep their signs, so exact proofs decide nearly every image.",
    ),
    Reference(
        "mnist-ibp",
        train_spec("mnist", "strided", "ibp", epochs=30, lr=0.001, eps=0.3, warmup=0.4, **_ADAM),
        "What can be proven: interval bounds hold for most of its test images at ε = 0.3.",
    ),
    Reference(
        "cifar10-standard",
        train_spec("cifar10", "resnet_small", "standard", **_CIFAR),
        "An undefended victim in colour.",
        drawn=True,
    ),
    Reference(
        "cifar10-fgsm",
        train_spec("cifar10", "resnet_small", "fgsm", eps=8 / 255, **_CIFAR),
        "Defended in colour by single steps (N-FGSM), at the usual budget of 8/255.",
    ),
    Reference(
        "cifar10-generator",
        train_spec("cifar10", "resnet_small", "generator", eps=8 / 255, **_CIFAR),
        "Exercise set 1 in colour: defended against the generator attack itself.",
        drawn=True,
    ),
    Reference(
        "cifar10-preactresnet18",
        train_spec("cifar10", "preactresnet18", "standard", **_PREACT),
        "The field's usual network for CIFAR-10, undefended.",
        needs_gpu=True,
    ),
    Reference(
        "cifar10-preactresnet18-fgsm",
        train_spec("cifar10", "preactresnet18", "fgsm", eps=8 / 255, **_PREACT),
        "The field's usual network for CIFAR-10, defended by N-FGSM.",
        needs_gpu=True,
    ),
    Reference(
        "digits-standard",
        train_spec("digits", "lenet", "standard"),
        "Eight by eight pixels: the smallest victim, every attack in a moment.",
    ),
    Reference(
        "digits-fgsm-mix",
        train_spec("digits", "lenet", "fgsm_mix", eps=0.15),
        "The cheapest defence at eight by eight pixels: half of every batch are adversarial examples of one step.",
    ),
    Reference(
        "digits-pgd",
        train_spec("digits", "lenet", "pgd", eps=0.15, steps=7, relative_step=0.25, warmup=0.3),
        "The strongest at eight by eight pixels against many steps.",
    ),
)
REFERENCES: dict[str, Reference] = {reference.name: reference for reference in _LIST}
"""Every reference model by its name, in the order in which they are listed."""

_BY_MODEL = {reference.spec.artifact_name(): reference for reference in _LIST}


def of(model: store.Artifact) -> Reference | None:
    """The reference that a saved model is: the bundled one, a copy of it, or your own of the same spec."""
    return _BY_MODEL.get(model.id)


def saved(root: Path) -> list[tuple[Reference, store.Artifact]]:
    """The bundled reference models, else those in the store, in the order of `REFERENCES`.

    A bundled one comes before your own of the same spec: it is the one that was measured.
    """
    here = {model.id: model for model in (*store.models(root), *store.bundled_models())}
    found = ((reference, here.get(model_id)) for model_id, reference in _BY_MODEL.items())
    return [(reference, model) for reference, model in found if model is not None]


def counterpart(spec: TrainSpec, root: Path) -> store.Artifact | None:
    """The reference model of the same kind: same data and classes, a recipe of the same family.

    Of several, that of this very spec (which is the model itself where none is bundled), then of the same recipe, then
    of the same network, then of the nearest budget. None where none is there.
    """
    fitting = [
        (reference.spec, model)
        for reference, model in saved(root)
        if reference.spec.data == spec.data and family(reference.spec) == family(spec)
    ]
    nearest = min(fitting, key=lambda pair: _apart(pair[0], spec), default=None)
    return None if nearest is None else nearest[1]


def family(spec: TrainSpec) -> tuple[str, ...]:
    """The recipes that this training's is compared with, its own among them."""
    name = spec.recipe.name
    return next((names for names in FAMILIES if name in names), (name,))


def _apart(one: TrainSpec, other: TrainSpec) -> tuple[bool, bool, bool, float]:
    budgets = [float(getattr(spec.recipe, "eps", 0.0)) for spec in (one, other)]
    return (
        one != other,
        one.recipe.name != other.recipe.name,
        one.network != other.network,
        math.dist(budgets[:1], budgets[1:]),
    )


def rows(root: Path) -> list[dict[str, Any]]:
    """A row a reference model: name, model (id), bundled, what was measured (None where nothing was) and seconds."""
    here = {reference.name: model for reference, model in saved(root)}
    return [_row(reference, here.get(reference.name)) for reference in REFERENCES.values()]


def _row(reference: Reference, model: store.Artifact | None) -> dict[str, Any]:
    card: dict[str, Any] = {} if model is None else model.card
    facts = card.get("reference", {})
    measured = facts.get("measured", {})
    return {
        "name": reference.name,
        "model": reference.spec.artifact_name(),
        "bundled": bool(facts),
        "accuracy": card.get("metrics", {}).get("test_accuracy"),
        "eps": measured.get("eps", reference.eps),
        "pgd": measured.get("pgd"),
        "proven": measured.get("proven"),
        "n": measured.get("n"),
        "seconds": card.get("timing", {}).get("seconds"),
    }
