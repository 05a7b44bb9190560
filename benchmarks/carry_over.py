"""Networks to see whether the strength of an evaluation carries over: trained here, from these specs.

The thresholds of the evaluation's schedule were chosen on those marked `chosen_on` (and on the reference models); the
others are only reported on. Weights are kept in half precision under `benchmarks/networks`, and every figure is that of
the network with those weights.

    python -m benchmarks.carry_over --train NAME ...
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.data.sets import first_of_test, load, to_float
from core.jobs import running
from core.models.reference import train_spec
from core.networks.catalogue import build
from core.specs import TrainSpec
from core.specs.data import DATASETS
from core.storage import store

FOLDER = Path(__file__).parent / "networks"
"""Where their weights are kept."""


@dataclass(frozen=True)
class Subject:
    """One network.

    Attributes:
        spec: what it is trained from.
        eps: budget of each norm that it is judged at.
        chosen_on: whether thresholds were chosen on it.
    """

    spec: TrainSpec
    eps: dict[str, float]
    chosen_on: bool = False


_ADAM: dict[str, Any] = {"optimizer": "adam", "weight_decay": 0.0, "average": 0.995}
_MNIST: dict[str, Any] = {**_ADAM, "lr": 0.001, "eps": 0.3, "warmup": 0.4}
_CIFAR: dict[str, Any] = {"lr": 0.15, "augment": "crop_flip", "average": 0.995, "eps": 8 / 255}
_AT_MNIST = {"linf": 0.3, "l2": 2.0, "l1": 10.0, "l0": 5.0}
_AT_CIFAR = {"linf": 8 / 255, "l2": 0.5, "l1": 12.0, "l0": 5.0}


def _cnn(recipe: str, seed: int, **settings: Any) -> Subject:
    spec = train_spec("mnist", "trades_cnn", recipe, seed=seed, **{**_MNIST, **settings})
    return Subject(spec, _AT_MNIST, chosen_on=seed == 1)


def _strided(recipe: str, seed: int, **settings: Any) -> Subject:
    spec = train_spec("mnist", "strided", recipe, seed=seed, epochs=8, steps=7, **{**_MNIST, "lr": 0.002, **settings})
    return Subject(spec, _AT_MNIST, chosen_on=seed == 1)


SUBJECTS: dict[str, Subject] = {
    "strided-trades-1": _strided("trades", 1, beta=6.0),
    "cnn-fgsm-1": _cnn("fgsm", 1, epochs=5),
    "cnn-trades-2": _cnn("trades", 2, epochs=3, steps=4, relative_step=0.35, beta=3.0),
    "strided-pgd-2": _strided("pgd", 2),
    "strided-trades-2": _strided("trades", 2, beta=6.0),
    "lenet-fgsm-2": Subject(train_spec("mnist", "lenet", "fgsm", seed=2, epochs=5, **_MNIST), _AT_MNIST),
    "cnn-pgd-1": _cnn("pgd", 1, epochs=3, steps=4, relative_step=0.35),
    "cnn-fgsm-2": _cnn("fgsm", 2, epochs=5),
    "cnn-trades-1": _cnn("trades", 1, epochs=3, steps=4, relative_step=0.35, beta=3.0),
    "cnn-pgd-2": _cnn("pgd", 2, epochs=3, steps=4, relative_step=0.35),
    "resnet-fgsm-1": Subject(
        train_spec("cifar10", "resnet_small", "fgsm", seed=1, epochs=6, **_CIFAR), _AT_CIFAR, True
    ),
    "resnet-pgd-2": Subject(
        train_spec("cifar10", "resnet_small", "pgd", seed=2, epochs=5, steps=3, relative_step=0.4, **_CIFAR),
        _AT_CIFAR,
    ),
}
"""Every network by its name."""


def train(name: str, root: Path) -> Path:
    """Train one, or take its training from the store at `root`, and keep its weights; returns their file."""
    weights, file = _weights(SUBJECTS[name].spec, root), file_of(name)
    FOLDER.mkdir(exist_ok=True)
    half = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    save_file(half, file, metadata={"key": SUBJECTS[name].spec.artifact_name()})
    return file


def trained(spec: TrainSpec, root: Path) -> nn.Module:
    """The network of a training, in eval mode."""
    return _filled(spec, _weights(spec, root))


def _weights(spec: TrainSpec, root: Path) -> dict[str, Tensor]:
    made = running.run(spec, root, device="cpu", allow_bundled=False)
    assert isinstance(made, store.Artifact)
    return {key: torch.from_numpy(value.copy()) for key, value in made.arrays("weights").items()}


def _filled(spec: TrainSpec, weights: dict[str, Tensor]) -> nn.Module:
    data = DATASETS[spec.data.dataset]
    model = build(spec.network, data.shape, len(data.class_names))
    model.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
    )
    return model.eval().requires_grad_(False)


def file_of(name: str) -> Path:
    """Where its weights are kept."""
    return FOLDER / f"{name}.safetensors"


def network(name: str) -> nn.Module:
    """The network, in eval mode, with the weights that are kept."""
    return _filled(SUBJECTS[name].spec, load_file(file_of(name)))


def images(name: str, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first n test images in their fixed order, float32 in [0, 1], their classes and their numbers."""
    batch = first_of_test(load(SUBJECTS[name].spec.data), n)
    return to_float(batch.x), batch.y, batch.index


def main() -> None:
    """Train those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs="+", choices=SUBJECTS, required=True)
    for name in parser.parse_args().train:
        print(train(name, store.default_root()), flush=True)


if __name__ == "__main__":
    main()
