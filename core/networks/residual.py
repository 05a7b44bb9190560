"""Networks with shortcuts, for colour images: one that two cores can train, and the field's usual one for a GPU."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from core.networks.layers import Centre, Shape


class PreActBlock(nn.Module):
    """Batch norm, ReLU, convolution, twice, beside a shortcut (He et al. 2016, arXiv 1603.05027, figure 4 e).

    The shortcut is the input itself or, where size or width change, a 1×1 convolution of the activated input.
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width_in), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        same = stride == 1 and width_in == width
        self.shortcut = None if same else nn.Conv2d(width_in, width, 1, stride=stride, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Activations of the next stage."""
        active = F.relu(self.norm1(x))
        aside = x if self.shortcut is None else self.shortcut(active)
        inner: Tensor = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return inner + aside


def preactresnet18(shape: Shape, outputs: int) -> nn.Sequential:
    """PreActResNet-18: widths 64 to 512, two blocks a stage; 11.2 million parameters."""
    layers: list[nn.Module] = [Centre(shape), nn.Conv2d(shape[0], 64, 3, padding=1, bias=False)]
    before = 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [PreActBlock(before, width, stride), PreActBlock(width, width, 1)]
        before = width
    return nn.Sequential(
        *layers,
        *(nn.BatchNorm2d(512), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, outputs)),
    )


SMALL_WIDTH = 24
"""Width of the small network's first layer: what two cores train on CIFAR-10 in minutes."""


def resnet_small(shape: Shape, outputs: int) -> nn.Sequential:
    """A small residual network: a strided stem, three stages, the largest value of each map; 340,000 parameters."""
    w = SMALL_WIDTH
    return nn.Sequential(
        *(Centre(shape), nn.Conv2d(shape[0], w, 4, stride=2, padding=1, bias=False)),
        *(PreActBlock(w, 2 * w, 1), PreActBlock(2 * w, 4 * w, 2), PreActBlock(4 * w, 4 * w, 2)),
        *(nn.BatchNorm2d(4 * w), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4 * w, outputs)),
    )
