"""Which artifacts count for an item: small tests of a `Found`, to be combined by `both`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from core.epsilon import same
from core.exercises.evidence import Found
from core.exercises.published import EPS5
from core.specs import DataSpec, recipe_of

Test = Callable[[Found], bool]

DENSE = ("mlp", "linear")
ADVERSARIAL = ("fgsm_mix", "fgsm", "free", "pgd", "trades")
"""Recipes that train on adversarial examples of gradient steps."""


def both(*tests: Test) -> Test:
    """All of these hold."""
    return lambda found: all(test(found) for test in tests)


def network(*names: str) -> Test:
    """The model is one of these networks."""
    return lambda found: found.model.network in names


def convolutional(found: Found) -> bool:
    """The model is no dense network; a graph from elsewhere may be one."""
    return found.model.network not in (*DENSE, "onnx")


def recipe(*names: str) -> Test:
    """The model was trained by one of these recipes."""
    return lambda found: recipe_of(found.model) in names


def standard(found: Found) -> bool:
    """The model was trained on clean images."""
    return recipe_of(found.model) == "standard"


def digits(found: Found) -> bool:
    """The model classifies all ten digits."""
    data = found.model.data
    return data.dataset in ("mnist", "digits28", "digits") and data.classes is None


def data(wanted: DataSpec) -> Test:
    """The model was trained on this data set."""
    return lambda found: found.model.data == wanted


def mnist(found: Found) -> bool:
    """The model was trained on all of MNIST and shown its images, so that published figures can be compared."""
    return found.model.data.dataset == found.data.dataset == "mnist" and found.model.data.classes is None


def colour(found: Found) -> bool:
    """The model classifies CIFAR-10."""
    return found.model.data.dataset == "cifar10"


def scalar(found: Found) -> bool:
    """The model has a single output N(x)."""
    return found.model.scalar


def attack(*names: str) -> Test:
    """The result was made by one of these attacks or methods."""
    return lambda found: getattr(found.attack, "name", "") in names


def every_class(found: Found) -> bool:
    """The attack was run towards every class."""
    return getattr(found.spec, "target", None) == "all"


def samples(least: int) -> Test:
    """The attack was run on at least so many images."""
    return lambda found: (
        len(getattr(found.spec, "indices", None) or ()) >= least
        or (getattr(found.spec, "indices", None) is None and getattr(found.spec, "n", 0) >= least)
    )


def masked(found: Found) -> bool:
    """The change was confined to a mask."""
    return getattr(found.spec, "mask", None) is not None


def covers(ladder: Sequence[float] = EPS5) -> Test:
    """The sweep was run at each of these ε."""
    return lambda found: all(any(same(eps, there) for there in getattr(found.spec, "eps", ())) for eps in ladder)


def at(eps: float) -> Test:
    """The sweep was run at this ε."""
    return covers((eps,))
