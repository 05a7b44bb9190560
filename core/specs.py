"""The vocabulary: everything that can be asked for, as frozen, validated, hashable descriptions.

A spec is a pydantic model. Its field metadata (title, description, bounds) draws the form, the command
line and the error messages: one truth. `Spec.key()` names the artifact that running the spec leaves behind.
Nothing here imports torch, so that pages and the command line can draw their controls at once.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

FORMAT = 1
"""Version of the artifact format; part of every key."""

DEFAULT_EPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
"""The budgets of exercise set 5, in units of a pixel's range [0, 1]."""


class Spec(BaseModel):
    """Base of every description: frozen, no unknown fields, no NaN or infinity, JSON both ways."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def canonical(self) -> str:
        """The spec as JSON with sorted keys: equal specs give equal text on every machine."""
        body = {"format": FORMAT, "spec": type(self).__name__, **self.model_dump(mode="json")}
        return json.dumps(body, sort_keys=True, separators=(",", ":"))

    def key(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def slug(self) -> str:
        """A readable name, for folders; not unique without the key."""
        raise NotImplementedError(f"{type(self).__name__} names no artifact")

    def artifact_name(self) -> str:
        """Folder name of the artifact: slug and the first ten hexadecimal digits of the key."""
        return f"{self.slug()}-{self.key()[:10]}"


def explain(error: ValidationError) -> str:
    """One line per refused field: its name, what was expected, what came."""
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"]) or "spec"
        got = "nothing" if item["type"] == "missing" else repr(item["input"])
        if len(got) > 120:
            got = got[:117] + "..."
        what = item["msg"].removeprefix("Value error, ")
        what = re.sub(r"^Input should be", "expected", what)
        if item["type"] == "finite_number":
            what = "expected a finite number"
        # a check of the whole spec names its field, and what came, itself
        lines.append(what if where == "spec" and ", got " in what else f"{where}: {what}, got {got}")
    return "\n".join(lines)


# ---------------------------------------------------------------- data


class DatasetInfo(BaseModel):
    """What is known of a built-in data set before it is loaded."""

    model_config = ConfigDict(frozen=True)
    title: str
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    train_size: int
    test_size: int
    fast_epochs: int = 3
    """Epochs that the fast preset needs on this set."""
    embedded: bool = False


_TEN = tuple(str(digit) for digit in range(10))
DATASETS: dict[str, DatasetInfo] = {
    "digits": DatasetInfo(
        title="Digits 8×8 (embedded)",
        shape=(1, 8, 8),
        class_names=_TEN,
        train_size=1437,
        test_size=360,
        fast_epochs=40,
        embedded=True,
    ),
    "mnist": DatasetInfo(title="MNIST", shape=(1, 28, 28), class_names=_TEN, train_size=60_000, test_size=10_000),
    "fashion_mnist": DatasetInfo(
        title="Fashion-MNIST",
        shape=(1, 28, 28),
        class_names=(
            *("T-shirt", "trouser", "pullover", "dress", "coat"),
            *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
        ),
        train_size=60_000,
        test_size=10_000,
    ),
    "cifar10": DatasetInfo(
        title="CIFAR-10",
        shape=(3, 32, 32),
        class_names=(
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        train_size=50_000,
        test_size=10_000,
        fast_epochs=8,
    ),
}

DatasetName = Literal["digits", "mnist", "fashion_mnist", "cifar10", "folder"]


class DataSpec(Spec):
    """Which images: a built-in set or a folder of images (one sub-folder a class), all classes or some of them."""

    dataset: DatasetName = Field("digits", title="Data set", description="Where the images come from.")
    folder: str | None = Field(
        None, title="Image folder", description="Only for 'folder': train/ and test/ (or one level of class folders)."
    )
    image_size: int = Field(32, ge=8, le=224, title="Image size", description="Only for 'folder': side in pixels.")
    grey: bool = Field(False, title="Grey", description="Only for 'folder': one channel instead of three.")
    classes: tuple[int, ...] | None = Field(
        None, title="Classes", description="Keep only these classes, renumbered in this order (4 9: four against nine)."
    )

    @field_validator("classes")
    @classmethod
    def _distinct_classes(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is None:
            return None
        if len(value) < 2 or len(set(value)) != len(value):
            raise ValueError("expected at least two different classes")
        if min(value) < 0:
            raise ValueError("expected class numbers of 0 or more")
        return value

    @model_validator(mode="after")
    def _fits_the_data_set(self) -> Self:
        if (self.dataset == "folder") != (self.folder is not None):
            raise ValueError("'folder' must be given exactly when dataset is 'folder'")
        if self.dataset != "folder":
            if (self.image_size, self.grey) != (32, False):
                raise ValueError("'image_size' and 'grey' are only for dataset 'folder'")
            known = len(DATASETS[self.dataset].class_names)
            if self.classes and max(self.classes) >= known:
                raise ValueError(f"classes: {self.dataset} has the classes 0 to {known - 1}, got {max(self.classes)}")
        return self

    def slug(self) -> str:
        """Such as `mnist`, `mnist-4v9`, `folder-cats`."""
        name: str = self.dataset
        if self.folder is not None:
            last = re.sub(r"[^a-z0-9]+", "-", self.folder.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].lower())
            name = f"folder-{last.strip('-') or 'images'}"
        return name + (f"-{'v'.join(map(str, self.classes))}" if self.classes else "")


# ---------------------------------------------------------------- networks and training

NETWORKS: dict[str, str] = {
    "linear": "Linear (logistic regression)",
    "mlp": "Dense network, 256-128",
    "cnn": "CNN 10-20-50 with dropout",
    "lenet": "LeNet 20-50-500",
}
NetworkName = Literal["linear", "mlp", "cnn", "lenet"]


class StandardRecipe(Spec):
    """Clean images, cross-entropy."""

    name: Literal["standard"] = "standard"


Recipe = StandardRecipe
RECIPES: dict[str, type[StandardRecipe]] = {"standard": StandardRecipe}


def _recipe_from_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class TrainSpec(Spec):
    """A trained model: data, network, recipe and optimiser. The defaults are the fast preset."""

    data: DataSpec = Field(default_factory=DataSpec)
    network: NetworkName = Field("lenet", title="Network", description="Architecture; it adapts to the image size.")
    scalar: bool = Field(
        False, title="One raw score", description="N(x) against a threshold instead of one logit a class; two classes."
    )
    recipe: Annotated[Recipe, BeforeValidator(_recipe_from_name)] = Field(
        default_factory=StandardRecipe, title="Recipe", description="How a batch's loss is made."
    )
    epochs: int = Field(3, ge=1, le=1000, title="Epochs", description="Passes over the training images.")
    batch_size: int = Field(128, ge=1, le=10_000, title="Batch size", description="Images a step.")
    optimizer: Literal["sgd", "adam"] = Field("sgd", title="Optimiser", description="SGD with momentum, or Adam.")
    lr: float = Field(0.1, gt=0, le=10, title="Learning rate", description="The peak, when the schedule is one_cycle.")
    momentum: float = Field(0.9, ge=0, lt=1, title="Momentum", description="SGD only.")
    weight_decay: float = Field(5e-4, ge=0, le=1, title="Weight decay", description="L2 penalty on every parameter.")
    schedule: Literal["constant", "one_cycle"] = Field(
        "one_cycle", title="Schedule", description="Learning rate over time."
    )
    init: Literal["default", "gaussian"] = Field(
        "default", title="Initial weights", description="PyTorch's own, or N(0, 0.01²) with zero biases (set 3)."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="Same seed, same machine: same weights.")

    @model_validator(mode="after")
    def _scalar_needs_two_classes(self) -> Self:
        if self.scalar and (self.data.classes is None or len(self.data.classes) != 2) and self.data.dataset != "folder":
            raise ValueError("scalar: expected a data set of two classes (choose two with 'classes')")
        return self

    def slug(self) -> str:
        """Such as `mnist-lenet-standard`."""
        return f"{self.data.slug()}-{self.network}{'-scalar' if self.scalar else ''}-{self.recipe.name}"


PRESETS: dict[str, dict[str, Any]] = {
    "fast": {},
    "set3": {
        "epochs": 30,
        "batch_size": 100,
        "optimizer": "sgd",
        "lr": 0.001,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "constant",
        "init": "gaussian",
    },
    "set5": {
        "epochs": 10,
        "batch_size": 1000,
        "optimizer": "adam",
        "lr": 0.001,
        "weight_decay": 0.0,
        "schedule": "constant",
    },
}
"""Settings by name: `fast` is this project's (the defaults); `set3` and `set5` are the exercises' literal ones."""
PRESET_TITLES = {
    "fast": "Fast (one-cycle SGD, 3 epochs)",
    "set3": "Exercise set 3, literal (SGD 0.001, 30 epochs)",
    "set5": "Exercise set 5, literal (Adam 0.001, batch 1000, 10 epochs)",
}

# ---------------------------------------------------------------- attacks

Norm = Literal["linf", "l2", "l1", "l0"]


class Method(Spec):
    """Base of the attack methods. The class variables describe the method to pages, command line and docs."""

    title: ClassVar[str]
    help: ClassVar[str]
    paper: ClassVar[str]
    norms: ClassVar[tuple[Norm, ...]]
    needs_eps: ClassVar[bool] = False
    """Whether the attack works inside a given budget; if not, it looks for its own smallest perturbation."""
    needs_target: ClassVar[bool] = False
    """Whether the attack only makes sense towards a given class."""

    def slug(self) -> str:
        """The method's registry name."""
        return str(self.name)  # type: ignore[attr-defined]  # every concrete method has a Literal field `name`


