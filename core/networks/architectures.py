"""Architectures by name, ours and others': `lenet`, `torchvision:resnet18`, `timm:resnet18`; and weights into them.

Names come from three registries alone: networks of this program, torchvision's classification models, and timm's.
Nothing is downloaded: a URL, a path or a hub's id is no name.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from core.networks import cifar
from core.networks.catalogue import build as build_ours
from core.networks.layers import Shape
from core.networks.weight_files import listed, plain_names
from core.specs import NETWORKS

TIMM_MISSING = "architecture: timm is not installed here: pip install timm"
_ASIDE = ("aux1.", "aux2.", "AuxLogits.")
"""Heads of GoogLeNet and Inception that are used in training only."""
_COUNTER = "num_batches_tracked"
_STEMS: dict[str, tuple[str, ...]] = {
    "conv1.weight": ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2", "resnext50_32x4d"),
    "features.0.weight": (
        *("alexnet", "squeezenet1_0", "squeezenet1_1", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn"),
        *("vgg16", "vgg16_bn", "vgg19", "vgg19_bn"),
    ),
    "features.conv0.weight": ("densenet121", "densenet169"),
    "features.0.0.weight": (
        "mobilenet_v2",
        "mobilenet_v3_small",
        "mobilenet_v3_large",
        "efficientnet_b0",
        "convnext_tiny",
    ),
    "conv_proj.weight": ("vit_b_16", "vit_b_32"),
    "conv1.conv.weight": ("googlenet",),
    "Conv2d_1a_3x3.conv.weight": ("inception_v3",),
}
"""The models of torchvision that foreign weights with such a name are compared with."""
_MANY = 1013
"""A number of outputs that nothing else in a network has."""


def build(name: str, shape: Shape, outputs: int, weights: Mapping[str, Tensor] | None = None) -> nn.Module:
    """A network of this architecture, with new weights.

    Args:
        name: a network of this program, `torchvision:NAME` or `timm:NAME`.
        shape: (C, H, W) of what it takes.
        outputs: how many numbers it answers with.
        weights: those that it is built for: a residual network of torchvision whose first convolution is 3×3 there
            gets that, and no pooling after it, as is usual for small images.

    Raises:
        ValueError: an unknown name, timm where it is not installed, or images that the architecture cannot take.
    """
    source, _, known = name.rpartition(":")
    if source == "torchvision":
        return _torchvision(known, shape, outputs, weights or {})
    if source == "timm":
        return _timm(known, shape, outputs)
    if source or not (known in NETWORKS or known in cifar.BUILDERS):
        raise ValueError(
            f"architecture: expected torchvision:NAME, timm:NAME or one of {', '.join((*NETWORKS, *cifar.BUILDERS))}, "
            f"got {name!r}"
        )
    if known in cifar.BUILDERS:
        return cifar.BUILDERS[known](shape, outputs)
    return build_ours(known, shape, outputs)


def fill(model: nn.Module, name: str, weights: Mapping[str, Tensor]) -> None:
    """Put weights into a network, all of them: nothing is left as it was, nothing is left over.

    Only the counters of batch normalisation may be missing, and heads that are used in training only may be left over.

    Raises:
        ValueError: names or shapes that do not fit, how many and the first few, and the nearest architecture.
    """
    own = model.state_dict()
    short = plain_names(own)
    prefix = next((full[: -len(part)] for full, part in zip(own, short, strict=False) if full.endswith(part)), "")
    target = {prefix + part: value for part, value in short.items()} if len(short) == len(own) else own
    given = {key if key in own else prefix + key: value for key, value in weights.items()}
    given = {key: value for key, value in given.items() if key in own or not _aside(key.removeprefix(prefix))}
    missing = [key for key in target if key not in given and not key.endswith(_COUNTER)]
    unexpected = [key for key in given if key not in own]
    differing = [key for key in given if key in own and given[key].shape != own[key].shape]
    if missing or unexpected or differing:
        raise ValueError(_misfit(name, own, weights, missing, unexpected, differing))
    model.load_state_dict(given, strict=False)


def outputs_of(name: str, weights: Mapping[str, Tensor], classes: int) -> int:
    """How many outputs weights are for, seen from those whose shape depends on it; `classes` where none of them is."""
    shape = takes(name, (3, 32, 32), resize=None, crop=None, weights=weights)
    one, other = (plain_names(_shapes(name, shape, count, weights)) for count in (classes + 2, classes + 3))
    found = []
    for key, value in one.items():
        if value.shape == other[key].shape or key not in weights or _aside(key):
            continue
        place = next(i for i, (a, b) in enumerate(zip(value.shape, other[key].shape, strict=True)) if a != b)
        if weights[key].ndim == value.ndim:
            found.append(weights[key].shape[place])
    return found[-1] if found else classes


def takes(
    name: str, shape: Shape, *, resize: int | None, crop: int | None, weights: Mapping[str, Tensor] | None = None
) -> Shape:
    """The shape of the images that the architecture is given.

    Args:
        name: the architecture.
        shape: (C, H, W) of the data set's images.
        resize: see `core.specs.Framing`.
        crop: see there.
        weights: of the architecture: they say how many channels, and for a vision transformer which size.
    """
    channels, height, width = shape
    if resize is not None:
        scale = resize / min(height, width)
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
    if crop is not None:
        height = width = crop
    source, _, known = name.rpartition(":")
    weights = weights or {}
    if source not in ("torchvision", "timm"):
        first = (
            next((value for value in weights.values() if value.ndim == 4), None) if known in cifar.BUILDERS else None
        )
        return (channels if first is None else first.shape[1]), height, width
    first = next((value for value in weights.values() if value.ndim == 4), None)
    channels = 3 if first is None or first.shape[1] not in (1, 3) else first.shape[1]
    side = _fixed_side(source, known, weights)
    return (channels, height, width) if side is None else (channels, side, side)


# ---------------------------------------------------------------- others' registries


@lru_cache(maxsize=1)
def torchvision_names() -> tuple[str, ...]:
    """The classification models of torchvision."""
    from torchvision import models

    return tuple(models.list_models(module=models))


def _torchvision(name: str, shape: Shape, outputs: int, weights: Mapping[str, Tensor]) -> nn.Module:
    from torchvision import models

    if name not in torchvision_names():
        raise ValueError(f"architecture: expected a classification model of torchvision, got {name!r}")
    known = inspect.signature(models.get_model_builder(name)).parameters
    options: dict[str, Any] = {"num_classes": outputs}
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": False}
    if name.startswith("vit_"):
        options["image_size"] = _square(name, shape)
    elif name == "maxvit_t":
        options["input_size"] = (_square(name, shape),) * 2
    assert "weights" in known
    model = cast(nn.Module, models.get_model(name, weights=None, **options))
    stem = weights.get("conv1.weight")
    if isinstance(model, models.ResNet) and stem is not None and tuple(stem.shape[2:]) == (3, 3):
        model.conv1 = nn.Conv2d(shape[0], model.conv1.out_channels, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    return model if shape[0] == 3 else _with_channels(model, shape[0])


def _square(name: str, shape: Shape) -> int:
    if shape[1] != shape[2]:
        raise ValueError(f"architecture: expected square images for {name}, got {shape[1]} by {shape[2]}: crop them")
    return shape[1]


def _with_channels(model: nn.Module, channels: int) -> nn.Module:
    """The same with a first convolution for another number of channels."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            if layer.in_channels != channels:
                inside, _, last = name.rpartition(".")
                new = nn.Conv2d(
                    channels,
                    layer.out_channels,
                    cast(Any, layer.kernel_size),
                    cast(Any, layer.stride),
                    cast(Any, layer.padding),
                    bias=layer.bias is not None,
                )
                setattr(model.get_submodule(inside), last, new)
            return model
    return model


