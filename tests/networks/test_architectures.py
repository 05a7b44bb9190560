"""Architectures by name: weights go in whole or not at all, and what does not fit is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from core.networks import cifar
from core.networks.architectures import build, fill, nearest, outputs_of, takes
from core.networks.layers import Shape
from core.networks.table import parameter_count
from core.networks.weight_files import plain_names
from core.specs import NETWORKS


def _random(model: nn.Module) -> nn.Module:
    """Values of no pattern in every parameter and buffer, so that one that was left as it was is seen."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) * 0.1 + 0.05)
    return model.eval()


def _torchvision(name: str, **options: object) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        from torchvision import models

        model: nn.Module = models.get_model(name, weights=None, **options)
        return model

    return make


def _small_stem() -> nn.Module:
    """What is usual for 32×32 images."""
    model = _torchvision("resnet18", num_classes=10)()
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return model


def _grey_stem() -> nn.Module:
    model = _torchvision("resnet18", num_classes=10)()
    model.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    return model


def _timm(name: str, **options: object) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        timm = pytest.importorskip("timm")
        model: nn.Module = timm.create_model(name, **options)
        return model

    return make


CASES: dict[str, tuple[str, Callable[[], nn.Module], Shape, Shape, int]] = {
    "lenet": ("lenet", lambda: build("lenet", (1, 28, 28), 7), (1, 28, 28), (1, 28, 28), 7),
    "own": ("resnet_small", lambda: build("resnet_small", (3, 32, 32), 4), (3, 32, 32), (3, 32, 32), 4),
    "cifar": (
        "cifar_resnet18",
        lambda: cifar.BUILDERS["cifar_resnet18"]((3, 32, 32), 10),
        (3, 32, 32),
        (3, 32, 32),
        10,
    ),
    "wide": (
        "wide_resnet_16_4",
        lambda: cifar.BUILDERS["wide_resnet_16_4"]((3, 32, 32), 100),
        (3, 32, 32),
        (3, 32, 32),
        100,
    ),
    "resnet": ("torchvision:resnet18", _torchvision("resnet18"), (3, 64, 64), (3, 64, 64), 1000),
    "small stem": ("torchvision:resnet18", _small_stem, (3, 32, 32), (3, 32, 32), 10),
    "grey stem": ("torchvision:resnet18", _grey_stem, (1, 28, 28), (1, 28, 28), 10),
    "aside": (
        "torchvision:googlenet",
        _torchvision("googlenet", num_classes=5, init_weights=False, aux_logits=True),
        (3, 64, 64),
        (3, 64, 64),
        5,
    ),
    "convolution for a head": (
        "torchvision:squeezenet1_1",
        _torchvision("squeezenet1_1", num_classes=6),
        (3, 64, 64),
        (3, 64, 64),
        6,
    ),
    "timm vit": ("timm:test_vit", _timm("test_vit", num_classes=5), (3, 32, 32), (3, 160, 160), 5),
    "timm vit of another size": (
        "timm:test_vit",
        _timm("test_vit", num_classes=5, img_size=64, in_chans=1),
        (1, 28, 28),
        (1, 64, 64),
        5,
    ),
    "timm": ("timm:test_resnet", _timm("test_resnet", num_classes=3), (3, 40, 40), (3, 40, 40), 3),
}


@pytest.mark.parametrize("case", CASES)
def test_weights_alone_give_the_same_network(case: str) -> None:
    """Outputs, channels and sizes come from the weights; the answers are those of the network they are from."""
    name, make, images, taken, outputs = CASES[case]
    theirs = _random(make())
    weights = dict(theirs.state_dict())
    assert takes(name, images, resize=None, crop=None, weights=weights) == taken
    assert outputs_of(name, weights, 10) == outputs
    ours = build(name, taken, outputs, weights)
    fill(ours, name, weights)
    x = torch.rand(2, *taken)
    with torch.no_grad():
        assert torch.equal(ours.eval()(x), theirs(x))