class Fgsm(Method):
    """Settings of FGSM."""

    title: ClassVar[str] = "FGSM"
    help: ClassVar[str] = "One step of size ε along the sign of the gradient; one gradient serves every ε."
    paper: ClassVar[str] = "Goodfellow, Shlens, Szegedy 2015, arXiv 1412.6572"
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    needs_eps: ClassVar[bool] = True
    name: Literal["fgsm"] = "fgsm"
    clip: bool = Field(
        True, title="Clip to [0, 1]", description="Off: the exercise's literal formula, which leaves valid images."
    )


class Pgd(Method):
    """Settings of PGD."""

    title: ClassVar[str] = "PGD"
    help: ClassVar[str] = "Many small gradient steps, each projected back into the ε-ball; fooled images are dropped."
    paper: ClassVar[str] = "Madry et al. 2018, arXiv 1706.06083"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    needs_eps: ClassVar[bool] = True
    name: Literal["pgd"] = "pgd"
    norm: Literal["linf", "l2"] = Field("linf", title="Norm", description="Shape of the ball.")
    steps: int = Field(40, ge=1, le=10_000, title="Steps", description="Gradient steps a restart.")
    relative_step: float = Field(0.1, gt=0, le=2, title="Step / ε", description="First step as a share of ε.")
    restarts: int = Field(1, ge=1, le=1000, title="Restarts", description="Random starts, on images not yet fooled.")
    random_start: bool = Field(True, title="Random start", description="Start at a random point of the ball.")
    loss: Literal["ce", "margin"] = Field("ce", title="Loss", description="Cross-entropy, or the logit margin.")