def _timm(name: str, shape: Shape, outputs: int) -> nn.Module:
    timm = _import_timm()
    if not timm.is_model(name):
        raise ValueError(f"architecture: expected a model of timm, got {name!r}")
    options: dict[str, Any] = {"num_classes": outputs, "in_chans": shape[0], "pretrained": False}
    try:
        if _has_positions(name):
            return cast(nn.Module, timm.create_model(name, img_size=shape[1:], **options))
        return cast(nn.Module, timm.create_model(name, **options))
    except (TypeError, AssertionError, RuntimeError, KeyError) as error:
        raise ValueError(
            f"architecture: timm cannot build {name} for images of {'×'.join(map(str, shape))} and {outputs} outputs: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from None


def _import_timm() -> Any:
    try:
        import timm
    except ImportError:
        raise ValueError(TIMM_MISSING) from None
    return timm


@lru_cache(maxsize=64)
def _has_positions(name: str) -> bool:
    """Whether a model of timm is made for one size of images, which `img_size` changes."""
    timm = _import_timm()
    with _Empty():
        model = timm.create_model(name, pretrained=False)
    return getattr(getattr(model, "patch_embed", None), "img_size", None) is not None


def _fixed_side(source: str, name: str, weights: Mapping[str, Tensor]) -> int | None:
    """The side of the only images that an architecture with these weights takes; None where any size will do."""
    if source == "torchvision":
        if name.startswith("vit_"):
            return _side_of(weights.get("encoder.pos_embedding"), weights.get("conv_proj.weight"), 1) or 224
        return 224 if name == "maxvit_t" else None
    if not _import_timm().is_model(name) or not _has_positions(name):
        return None
    with _Empty():
        model = _import_timm().create_model(name, pretrained=False)
    before = getattr(model, "num_prefix_tokens", 0) if not getattr(model, "no_embed_class", False) else 0
    side = _side_of(weights.get("pos_embed"), weights.get("patch_embed.proj.weight"), before)
    return side or int(model.patch_embed.img_size[0])


def _side_of(positions: Tensor | None, patches: Tensor | None, before: int) -> int | None:
    if positions is None or patches is None or positions.ndim != 3 or patches.ndim != 4:
        return None
    side = math.isqrt(max(0, positions.shape[1] - before))
    return side * patches.shape[2] if side * side == positions.shape[1] - before else None


# ---------------------------------------------------------------- what does not fit


class _Empty(TorchFunctionMode):
    """While it is on, new parameters take no memory: `torch.empty` makes tensors without values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def _shapes(name: str, shape: Shape, outputs: int, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names and shapes of an architecture's weights, without values."""
    with torch.random.fork_rng(devices=[]), _Empty():
        return build(name, shape, outputs, weights).state_dict()


def _aside(key: str) -> bool:
    return key.startswith(_ASIDE)


def _misfit(
    name: str,
    own: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    missing: list[str],
    unexpected: list[str],
    differing: list[str],
) -> str:
    said = []
    if missing:
        said.append(f"{len(missing)} of {len(own)} names are missing ({listed(missing)})")
    if unexpected:
        said.append(f"{len(unexpected)} are unknown ({listed(unexpected)})")
    if differing:
        short = {key.rsplit(":", 1)[-1]: value for key, value in weights.items()}
        shapes = [
            f"{key} {_dims(short[key])} instead of {_dims(own[key])}" if key in short else key for key in differing
        ]
        said.append(f"{len(differing)} have other shapes ({listed(shapes)})")
    near = nearest(weights, but=name)
    hint = f"; the nearest architecture is {near[0]}, where {near[1]:.0%} fit" if near else ""
    return f"architecture: expected the weights of {name}, but of those in the file {', '.join(said)}{hint}"


def _dims(value: Tensor) -> str:
    return "×".join(map(str, value.shape)) or "()"


def nearest(weights: Mapping[str, Tensor], *, but: str = "") -> tuple[str, float] | None:
    """The architecture whose names and shapes fit best, and the share of both that do; None below a half.

    Compared are the networks of this program, and models of torchvision whose first layer has the same name.
    """
    theirs = [known for stem, names in _STEMS.items() if stem in weights for known in names]
    first = next((value for value in weights.values() if value.ndim == 4), None)
    channels = first.shape[1] if first is not None and first.shape[1] in (1, 3) else 3
    best: tuple[str, float] | None = None
    for name in (*NETWORKS, *cifar.BUILDERS, *(f"torchvision:{n}" for n in theirs)):
        if name == but:
            continue
        share = max(_share(name, weights, (channels, side, side)) for side in ((32, 28) if name in NETWORKS else (32,)))
        if share > (0.5 if best is None else best[1]):
            best = (name, share)
    return best


def _share(name: str, weights: Mapping[str, Tensor], shape: Shape) -> float:
    stem = weights.get("conv1.weight")
    small = stem is not None and stem.ndim == 4 and tuple(stem.shape[2:]) == (3, 3)
    try:
        taken = takes(name, shape, resize=None, crop=None, weights=weights)
        ours = _outline(name, taken, small and name.startswith("torchvision:"))
    except (ValueError, RuntimeError):
        return 0.0
    theirs = {key: tuple(value.shape) for key, value in weights.items() if not key.endswith(_COUNTER)}
    same = sum(
        len(theirs.get(key, ())) == len(value)
        and all(a in (b, _MANY) for a, b in zip(value, theirs.get(key, ()), strict=True))
        for key, value in ours.items()
        if key in theirs
    )
    return same / max(1, len(ours.keys() | theirs.keys()))


@lru_cache(maxsize=128)
def _outline(name: str, shape: Shape, small: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an architecture's weights for `_MANY` outputs."""
    weights = {"conv1.weight": torch.empty(1, 1, 3, 3)} if small else {}
    own = _shapes(name, shape, _MANY, weights)
    return {key: tuple(value.shape) for key, value in own.items() if not key.endswith(_COUNTER)}
