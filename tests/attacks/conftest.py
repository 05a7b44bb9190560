"""Tiny models and images that every attack test shares; shapes in annotations are checked while these tests run."""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import install_import_hook
from sklearn.datasets import load_digits
from torch import Tensor, nn

NAMES: tuple[Any, ...] = (
    Literal["ce", "margin"],
    Literal["ce", "margin", "dlr", "probability_margin"],
    Literal["linf", "l2"],
    Literal["linf", "l2", "l1"],
    Literal["linf", "l2", "l1", "l0"],
    Literal["pixel", "dct"],
    Literal["random", "image"],
    Literal["mse", "ce", "margin"],
    Literal["linear", "deep"],
    Literal["all", "score"],
    Literal["pixels", "features"],
    Literal["logits", "probabilities"],
    Literal["en", "l1"],
)
"""Lists of names are not checked here: a wrong one must reach the code, whose ValueError is itself under test."""
BUDGET = float | Tensor
"""Nor is ε, for the same reason; and lists and arrays are taken too."""

checker = types.ModuleType("shape_checker")  # the hook wants a name that it can import
checker.check = beartype(  # type: ignore[attr-defined]
    conf=BeartypeConf(is_pep484_tower=True, hint_overrides=FrozenDict({**dict.fromkeys(NAMES, str), BUDGET: object}))
)
sys.modules[checker.__name__] = checker
with install_import_hook("core.attacks", "shape_checker.check"):
    import core.attacks
    from core import specs
    from core.attacks.engine.result import AttackResult

    for _method in (*specs.METHODS.values(), *specs.UNIVERSAL_METHODS.values()):
        core.attacks.function_of(_method)  # imported when it is looked for: the hook has to see it

DIGITS = load_digits()

TARGET_ONLY = tuple(name for name, method in specs.METHODS.items() if method.needs_target)
"""Attacks that only work towards a target."""


USUAL_EPS = {"linf": 0.2, "l2": 1.2, "l1": 5.0, "l0": 10}
"""Budgets that fool many digits."""


FIRST = torch.tensor([(DIGITS.target == k).argmax() for k in range(10)])
"""The first digit of each class."""


@dataclass(frozen=True)
class Small:
    """An attack with small settings, called as `attack(model, x, y, **options)`.

    `eps` may be given to those with a budget and `streams` to all: those that draw nothing ignore them. An attack on a
    surrogate gets the model itself, one that begins at an image of the target class a digit of it.
    """

    method: str
    settings: dict[str, Any]

    @property
    def spec(self) -> type[specs.Method]:
        """What is registered of the attack."""
        return specs.METHODS[self.method]

    @property
    def norm(self) -> str:
        """The norm of its ball, or of what it looks for."""
        return str(self.settings.get("norm", self.spec.norms[0]))

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> AttackResult:
        """Run the attack."""
        if not self.spec.random:
            options.pop("streams", None)
        if self.spec.needs_eps:
            options.setdefault("eps", USUAL_EPS[self.norm])
        if self.spec.needs_surrogate:
            options["surrogate"] = model
        if self.spec.takes_start and "y_target" in options:
            options["x_init"] = torch.tensor(DIGITS.images / 16)[FIRST[options["y_target"]], None].to(x)
        return core.attacks.function_of(self.spec)(model, x, y, **self.settings | options)


def _small(method: str, **settings: Any) -> Small:
    return Small(method, settings)


def _each(method: str, *norms: str, **settings: Any) -> dict[str, Small]:
    return {f"{method}-{norm}": Small(method, settings | {"norm": norm}) for norm in norms}


ATTACKS: dict[str, Small] = {
    "fgsm": _small("fgsm"),
    **_each("pgd", "linf", "l2", "l1", "l0", steps=8, relative_step=0.3, restarts=2),
    "rfgsm": _small("rfgsm", restarts=2),
    "bim": _small("bim", steps=8),
    "mifgsm": _small("mifgsm", steps=8, relative_step=0.2),
    "apgd-linf": _small("apgd", norm="linf", steps=10, loss="margin", restarts=2),
    "apgd-l2": _small("apgd", steps=12, norm="l2", loss="dlr", odi_steps=2),
    "apgd-l1": _small("apgd", steps=12, norm="l1"),
    **_each("square", "linf", "l2", queries=150),
    "physical": _small("physical", shift=0.5, steps=40, scenes=4, fresh=20),
    "simba-linf": _small("simba", norm="linf", queries=150),
    "simba-l2": _small("simba", norm="l2", basis="dct", queries=200),
    **_each("transfer", "linf", "l2", steps=12, kernel=1),
    **_each("hop_skip_jump", "linf", "l2", queries=300, probes=20),
    "generator": _small("generator", rounds=60, loss="ce", shared_adam=True),
    "generator_strong": _small("generator_strong", rounds=30),
    "jacobian_sparse": _small("jacobian_sparse", max_features=12, candidates=6),
    "jacobian_dense": _small("jacobian_dense"),
    "frontier": _small("frontier", caps=(0.4, 1.0), candidates=4),
    "exhaustive": _small("exhaustive", pixels=2, levels=3, pairs=150),
    "jsma": _small("jsma", theta=0.5, gamma=1.0),
    "jsma-probabilities": _small("jsma", theta=0.5, gamma=1.0, pairs=2, outputs="probabilities", taylor=True),
    "one_pixel": _small("one_pixel", pixels=6, population=24, generations=25),
    "sparse_rs": _small("sparse_rs", queries=200),
    **_each("deepfool", "linf", "l2", "l1"),
    "carlini_wagner": _small("carlini_wagner", searches=3, steps=20, lr=0.1),
    "ead": _small("ead", searches=3, steps=20),
    "ddn": _small("ddn", steps=30),
    **_each("fmn", "linf", "l2", "l1", "l0", steps=30),
    **_each("pdpgd", "linf", "l2", "l1", "l0", steps=40),
    **_each("fab", "linf", "l2", "l1", steps=20, candidates=3),
    "sigma_zero": _small("sigma_zero", steps=40),
    **_each("minimum", "linf", "l2", "l1", "l0", budget=130),
}
"""Every attack with small settings, in every norm that has code of its own."""


