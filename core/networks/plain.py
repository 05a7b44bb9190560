"""Networks without shortcuts: linear, dense, and the exercises' convolutional ones."""

from __future__ import annotations

from torch import nn

from core.networks.layers import Centre, FullConv2d, Shape


def linear(shape: Shape, outputs: int) -> nn.Sequential:
    """Logistic regression."""
    channels, height, width = shape
    return nn.Sequential(Centre(shape), nn.Flatten(), nn.Linear(channels * height * width, outputs))


def mlp(shape: Shape, outputs: int) -> nn.Sequential:
    """Two hidden layers, 256 and 128."""
    channels, height, width = shape
    return nn.Sequential(
        *(Centre(shape), nn.Flatten()),
        *(nn.Linear(channels * height * width, 256), nn.ReLU()),
        *(nn.Linear(256, 128), nn.ReLU()),
        nn.Linear(128, outputs),
    )


def cnn(shape: Shape, outputs: int) -> nn.Sequential:
    """The network of exercise set 5 (PyTorch's FGSM tutorial): conv 10-20, dropout, dense 50."""
    padding, final = _pooled_twice(shape)
    return nn.Sequential(
        *(Centre(shape), nn.Conv2d(shape[0], 10, 5, padding=padding), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(10, 20, 5, padding=padding), nn.Dropout2d(), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(20 * final[0] * final[1], 50), nn.ReLU(), nn.Dropout(), nn.Linear(50, outputs)),
    )


def lenet(shape: Shape, outputs: int) -> nn.Sequential:
    """MatConvNet's LeNet of exercise set 3: 431,080 parameters on MNIST, the mean image subtracted."""
    padding, final = _pooled_twice(shape)
    return nn.Sequential(
        *(Centre(shape, per_pixel=True), nn.Conv2d(shape[0], 20, 5, padding=padding), nn.MaxPool2d(2)),
        *(nn.Conv2d(20, 50, 5, padding=padding), nn.MaxPool2d(2)),
        *(FullConv2d(50, 500, final), nn.ReLU(), FullConv2d(500, outputs, 1), nn.Flatten()),
    )


def strided(shape: Shape, outputs: int) -> nn.Sequential:
    """Two strided convolutions and a dense layer, 16-32-100: 166,406 parameters on MNIST.

    The small network of the literature on provable robustness (Wong and Kolter 2018, arXiv 1711.00851): no pooling, so
    that bounds pass through it tightly.
    """
    return _strided(shape, outputs, (16, 32, 100))


def strided_wide(shape: Shape, outputs: int) -> nn.Sequential:
    """The strided network in 32-64-512: 1,644,650 parameters on MNIST, room for robustness at large ε."""
    return _strided(shape, outputs, (32, 64, 512))


def _strided(shape: Shape, outputs: int, widths: tuple[int, int, int]) -> nn.Sequential:
    (channels, height, width), (first, second, dense) = shape, widths
    return nn.Sequential(
        *(Centre(shape), nn.Conv2d(channels, first, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(first, second, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(second * (height // 4) * (width // 4), dense), nn.ReLU()),
        nn.Linear(dense, outputs),
    )


def trades_cnn(shape: Shape, outputs: int) -> nn.Sequential:
    """The CNN of the TRADES paper: 3×3 convolutions 32-32-pool-64-64-pool, dense 200-200: 312,202 parameters on MNIST.

    Source: Zhang et al. 2019, arXiv 1901.08573, section 5.2 (after Carlini and Wagner 2017, arXiv 1608.04644), with
    dropout after the first dense layer. Images of fewer than 28 by 28 pixels are padded, so that something is left.
    """
    channels, height, width = shape
    padding = 0 if min(height, width) >= 28 else 1
    final = [((side - 4 * (1 - padding)) // 2 - 4 * (1 - padding)) // 2 for side in (height, width)]
    return nn.Sequential(
        *(Centre(shape), nn.Conv2d(channels, 32, 3, padding=padding), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, padding=padding), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=padding), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3, padding=padding), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * final[0] * final[1], 200), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, outputs)),
    )


def _pooled_twice(shape: Shape) -> tuple[int, tuple[int, int]]:
    """Padding of the two 5×5 convolutions (none, unless the images are too small) and the size after both poolings."""
    height, width = (((side - 4) // 2 - 4) // 2 for side in shape[1:])
    if min(height, width) >= 1:
        return 0, (height, width)
    return 2, (shape[1] // 4, shape[2] // 4)
