"""Figures that others published for these exercises, and where. What is not published is not here."""

from __future__ import annotations

SET3 = "public report on exercise set 3, MNIST, ε not stated"
SET5 = "public lab of exercise set 5, MNIST: Adam 0.001, batch 1000, 10 epochs"
SET1 = "a student's solution of exercise set 1"
FGSM = "Goodfellow, Shlens, Szegedy 2015, arXiv 1412.6572, MNIST"
JSMA = "Papernot et al. 2016, arXiv 1511.07528, MNIST"

FIVE = ("accuracy", "error", "confidence", "confidence_correct", "confidence_wrong")
"""The five metrics of set 3, in the order of its table."""
TABLE3: dict[tuple[str, str], dict[str, float]] = {
    ("standard", "clean"): dict(zip(FIVE, (0.9858, 0.0142, 0.9858, 0.9899, 0.7029), strict=True)),
    ("standard", "FGSM"): dict(zip(FIVE, (0.0496, 0.9504, 0.9305, 0.8869, 0.9328), strict=True)),
    ("adversarial", "clean"): dict(zip(FIVE, (0.9840, 0.0160, 0.9712, 0.9761, 0.6734), strict=True)),
    ("adversarial", "FGSM"): dict(zip(FIVE, (0.8328, 0.1672, 0.8458, 0.8761, 0.6947), strict=True)),
}
"""Set 3's table: (training, images) → the five metrics. The confidence of the adversarially trained network on clean
images is printed as .9721, which cannot be right: C = A·Cc + E·Ce gives .9712."""
EPS3 = 0.25
"""The ε at which set 3's figures are compared: unstated there; an accuracy of .0496 fits about 0.25 with clipping to
[0, 1] (about 0.19 without)."""

EPS5 = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
CURVES5: dict[str, tuple[float, ...]] = {
    "linear": (0.913, 0.618, 0.157, 0.027, 0.002, 0.0, 0.0),
    "cnn": (0.972, 0.914, 0.795, 0.601, 0.367, 0.172, 0.055),
    "cnn-fgsm": (0.965, 0.941, 0.910, 0.871, 0.813, 0.746, 0.646),
}
"""Set 5's accuracies under FGSM at `EPS5`: logistic regression, the CNN, and the CNN trained with FGSM at ε = 0.25."""
TITLES5 = {
    "linear": "Logistic regression",
    "cnn": "CNN, standard training",
    "cnn-fgsm": "CNN, trained with FGSM",
    "linear-fgsm": "Linear, trained with FGSM",
}

MNIST1, CIFAR1, ROUNDS1 = 0.9919, 0.8127, 800
"""Set 1: test accuracies on MNIST and CIFAR-10, and the alternations that the generator was trained for."""
ABOUT4 = 0.95
"""Set 4: accuracy of the two-layer network, "about 95 %"."""
EPS_FGSM = 0.25
SOFTMAX = {"error": 0.999, "confidence_wrong": 0.793}
MAXOUT = {"error": 0.894, "confidence_wrong": 0.976}
MAXOUT_ADVERSARIAL = {"error": 0.179}
"""FGSM paper, at `EPS_FGSM`: shallow softmax; maxout network; the same after adversarial training."""
JSMA_SUCCESS, JSMA_SHARE, JSMA_PIXELS = 0.971, 0.0402, 32
"""JSMA: share of successful attacks; features changed, as a share and as a number of 784."""
