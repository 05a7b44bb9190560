"""The results that lie with the bundled models, so that every page opens with an answer. Imports no torch.

`requests()` is the one place for them; `python -m core bundle` makes what is missing (see `core.jobs.bundle`). They are
the requests that pages make with the defaults of the specs: a user's own run of the same request is there already.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from core.models.reference import REFERENCES
from core.specs import (
    AttackSpec,
    CertifySpec,
    EvaluateSpec,
    ModelTask,
    PatternSpec,
    RadiiSpec,
    SweepSpec,
    TransferSpec,
    UniversalSpec,
)

DIGITS = ("digits28-standard", "digits28-fgsm-mix", "digits28-pgd")
SMALL = ("digits-standard", "digits-fgsm-mix", "digits-pgd")
MNIST = (
    *("mnist-lenet", "mnist-lenet-fgsm-mix", "mnist-pgd", "mnist-cnn", "mnist-cnn-fgsm", "mnist-linear"),
    *("mnist-strided", "mnist-ibp", "mnist-mlp-stable"),
)
DEEPLY = ("mnist-lenet", "mnist-lenet-fgsm-mix", "mnist-pgd", "mnist-ibp")
"""Models of MNIST that are measured in every norm, and evaluated with the checks at the ε that they were made for."""
COMPARED = (
    *("mnist-linear", "mnist-cnn", "mnist-lenet", "mnist-lenet-fgsm-mix", "mnist-pgd", "mnist-mlp-stable"),
    "mnist-ibp",
)
EPS = 0.1
"""Where pages of measurements open."""
SAMPLES = (3, 2, 1, 30, 4)
"""Five test images of MNIST, of classes 0 to 4, that its standard networks classify with 99 % confidence."""
FRAMED = (1177, 1508, 778, 561, 377)
"""The same of digits28."""
COLOUR = (44,)
"""A test image of CIFAR-10."""
COLOURS = ("cifar10-standard", "cifar10-fgsm", "cifar10-generator")
COLOUR_EPS = (0, *(k / 255 for k in (1, 2, 4, 8, 16)))
"""What the measuring pages ask of colour images."""
FOUR = (4,)
"""MNIST's first test image of a 4."""


def requests() -> Iterator[ModelTask]:
    """Every request of which the result is bundled: what pages open with, the quickest to make first."""
    yield from _quick()
    for name in DIGITS:
        yield _of(SweepSpec, name, attack="pgd")
    yield _transfer(*DIGITS)
    for name in ("mnist-lenet", "mnist-lenet-fgsm-mix", "mnist-pgd"):
        yield _of(SweepSpec, name, attack="pgd")
    for name in DIGITS:
        yield _of(RadiiSpec, name, norm="linf")
    for name in ("mnist-linear", "mnist-cnn", "mnist-strided"):
        yield _of(SweepSpec, name, attack="pgd")
    yield from _generator()
    for name in ("mnist-lenet", "mnist-lenet-fgsm-mix", "mnist-pgd"):
        yield _of(RadiiSpec, name, norm="linf")
    yield _transfer(*COMPARED)
    for name in ("mnist-lenet", *DIGITS, "mnist-lenet-fgsm-mix", "mnist-pgd"):
        yield _of(EvaluateSpec, name, eps=EPS)
    yield from _few_pixels()
    for name in DIGITS:
        yield _of(EvaluateSpec, name, eps=REFERENCES[name].eps)
    for name in ("mnist-linear", "mnist-cnn", "mnist-cnn-fgsm", "mnist-ibp", "mnist-mlp-stable"):
        yield _of(RadiiSpec, name, norm="linf")
    for name in ("mnist-cnn-fgsm", "mnist-ibp", "mnist-mlp-stable"):
        yield _of(SweepSpec, name, attack="pgd")
    yield _of(CertifySpec, "mnist-mlp-stable", method="exact", eps=EPS)
    yield _of(PatternSpec, "mnist-lenet")
    yield _of(PatternSpec, "digits28-standard")
    for norm in ("l2", "l0", "l1"):
        for name in (*DIGITS, *DEEPLY):
            yield _of(RadiiSpec, name, norm=norm)
    for name in DEEPLY:
        yield _of(EvaluateSpec, name, eps=REFERENCES[name].eps)
    for name in COLOURS:
        yield _of(SweepSpec, name, attack="pgd", eps=COLOUR_EPS)
    for name in SMALL:  # what stands beside the first model that somebody trains on them
        yield _of(SweepSpec, name, attack="pgd")
        yield _of(RadiiSpec, name, norm="linf")


def _quick() -> Iterator[ModelTask]:
    for name in (*DIGITS, *SMALL, *MNIST):
        yield _of(SweepSpec, name, attack="fgsm")
    yield _of(CertifySpec, "mnist-ibp", method="ibp", eps=REFERENCES["mnist-ibp"].eps)
    yield _of(UniversalSpec, "mnist-lenet", eps=0.3)
    yield _of(UniversalSpec, "digits28-standard", eps=0.2)
    yield _of(AttackSpec, "mnist-lenet", attack="physical", indices=FOUR, mask="eyeglasses")
    yield _of(AttackSpec, "mnist-4v9", attack={"name": "jacobian_sparse", "max_features": 60}, indices=FOUR)
    yield _of(UniversalSpec, "mnist-4v9", eps=0.2, source=(0,))


def _generator() -> Iterator[ModelTask]:
    """Every class as the target; what is defended beside what is not."""
    for name in ("mnist-lenet", "mnist-strided", "mnist-generator"):
        yield _of(AttackSpec, name, attack="generator", indices=SAMPLES, target="all")
    for name in ("digits28-standard", "digits28-pgd"):
        yield _of(AttackSpec, name, attack="generator", indices=FRAMED, target="all")
    for name in ("cifar10-standard", "cifar10-generator"):
        yield _of(AttackSpec, name, attack="generator", indices=COLOUR, target="all")


def _few_pixels() -> Iterator[ModelTask]:
    """How few pixels do, proven; the constraint of one perturbation for a whole class."""
    pairs = {"name": "exhaustive", "pixels": 2}
    yield _of(AttackSpec, "mnist-4v9", attack=pairs, indices=FOUR)
    yield _of(AttackSpec, "mnist-4v9", attack="frontier", indices=FOUR)
    for name in ("mnist-lenet", "digits28-standard"):
        yield _of(UniversalSpec, name, method="lp")
    for source in ((0,), (0, 1)):
        yield _of(UniversalSpec, "mnist-4v9", method="lp", source=source)
    yield _of(AttackSpec, "mnist-4v9", attack=pairs, n=10, source=0)


def _of(kind: type[ModelTask], name: str, **fields: Any) -> Any:
    return kind.model_validate({"model": REFERENCES[name].spec.artifact_name(), **fields})


def _transfer(*names: str) -> TransferSpec:
    models = tuple(REFERENCES[name].spec.artifact_name() for name in names)
    return TransferSpec.model_validate({"models": models, "eps": EPS})