@pytest.fixture(params=ATTACKS)
def name(request: pytest.FixtureRequest) -> str:
    """Each attack's name in turn."""
    return str(request.param)


@pytest.fixture
def attacks() -> dict[str, Small]:
    """Every attack by its name."""
    return ATTACKS


@pytest.fixture
def attack(name: str) -> Small:
    """The attack of that name."""
    return ATTACKS[name]


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    """All 1797 digits: (N, 1, 8, 8) float32 in [0, 1], and classes."""
    return torch.tensor(DIGITS.images / 16, dtype=torch.float32)[:, None], torch.tensor(DIGITS.target)


@pytest.fixture(scope="session")
def net() -> nn.Module:
    """A small convolutional network with batch norm and dropout, trained on the first 1400 digits, in train mode."""
    from tests.fixtures import network  # it imports attacks, which the hook above has to see first

    return network("convolution").train()


@pytest.fixture
def few(digits: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """40 images that the network was not trained on."""
    return digits[0][1400:1440], digits[1][1400:1440]


@pytest.fixture
def exactly(net: nn.Module, few: tuple[Tensor, Tensor]) -> tuple[nn.Module, Tensor, Tensor]:
    """The network and those images in float64, where no decision of an attack hangs on how a batch is rounded."""
    return copy.deepcopy(net).double(), few[0].double(), few[1]


@pytest.fixture
def targets(name: str, few: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """`y_target` for the attacks that need one, else nothing."""
    return {"y_target": (few[1] + 1) % 10} if name in TARGET_ONLY else {}


@pytest.fixture
def scalar_linear() -> Callable[[Tensor, float], nn.Module]:
    """Make a linear scalar network N(x) = w·x with threshold tau, as logits (0, N - tau)."""
    return Scalar


@pytest.fixture
def linear_optimum() -> Callable[..., Tensor]:
    """The largest |changes| that w·x allows in ball and box (MATHEMATICS section 1)."""
    return _linear_optimum


def _linear_optimum(weight: Tensor, x: Tensor, eps: Tensor, norm: str) -> Tensor:
    """|delta| (N, d) that raises w·x most: linf min(eps, u_j), l2 min(s |w_j|, u_j), l1 the fractional knapsack."""
    size = weight.abs()[None].expand(len(x), -1)
    room = torch.where(weight > 0, 1 - x.flatten(1), x.flatten(1))
    if norm == "linf":
        return torch.minimum(eps[:, None], room)
    if norm == "l1":
        order = size.argsort(1, descending=True)
        before = room.gather(1, order).cumsum(1) - room.gather(1, order)
        spent = torch.minimum((eps[:, None] - before).clamp(min=0), room.gather(1, order))
        return torch.zeros_like(room).scatter(1, order, spent)
    low, high = torch.zeros_like(eps), torch.full_like(eps, 1e3)
    for _ in range(100):  # bisection for s
        middle = (low + high) / 2
        over = torch.minimum(middle[:, None] * size, room).norm(dim=1) > eps
        low, high = torch.where(over, low, middle), torch.where(over, middle, high)
    return torch.minimum(low[:, None] * size, room)


class Scalar(nn.Module):
    """The linear scalar network w·x - tau, in the dtype of w."""

    scalar = True

    def __init__(self, weight: Tensor, threshold: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.register_buffer("threshold", torch.tensor(threshold, dtype=weight.dtype))

    def score(self, x: Tensor) -> Tensor:
        """N(x)."""
        return x.flatten(1) @ self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Logits (0, N - tau)."""
        score = self.score(x) - self.threshold
        return torch.stack([torch.zeros_like(score), score], 1)