def test_resizing_and_cropping_change_what_is_taken() -> None:
    """In this order; a network for one size of images does not follow."""
    assert takes("torchvision:resnet18", (3, 40, 60), resize=20, crop=None) == (3, 20, 30)
    assert takes("torchvision:resnet18", (3, 40, 60), resize=20, crop=16) == (3, 16, 16)
    assert takes("torchvision:vit_b_16", (3, 40, 60), resize=20, crop=16) == (3, 224, 224)


@pytest.mark.parametrize("name", ["resnet18", "torchvision:fcn_resnet50", "torchvision:raft_small", "hub:resnet18"])
def test_names_come_from_the_registries_alone(name: str) -> None:
    """Networks for other tasks are none, nor is another source."""
    with pytest.raises(ValueError, match=r"^architecture: expected"):
        build(name, (3, 32, 32), 10)


@pytest.mark.parametrize("name", ["timm:no_such", "timm:hf_hub", "timm:"])
def test_timm_is_asked_for_known_names_only(name: str) -> None:
    """A name that it does not list is never passed on."""
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=r"^architecture: expected a model of timm"):
        build(name, (3, 32, 32), 10)


def test_without_timm_the_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence."""
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ValueError, match="pip install timm"):
        build("timm:resnet18", (3, 32, 32), 10)


def test_what_does_not_fit_is_named_with_the_nearest_architecture() -> None:
    """Missing and unknown names and other shapes, each with its count; nothing was put in."""
    weights = dict(cifar.BUILDERS["cifar_resnet18"]((3, 32, 32), 10).state_dict())
    model = build("lenet", (3, 32, 32), 10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"10 of 10 names are missing .* unknown .* cifar_resnet18") as caught:
        fill(model, "lenet", weights)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    own = dict(build("lenet", (1, 28, 28), 10).state_dict())
    with pytest.raises(ValueError, match=r"1 have other shapes \(1.weight 20×1×5×5 instead of 20×3×5×5\)"):
        fill(
            build("lenet", (3, 28, 28), 10),
            "lenet",
            {**own, "0.mean": torch.zeros(3, 28, 28), "0.factor": torch.ones(3, 1, 1)},
        )


def test_a_layer_that_is_missing_is_not_left_at_its_beginning() -> None:
    """Counters of batch normalisation may be missing, since nothing is computed from them; nothing else."""
    model = _random(build("resnet_small", (3, 32, 32), 10))
    weights = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    fill(build("resnet_small", (3, 32, 32), 10), "resnet_small", weights)
    for name in list(weights)[::9]:
        with pytest.raises(ValueError, match=name):
            fill(
                build("resnet_small", (3, 32, 32), 10),
                "resnet_small",
                {other: value for other, value in weights.items() if other != name},
            )


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", [*NETWORKS, "cifar_resnet18", "cifar_preactresnet18", "wide_resnet_28_10"])
def test_the_nearest_architecture_is_the_right_one(name: str) -> None:
    """Of every network of this program, also for another number of classes."""
    weights: dict[str, Tensor] = dict(build(name, (3, 32, 32), 5).state_dict())
    found = nearest(weights)
    assert found is not None
    assert found[0] == name
    assert nearest({"a.weight": torch.ones(3)}) is None


def test_networks_for_small_images_have_the_sizes_that_they_are_known_for() -> None:
    """11.17, 23.52 and 36.48 million parameters, as their papers and checkpoints say."""
    count = {name: parameter_count(cifar.BUILDERS[name]((3, 32, 32), 10)) for name in ("cifar_resnet18",)}
    assert count["cifar_resnet18"] == 11_173_962
    assert parameter_count(cifar.BUILDERS["cifar_resnet50"]((3, 32, 32), 10)) == 23_520_842
    assert parameter_count(cifar.BUILDERS["cifar_preactresnet18"]((3, 32, 32), 10)) == 11_171_146
    assert parameter_count(cifar.BUILDERS["wide_resnet_28_10"]((3, 32, 32), 10)) == 36_479_194


def test_names_that_the_wrapper_left_fit() -> None:
    """A whole model that was saved inside another one."""
    model = _random(build("lenet", (1, 28, 28), 10))
    weights = plain_names({f"module.model.{name}": value for name, value in model.state_dict().items()})
    other = build("lenet", (1, 28, 28), 10)
    fill(other, "lenet", weights)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
