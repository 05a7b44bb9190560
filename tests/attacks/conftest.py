"""Tiny models and images that every attack test shares; shapes in annotations are checked while these tests run."""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import install_import_hook
from sklearn.datasets import load_digits
from torch import Tensor, nn

NAMES: tuple[Any, ...] = (
    Literal["ce", "margin"],
    Literal["ce", "margin", "dlr"],
    Literal["linf", "l2"],
    Literal["linf", "l2", "l1"],
    Literal["linf", "l2", "l1", "l0"],
    Literal["pixel", "dct"],
    Literal["random", "image"],
    Literal["mse", "ce", "margin"],
    Literal["linear", "deep"],
    Literal["all", "score"],
    Literal["pixels", "features"],
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
    from core.attacks.engine.result import AttackResult

DIGITS = load_digits()

Attack = Callable[..., AttackResult]
TARGET_ONLY = ("generator",)
"""Attacks that only work towards a target."""


USUAL_EPS = {"linf": 0.2, "l2": 1.2, "l1": 5.0, "l0": 10}
"""Budgets that fool many digits."""


def _pgd(norm: str) -> Attack:
    return _budgeted("pgd", norm=norm, steps=8, relative_step=0.3, restarts=2)


def _budgeted(name: str, random: bool = True, only: str = "linf", **settings: Any) -> Attack:
    def attack(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> AttackResult:
        if not random:
            options.pop("streams", None)
        eps = options.pop("eps", USUAL_EPS[settings.get("norm", only)])
        return getattr(core.attacks, name)(model, x, y, eps=eps, **settings, **options)

    return attack


def _fgsm(model: nn.Module, x: Tensor, y: Tensor, **options: object) -> AttackResult:
    options.pop("streams", None)
    return core.attacks.fgsm(model, x, y, eps=options.pop("eps", 0.2), **options)


def _generator(model: nn.Module, x: Tensor, y: Tensor, **options: object) -> AttackResult:
    return core.attacks.generator_attack(model, x, y, rounds=60, loss="ce", shared_adam=True, **options)


def _physical(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> AttackResult:
    return core.attacks.physical(model, x, y, shift=0.5, steps=40, scenes=4, fresh=20, **options)


def _sparse(model: nn.Module, x: Tensor, y: Tensor, **options: object) -> AttackResult:
    options.pop("streams", None)
    return core.attacks.jacobian_sparse(model, x, y, max_features=12, candidates=6, **options)


def _dense(model: nn.Module, x: Tensor, y: Tensor, **options: object) -> AttackResult:
    options.pop("streams", None)
    return core.attacks.jacobian_dense(model, x, y, **options)


def _smallest(name: str, random: bool = False, **settings: object) -> Attack:
    def attack(model: nn.Module, x: Tensor, y: Tensor, **options: object) -> AttackResult:
        if not random:
            options.pop("streams", None)
        return getattr(core.attacks, name)(model, x, y, **(settings | options))

    return attack


def _transfer(norm: str) -> Attack:
    def attack(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> AttackResult:
        eps = options.pop("eps", USUAL_EPS[norm])  # the model as its own surrogate: others are tested apart
        return core.attacks.transfer(model, x, y, surrogate=model, eps=eps, norm=norm, steps=12, kernel=1, **options)

    return attack


def _hop_skip_jump(norm: str) -> Attack:
    first = torch.tensor([(DIGITS.target == k).argmax() for k in range(10)])

    def attack(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> AttackResult:
        if "y_target" in options:  # a digit of the target class to begin at
            pictures = torch.tensor(DIGITS.images / 16)[first[options["y_target"]], None]
            options["x_init"] = pictures.to(x)
        return core.attacks.hop_skip_jump(model, x, y, norm=norm, queries=300, probes=20, **options)

    return attack


ATTACKS: dict[str, Attack] = {
    "fgsm": _fgsm,
    "pgd-linf": _pgd("linf"),
    "pgd-l2": _pgd("l2"),
    "pgd-l1": _pgd("l1"),
    "pgd-l0": _pgd("l0"),
    "rfgsm": _budgeted("rfgsm", restarts=2),
    "bim": _budgeted("bim", random=False, steps=8),
    "mifgsm": _budgeted("mifgsm", random=False, steps=8, relative_step=0.2),
    "apgd-linf": _budgeted("apgd", steps=10, loss="margin", restarts=2),
    "apgd-l2": _budgeted("apgd", steps=12, norm="l2", loss="dlr", odi_steps=2),
    "apgd-l1": _budgeted("apgd", steps=12, norm="l1"),
    "square-linf": _budgeted("square", queries=150),
    "square-l2": _budgeted("square", norm="l2", queries=150),
    "physical": _physical,
    "simba-linf": _budgeted("simba", norm="linf", queries=150),
    "simba-l2": _budgeted("simba", norm="l2", basis="dct", queries=200),
    "transfer-linf": _transfer("linf"),
    "transfer-l2": _transfer("l2"),
    "hop_skip_jump-linf": _hop_skip_jump("linf"),
    "hop_skip_jump-l2": _hop_skip_jump("l2"),
    "generator": _generator,
    "generator_strong": _smallest("generator_strong", rounds=30),
    "sparse": _sparse,
    "dense": _dense,
    "frontier": _smallest("frontier", caps=(0.4, 1.0), candidates=4),
    "exhaustive": _smallest("exhaustive", pixels=2, levels=3, pairs=150),
    "jsma": _smallest("jsma", theta=0.5, gamma=1.0),
    "jsma-probabilities": _smallest("jsma", theta=0.5, gamma=1.0, pairs=2, outputs="probabilities", taylor=True),
    "one_pixel": _smallest("one_pixel", random=True, pixels=6, population=24, generations=25),
    "sparse_rs": _budgeted("sparse_rs", only="l0", queries=200),
    **{f"deepfool-{norm}": _smallest("deepfool", norm=norm) for norm in ("linf", "l2", "l1")},
    "carlini_wagner": _smallest("carlini_wagner", searches=3, steps=20, lr=0.1),
    "ead": _smallest("ead", searches=3, steps=20),
    "ddn": _smallest("ddn", steps=30),
    **{f"fmn-{norm}": _smallest("fmn", norm=norm, steps=30) for norm in ("linf", "l2", "l1", "l0")},
    **{f"pdpgd-{norm}": _smallest("pdpgd", norm=norm, steps=40) for norm in ("linf", "l2", "l1", "l0")},
    **{f"fab-{norm}": _smallest("fab", norm=norm, steps=20, candidates=3) for norm in ("linf", "l2", "l1")},
    "sigma_zero": _smallest("sigma_zero", steps=40),
    **{f"minimum-{norm}": _smallest("minimum", norm=norm, budget=130) for norm in ("linf", "l2", "l1", "l0")},
}
"""Every attack with small settings; `eps` may be given to those with a budget, `streams` to all (some ignore it)."""


@pytest.fixture(params=ATTACKS)
def name(request: pytest.FixtureRequest) -> str:
    """Each attack's name in turn."""
    return str(request.param)


@pytest.fixture
def attacks() -> dict[str, Attack]:
    """Every attack by its name."""
    return ATTACKS


@pytest.fixture
def attack(name: str) -> Attack:
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
