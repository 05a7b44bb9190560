"""Architectures, from pixels in [0, 1] to logits; whatever normalisation a model needs is its first layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from core.specs import NETWORKS

Shape = tuple[int, int, int]


class Centre(nn.Module):
    """Subtract a stored image and multiply by a stored factor; both are set from the training images, not learnt.

    A mean image (C, H, W) with factor 1 is MatConvNet's habit; a mean a channel (C, 1, 1) with 1/std the usual one.
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, shape: Shape, per_pixel: bool = False) -> None:
        super().__init__()
        self.per_pixel = per_pixel
        self.register_buffer("mean", torch.zeros(shape if per_pixel else (shape[0], 1, 1)))
        self.register_buffer("factor", torch.ones(shape[0], 1, 1))

    def fit(self, x: Float[Tensor, "n c h w"]) -> None:
        """Take mean (and, if not per pixel, standard deviation) from images in [0, 1]."""
        if self.per_pixel:
            self.mean.copy_(x.mean(dim=0))
        else:
            self.mean.copy_(x.mean(dim=(0, 2, 3))[:, None, None])
            self.factor.copy_(1 / x.std(dim=(0, 2, 3)).clamp_min(1e-3)[:, None, None])

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Centred images."""
        return (x - self.mean) * self.factor if not self.per_pixel else x - self.mean


class FullConv2d(nn.Conv2d):
    """A convolution that sees its whole input at once is a dense layer: computed as one, several times faster on a CPU.

    Parameters and result are those of `nn.Conv2d`; any other input size takes the ordinary path.
    """

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Convolve; the dense path flattens in the order that channels-last memory already has."""
        plain = self.padding == (0, 0) and self.dilation == (1, 1) and self.groups == 1
        if not plain or tuple(x.shape[2:]) != tuple(self.kernel_size):
            return super().forward(x)
        flat = x.permute(0, 2, 3, 1).flatten(1)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(flat, weight, self.bias)[:, :, None, None]


