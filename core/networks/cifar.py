"""Residual networks for 32×32 images as the field's checkpoints name their weights.

Three families, each from its paper, with the names that most public checkpoints have: residual networks with a 3×3 stem
(He et al. 2016, arXiv 1512.03385, widths 64 to 512), pre-activation ones (arXiv 1603.05027), and wide ones
(Zagoruyko and Komodakis 2016, arXiv 1605.07146). They have no normalisation of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from core.networks.layers import Shape


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut, which is a 1×1 convolution where size or width change."""

    expansion = 1

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _projection(width_in, width, stride)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Activations of the next block."""
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions beside a shortcut; four times as wide at its end."""

    expansion = 4

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width_in, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.shortcut = _projection(width_in, 4 * width, stride)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Activations of the next block."""
        inner = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(inner)) + self.shortcut(x))


def _projection(width_in: int, width: int, stride: int) -> nn.Sequential:
    if stride == 1 and width_in == width:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(width_in, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))


class PreActivated(nn.Module):
    """Batch norm and ReLU before each of two convolutions; the shortcut's 1×1 convolution has no norm."""

    expansion = 1

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(nn.Conv2d(width_in, width, 1, stride=stride, bias=False))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Activations of the next block."""
        active = F.relu(self.bn1(x))
        aside = self.shortcut(active) if hasattr(self, "shortcut") else x
        return self.conv2(F.relu(self.bn2(self.conv1(active)))) + aside


class CifarResNet(nn.Module):
    """A 3×3 stem, four stages of blocks at full, half, quarter and eighth size, the mean of each map, a dense layer."""

    def __init__(self, block: type[nn.Module], counts: tuple[int, ...], shape: Shape, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(shape[0], 64, 3, padding=1, bias=False)
        before, expansion = 64, int(getattr(block, "expansion"))  # noqa: B009
        self.activated = block is PreActivated
        if not self.activated:
            self.bn1 = nn.BatchNorm2d(64)
        for stage, count in enumerate(counts):
            width, layers = 64 << stage, []
            for place in range(count):
                layers.append(block(before, width, 2 if stage and not place else 1))
                before = width * expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.linear = nn.Linear(before, outputs)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Logits."""
        out = self.conv1(x)
        out = out if self.activated else F.relu(self.bn1(out))
        for stage in range(1, 5):
            out = getattr(self, f"layer{stage}")(out)
        return self.linear(F.adaptive_avg_pool2d(out, 1).flatten(1))


class WideBlock(nn.Module):
    """Batch norm, ReLU, convolution, twice; where the width changes the shortcut reads the activated input."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.convShortcut = None
        if width_in != width:
            self.convShortcut = nn.Conv2d(width_in, width, 1, stride=stride, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Activations of the next block."""
        active = F.relu(self.bn1(x))
        inner = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return inner + (x if self.convShortcut is None else self.convShortcut(active))


class _Stage(nn.Module):
    """Blocks of one width."""

    def __init__(self, count: int, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            *(WideBlock(width if place else width_in, width, 1 if place else stride) for place in range(count))
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Activations of the next stage."""
        return self.layer(x)


class WideResNet(nn.Module):
    """A 3×3 stem of 16 maps, three stages of widths 16k, 32k, 64k, norm, ReLU, the mean of each map, a dense layer."""

    def __init__(self, depth: int, widen: int, shape: Shape, outputs: int) -> None:
        super().__init__()
        count, widths = (depth - 4) // 6, (16, 16 * widen, 32 * widen, 64 * widen)
        self.conv1 = nn.Conv2d(shape[0], widths[0], 3, padding=1, bias=False)
        self.block1 = _Stage(count, widths[0], widths[1], 1)
        self.block2 = _Stage(count, widths[1], widths[2], 2)
        self.block3 = _Stage(count, widths[2], widths[3], 2)
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], outputs)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Logits."""
        out = F.relu(self.bn1(self.block3(self.block2(self.block1(self.conv1(x))))))
        return self.fc(F.adaptive_avg_pool2d(out, 1).flatten(1))


BUILDERS: dict[str, Callable[[Shape, int], nn.Module]] = {
    "cifar_resnet18": partial(CifarResNet, BasicBlock, (2, 2, 2, 2)),
    "cifar_resnet34": partial(CifarResNet, BasicBlock, (3, 4, 6, 3)),
    "cifar_resnet50": partial(CifarResNet, Bottleneck, (3, 4, 6, 3)),
    "cifar_preactresnet18": partial(CifarResNet, PreActivated, (2, 2, 2, 2)),
    "wide_resnet_16_4": partial(WideResNet, 16, 4),
    "wide_resnet_28_10": partial(WideResNet, 28, 10),
    "wide_resnet_34_10": partial(WideResNet, 34, 10),
    "wide_resnet_34_20": partial(WideResNet, 34, 20),
    "wide_resnet_70_16": partial(WideResNet, 70, 16),
}
"""`(shape, outputs) -> module` by name; the module maps (N, C, H, W), normalised as its maker did, to logits."""