class GeneratorMethod(Method):
    """Settings of the generator attack of exercise set 1, in its literal mode."""

    title: ClassVar[str] = "Generator (literal)"
    help: ClassVar[str] = "A network with one input neuron is trained, in turns, to draw the image and to be read as j."
    paper: ClassVar[str] = "Exercise set 1; x = σ(w) is the variable of Carlini and Wagner 2017, arXiv 1608.04644"
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    needs_target: ClassVar[bool] = True
    name: Literal["generator"] = "generator"
    rounds: int = Field(200, ge=1, le=20_000, title="Rounds", description="Alternations between image and class.")
    image_steps: int = Field(1, ge=1, le=100, title="Image steps (a)", description="Steps to the sample, a round.")
    class_steps: int = Field(1, ge=1, le=100, title="Class steps (b)", description="Steps to the one-hot, a round.")
    lr: float = Field(0.05, gt=0, le=10, title="Learning rate", description="Adam's.")
    init: Literal["random", "image"] = Field("random", title="Initialisation", description="w random, or x = f(w).")
    loss: Literal["mse", "ce", "margin"] = Field(
        "mse", title="Class loss", description="Squared error to the one-hot (literal), cross-entropy, or margin."
    )
    shared_adam: bool = Field(False, title="Shared Adam state", description="One state for both steps, or one each.")
    generator: Literal["linear", "deep"] = Field(
        "linear", title="Generator", description="1 → C·H·W, or 1 → 256 → C·H·W, squashed by a sigmoid."
    )
    stop_confidence: float | None = Field(
        None, gt=0, lt=1, title="Stop at confidence", description="A pair that reaches it is finished; empty: never."
    )


