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
    RadiiSpec,
    SweepSpec,
    TransferSpec,
    UniversalSpec,
)

DIGITS = ("digits28-standard", "digits28-fgsm-mix", "digits28-pgd")
MNIST = (
    *("mnist-lenet", "mnist-lenet-fgsm-mix", "mnist-pgd", "mnist-cnn", "mnist-cnn-fgsm", "mnist-linear"),
    *("mnist-strided", "mnist-ibp", "mnist-mlp-stable"),
)
DEEPLY = ("mnist-lenet", "mnist-lenet-fgsm-mix", "mnist-pgd", "mnist-ibp")
"""Models of MNIST that are measured in every norm, and evaluated with the checks at the ε that they were made for."""
EPS = 0.1
"""Where pages of measurements open."""
SAMPLES = (3, 2, 1, 30, 4)
"""Five test images of MNIST, of classes 0 to 4, that its standard networks classify with 99 % confidence."""


def requests() -> Iterator[ModelTask]:
    """Every request of which the result is bundled, the quickest to make first."""
    for name in (*DIGITS, *MNIST):
        yield _of(SweepSpec, name, attack="fgsm")
    for name in DIGITS:
        yield _of(SweepSpec, name, attack="pgd")
    yield _of(CertifySpec, "mnist-ibp", method="ibp", eps=0.3)
    yield _of(UniversalSpec, "mnist-lenet", eps=EPS)
    yield _of(UniversalSpec, "digits28-standard", eps=EPS)
    yield _transfer(*DIGITS)
    for name in DIGITS:
        yield _of(RadiiSpec, name, norm="linf")
    for name in ("mnist-lenet", "mnist-lenet-fgsm-mix", "mnist-cnn", "mnist-linear", "mnist-strided"):
        yield _of(SweepSpec, name, attack="pgd")
    yield _of(AttackSpec, "mnist-lenet", attack="generator", indices=SAMPLES, target="all")
    yield _of(EvaluateSpec, "mnist-lenet", eps=EPS)
    yield _of(RadiiSpec, "mnist-lenet", norm="linf")
    yield _of(RadiiSpec, "mnist-lenet-fgsm-mix", norm="linf")
    for name in DIGITS:
        yield _of(EvaluateSpec, name, eps=EPS)
    yield _of(SweepSpec, "mnist-pgd", attack="pgd")
    yield _of(EvaluateSpec, "mnist-lenet-fgsm-mix", eps=EPS)
    yield _of(RadiiSpec, "mnist-pgd", norm="linf")
    yield _of(EvaluateSpec, "mnist-pgd", eps=EPS)
    for name in DIGITS:
        yield _of(EvaluateSpec, name, eps=REFERENCES[name].eps)
    for norm in ("l2", "l0", "l1"):
        for name in DIGITS:
            yield _of(RadiiSpec, name, norm=norm)
    for name in ("mnist-cnn", "mnist-linear", "mnist-cnn-fgsm", "mnist-ibp", "mnist-mlp-stable"):
        yield _of(RadiiSpec, name, norm="linf")
    for name in ("mnist-cnn-fgsm", "mnist-ibp", "mnist-mlp-stable"):
        yield _of(SweepSpec, name, attack="pgd")
    yield _transfer("mnist-lenet", "mnist-lenet-fgsm-mix", "mnist-cnn", "mnist-pgd")
    for name in DEEPLY:
        yield _of(EvaluateSpec, name, eps=REFERENCES[name].eps)
    for norm in ("l2", "l0", "l1"):
        for name in DEEPLY:
            yield _of(RadiiSpec, name, norm=norm)


def _of(kind: type[ModelTask], name: str, **fields: Any) -> Any:
    return kind.model_validate({"model": REFERENCES[name].spec.artifact_name(), **fields})


def _transfer(*names: str) -> TransferSpec:
    models = tuple(REFERENCES[name].spec.artifact_name() for name in names)
    return TransferSpec.model_validate({"models": models, "eps": EPS})