class ScalarScore(nn.Module):
    """A scalar network N with a threshold τ, seen as a two-class model: logits (0, N(x) − τ)."""

    scalar = True
    threshold: Tensor

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("threshold", torch.zeros(()))

    def score(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        """The raw score N(x), without sigmoid and without the threshold."""
        return cast(Tensor, self.body(x))[:, 0]

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2"]:
        """Logits (0, N(x) − τ): class 1 is predicted where N(x) > τ."""
        above = self.score(x) - self.threshold
        return torch.stack((torch.zeros_like(above), above), dim=1)


def build(network: str, shape: Shape, classes: int, *, scalar: bool = False) -> nn.Module:
    """A new network with PyTorch's default initial weights (drawn from the global generator: seed it first).

    Args:
        network: a name in `specs.NETWORKS`.
        shape: channels, height and width of its images; height and width of 8 or more.
        classes: number of classes K; 2 for a scalar network.
        scalar: one raw score N(x) instead of K logits; see `ScalarScore`.

    Returns:
        A module from (N, C, H, W) in [0, 1] to logits (N, K).

    Raises:
        ValueError: unknown name, images too small, or a scalar network for other than two classes.
    """
    builders = {"linear": _linear, "mlp": _mlp, "cnn": _cnn, "lenet": _lenet}
    if network not in builders:
        raise ValueError(f"network: expected one of {', '.join(NETWORKS)}, got {network!r}")
    if scalar and classes != 2:
        raise ValueError(f"classes: a scalar network tells two classes apart, got {classes}")
    if min(shape[1:]) < 8:
        raise ValueError(f"shape: expected images of 8 by 8 pixels or more, got {shape[1]} by {shape[2]}")
    body = builders[network](shape, 1 if scalar else classes)
    return ScalarScore(body) if scalar else body


def _linear(shape: Shape, outputs: int) -> nn.Sequential:
    channels, height, width = shape
    return nn.Sequential(Centre(shape), nn.Flatten(), nn.Linear(channels * height * width, outputs))


def _mlp(shape: Shape, outputs: int) -> nn.Sequential:
    channels, height, width = shape
    return nn.Sequential(
        *(Centre(shape), nn.Flatten()),
        *(nn.Linear(channels * height * width, 256), nn.ReLU()),
        *(nn.Linear(256, 128), nn.ReLU()),
        nn.Linear(128, outputs),
    )


def _cnn(shape: Shape, outputs: int) -> nn.Sequential:
    """The network of exercise set 5 (PyTorch's FGSM tutorial): conv 10-20, dropout, dense 50."""
    padding, final = _pooled_twice(shape)
    return nn.Sequential(
        *(Centre(shape), nn.Conv2d(shape[0], 10, 5, padding=padding), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(10, 20, 5, padding=padding), nn.Dropout2d(), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(20 * final[0] * final[1], 50), nn.ReLU(), nn.Dropout(), nn.Linear(50, outputs)),
    )


def _lenet(shape: Shape, outputs: int) -> nn.Sequential:
    """MatConvNet's LeNet of exercise set 3: 431,080 parameters on MNIST, the mean image subtracted."""
    padding, final = _pooled_twice(shape)
    return nn.Sequential(
        *(Centre(shape, per_pixel=True), nn.Conv2d(shape[0], 20, 5, padding=padding), nn.MaxPool2d(2)),
        *(nn.Conv2d(20, 50, 5, padding=padding), nn.MaxPool2d(2)),
        *(FullConv2d(50, 500, final), nn.ReLU(), FullConv2d(500, outputs, 1), nn.Flatten()),
    )


def _pooled_twice(shape: Shape) -> tuple[int, tuple[int, int]]:
    """Padding of the two 5×5 convolutions (none, unless the images are too small) and the size after both poolings."""
    height, width = (((side - 4) // 2 - 4) // 2 for side in shape[1:])
    if min(height, width) >= 1:
        return 0, (height, width)
    return 2, (shape[1] // 4, shape[2] // 4)


def centre_of(model: nn.Module) -> Centre | None:
    """The model's normalising layer, if it has one."""
    return next((part for part in model.modules() if isinstance(part, Centre)), None)


def with_threshold(model: nn.Module, threshold: float) -> nn.Module:
    """Set the threshold τ of a scalar network in place and return it. Raises ValueError for another model, τ ≠ 0."""
    if isinstance(model, ScalarScore):
        model.threshold.fill_(threshold)
    elif threshold != 0:
        raise ValueError(f"threshold: only a scalar network has one, got {threshold}")
    return model


@dataclass(frozen=True)
class Layer:
    """A row of the layer table; `output_shape` is without the batch, `receptive_field` is a side in pixels."""

    name: str
    type: str
    output_shape: tuple[int, ...]
    parameters: int
    receptive_field: int | None


def layer_table(model: nn.Module, shape: Shape) -> list[Layer]:
    """One row a layer, in the order of the forward pass, found by running one blank image.

    The receptive field grows by (kernel − 1) × the product of the strides so far; from the first flattening or dense
    layer on it is the whole image (given as None when height and width differ).
    """
    whole = shape[1] if shape[1] == shape[2] else None
    rows: list[Layer] = []
    field: int | None = 1
    stride, dense = 1, False

    def note(name: str, module: nn.Module, output: Tensor) -> None:
        nonlocal field, stride, dense
        if isinstance(module, nn.Flatten | nn.Linear):
            dense = True
        if not dense and isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            assert field is not None
            field += (_side(module.kernel_size) - 1) * stride
            stride *= _side(module.stride)
        count = sum(p.numel() for p in module.parameters(recurse=False))
        seen = whole if dense or (field is not None and field >= max(shape[1:])) else field
        rows.append(Layer(name, type(module).__name__, tuple(output.shape[1:]), count, seen))

    hooks = [
        module.register_forward_hook(lambda module, _inputs, output, name=name: note(name, module, output))
        for name, module in model.named_modules()
        if not any(True for _ in module.children())
    ]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape, device=_device_of(model)))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return rows


def _side(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]


def _device_of(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def parameter_count(model: nn.Module) -> int:
    """Number of learnt parameters."""
    return sum(p.numel() for p in model.parameters())


def logits_of(model: nn.Module, x: Tensor, batch_size: int = 1000) -> Float[Tensor, "n k"]:
    """Logits of many images, in batches, without gradients and in eval mode; the model's mode is put back.

    `x` is (N, C, H, W), float in [0, 1] or uint8 grey levels; batches go to the model's device, logits stay there.
    """
    device, training = _device_of(model), model.training
    model.eval()
    try:
        with torch.no_grad():
            parts = []
            for part in x.split(batch_size):
                images = part.to(device)
                if images.dtype == torch.uint8:
                    images = images.to(torch.float32).div_(255)
                parts.append(model(images.contiguous(memory_format=torch.channels_last)))
            return torch.cat(parts)
    finally:
        model.train(training)