class JacobianSparse(Method):
    """Settings of the greedy Jacobian attack on few pixels."""

    title: ClassVar[str] = "Jacobian, sparse"
    help: ClassVar[str] = "Change the pixel with the best real gain among those the Jacobian proposes; then prune."
    paper: ClassVar[str] = "After Papernot et al. 2016, arXiv 1511.07528, with real gains and pruning"
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    name: Literal["jacobian_sparse"] = "jacobian_sparse"
    max_features: int = Field(60, ge=1, le=3072, title="Largest count", description="Give up beyond so many changes.")
    candidates: int = Field(16, ge=1, le=256, title="Shortlist", description="Changes really tried, each step.")
    prune: bool = Field(True, title="Prune", description="Put back every change that is not needed.")


class JacobianDense(Method):
    """Settings of the dense formula ε* = |τ − N(x)| / ‖J‖₁."""

    title: ClassVar[str] = "Jacobian, dense formula"
    help: ClassVar[str] = "The same tiny change ±ε* on every pixel, ε* = |τ − N(x)| / ‖J‖₁ (Hölder's equality)."
    paper: ClassVar[str] = "Exercise set 2; linear case of Goodfellow et al. 2015, arXiv 1412.6572"
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    name: Literal["jacobian_dense"] = "jacobian_dense"
    boxed: bool = Field(True, title="Respect [0, 1]", description="Solve for ε* with the room each pixel has.")
    factor: float = Field(
        1.1, ge=1, le=3, title="Overshoot", description="Multiply ε* by this; a curved N needs a little."
    )


AnyMethod = Annotated[
    Fgsm | Pgd | GeneratorMethod | JacobianSparse | JacobianDense,
    Field(discriminator="name"),
]
METHODS: dict[str, type[Method]] = {
    cls.model_fields["name"].default: cls for cls in (Fgsm, Pgd, GeneratorMethod, JacobianSparse, JacobianDense)
}
"""Every attack method by its registry name."""


def _method_from_name(value: Any) -> Any:
    if isinstance(value, str):
        if value not in METHODS:
            raise ValueError(f"expected one of {', '.join(METHODS)}")
        return {"name": value}
    return value


MethodField = Annotated[AnyMethod, BeforeValidator(_method_from_name)]
Eps = Annotated[float, Field(ge=0)]
MAX_EPS: dict[str, float] = {"linf": 1.0, "l2": 100.0}
"""Largest budget by norm: a pixel's whole range for linf; for l2 more than the diagonal of any image here."""


def _within_range(eps: tuple[float, ...], method: Method) -> None:
    norm = getattr(method, "norm", method.norms[0])
    if eps and max(eps) > MAX_EPS[norm]:
        raise ValueError(f"eps: expected at most {MAX_EPS[norm]:g} for {method.slug()} in {norm}, got {max(eps):g}")


_MODEL = Field(min_length=1, title="Model", description="Id of a saved model (see `models`).")
_SEED = Field(0, ge=0, le=2**31 - 1, title="Seed", description="Random streams are keyed by this and the image index.")
_THRESHOLD = Field(0.0, ge=-1e6, le=1e6, title="Threshold τ", description="Scalar networks: class 1 above it.")


class AttackSpec(Spec):
    """Attack chosen images of one model and keep every image made."""

    model: str = _MODEL
    attack: MethodField = Field(title="Attack", description="Method and its settings.")
    eps: Eps | None = Field(None, title="ε", description="Budget; in [0, 1] for linf. Only for methods that need one.")
    indices: tuple[int, ...] | None = Field(
        None, title="Images", description="Test images, by their `index` in tables; else the first n that qualify."
    )
    n: int = Field(100, ge=1, le=100_000, title="Images (n)", description="How many, when no indices are given.")
    source: int | None = Field(None, ge=0, title="Of class", description="Only images of this class.")
    target: Literal["any", "all"] | int = Field(
        "any",
        title="Target class",
        description="A class, 'all' (every class, one after the other), or 'any' wrong one.",
    )
    threshold: float = _THRESHOLD
    seed: int = _SEED

    @field_validator("indices")
    @classmethod
    def _some_indices(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and not value:
            raise ValueError("expected at least one image")
        if value is not None and (min(value) < 0 or len(set(value)) != len(value)):
            raise ValueError("expected different indices of 0 or more")
        return value

    @field_validator("target")
    @classmethod
    def _target_not_negative(cls, value: str | int) -> str | int:
        if isinstance(value, int) and value < 0:
            raise ValueError("expected a class number of 0 or more, 'any' or 'all'")
        return value

    @model_validator(mode="after")
    def _fits_the_method(self) -> Self:
        if self.attack.needs_eps and self.eps is None:
            raise ValueError(f"eps: {self.attack.name} needs a budget")
        if not self.attack.needs_eps and self.eps is not None:
            raise ValueError(f"eps: {self.attack.name} finds its own size and takes no budget")
        if self.attack.needs_target and self.target == "any":
            raise ValueError(f"target: {self.attack.name} needs a class or 'all'")
        if self.eps is not None:
            _within_range((self.eps,), self.attack)
        return self

    def slug(self) -> str:
        """Such as `attack-fgsm`."""
        return f"attack-{self.attack.name}"


SWEEPABLE = tuple(name for name, cls in METHODS.items() if cls.needs_eps or name == "jacobian_dense")
"""Methods that give a curve over ε: those with a budget, and the formula, whose ε* is compared with it."""


def _eps_ladder(value: tuple[float, ...]) -> tuple[float, ...]:
    if not value:
        raise ValueError("expected at least one ε")
    return tuple(sorted(set(value)))


def _sweepable(method: Method) -> Method:
    if method.slug() not in SWEEPABLE:
        raise ValueError(f"expected one of {', '.join(SWEEPABLE)} for a curve over ε")
    return method


class SweepSpec(Spec):
    """Accuracy and confidence of one model against ε, per image."""

    model: str = _MODEL
    attack: MethodField = Field(default_factory=Fgsm, title="Attack", description="Method and its settings.")
    eps: tuple[Eps, ...] = Field(DEFAULT_EPS, title="ε", description="Budgets; in [0, 1] for linf.")
    n: int = Field(1000, ge=1, le=100_000, title="Images (n)", description="The first n of the test set's fixed order.")
    target: int | None = Field(None, ge=0, title="Target class", description="Empty: any wrong class will do.")
    threshold: float = _THRESHOLD
    seed: int = _SEED

    _ladder = field_validator("eps")(_eps_ladder)
    _method = field_validator("attack")(_sweepable)

    @model_validator(mode="after")
    def _fits_the_method(self) -> Self:
        _within_range(self.eps, self.attack)
        return self

    def slug(self) -> str:
        """Such as `sweep-fgsm`."""
        return f"sweep-{self.attack.name}"


class CompareSpec(Spec):
    """Several models under several attacks over ε: one sweep a cell."""

    models: tuple[str, ...] = Field(min_length=1, title="Models", description="Ids of saved models.")
    attacks: tuple[MethodField, ...] = Field((Fgsm(),), min_length=1, title="Attacks", description="Methods.")
    eps: tuple[Eps, ...] = Field(DEFAULT_EPS, title="ε", description="Budgets; in [0, 1] for linf.")
    n: int = Field(1000, ge=1, le=100_000, title="Images (n)", description="The first n of the test set's fixed order.")
    target: int | None = Field(None, ge=0, title="Target class", description="Empty: any wrong class will do.")
    seed: int = _SEED

    _ladder = field_validator("eps")(_eps_ladder)

    @field_validator("attacks")
    @classmethod
    def _methods(cls, value: tuple[Method, ...]) -> tuple[Method, ...]:
        return tuple(_sweepable(method) for method in value)

    @model_validator(mode="after")
    def _fits_every_method(self) -> Self:
        for method in self.attacks:
            _within_range(self.eps, method)
        return self

    def sweeps(self) -> list[SweepSpec]:
        """The cells: one sweep for each model and attack."""
        return [
            SweepSpec(model=model, attack=attack, eps=self.eps, n=self.n, target=self.target, seed=self.seed)
            for model in self.models
            for attack in self.attacks
        ]

    def slug(self) -> str:
        """Always `compare`."""
        return "compare"


Task = TrainSpec | AttackSpec | SweepSpec | CompareSpec
TASKS: dict[str, type[Task]] = {"train": TrainSpec, "attack": AttackSpec, "sweep": SweepSpec, "compare": CompareSpec}
"""What can be run, by the name of its command."""


def task_name(spec: Spec) -> str:
    """The command that runs `spec`."""
    return next(name for name, cls in TASKS.items() if isinstance(spec, cls))


def dump_task(spec: Task) -> dict[str, Any]:
    """`{"task": name, "spec": {...}}`, ready for JSON."""
    return {"task": task_name(spec), "spec": spec.model_dump(mode="json")}


def load_task(body: dict[str, Any]) -> Task:
    """The inverse of `dump_task`. Raises ValueError on an unknown task or a refused field."""
    if body.get("task") not in TASKS:
        raise ValueError(f"task: expected one of {', '.join(TASKS)}, got {body.get('task')!r}")
    return TASKS[body["task"]].model_validate(body["spec"])
