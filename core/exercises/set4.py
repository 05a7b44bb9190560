"""Exercise set 4: gradient steps on the input, by hand on six features and on images."""

from __future__ import annotations

from core import specs
from core.exercises import published, which
from core.exercises.evidence import test_accuracy
from core.exercises.items import ExerciseSet, Figure, Item, Link, Need

TOY = {"part": "Six features, by hand"}
DENSE = which.both(which.digits, which.network("mlp"), which.standard)

ITEMS = (
    Item(
        "4.A,B",
        "Two gradients",
        "Logistic regression with θ = (−1, 1, −1, 1, 0, 0). Derive the gradient of the output with respect to the "
        "weights and with respect to the input, by hand, then compare with the numbers and with automatic "
        "differentiation.",
        (Link("linear_models", TOY, "∇"),),
        (
            "Which direction does each of the two gradients have, and what does it not depend on?",
            "Why do features 5 and 6 never matter?",
        ),
    ),
    Item(
        "4.C",
        "Steps on the input",
        "Start at x_A = (1, 0, 1, 0, 0, 0) or at x_B = (0, 1, 0, 1, 0, 0) and take gradient steps on the input. Choose "
        "iterations and rate, and find the step at which the class flips.",
        (Link("linear_models", TOY, "step"),),
        (
            "How far is the flipped point from x_A, and how far from x_B? Which of the two does it resemble?",
            "Why does a larger rate not always flip earlier when the output itself is followed?",
        ),
    ),
    Item(
        "4.D",
        "Gradient steps on an image",
        "Take a two-layer network of about 95 % accuracy. Choose an image's class and a target class, and follow the "
        "gradient on the pixels step by step: original, changed image, difference and probabilities. Which class does "
        "the result look like, by the nearest class mean and the nearest training image?",
        (Link("playground", {"tab": "Gradient steps on the input"}, "target"),),
        (
            "Does the changed image look like the target class to you? To the nearest class mean?",
            "Which of the hundred pairs of classes are hard?",
        ),
        (Need("a dense network for digits", specs.TrainSpec, DENSE),),
        (
            Figure(
                "test accuracy of a dense network, MNIST",
                published.ABOUT4,
                "exercise set 4, MNIST: about 95 %",
                lambda evidence: test_accuracy(evidence.first(specs.TrainSpec, which.both(DENSE, which.mnist))),
                key=True,
            ),
        ),
    ),
    Item(
        "4.E",
        "Can it be relied on?",
        "Write down what follows: a network that is right on 95 % of its test images changes its mind after a step "
        "that you can hardly see. Where would that matter, and what would you measure before you use such a network?",
        (Link("linear_models", TOY, "step"),),
        (
            "Name a use where this is harmless, and one where it is dangerous.",
            "What does a test accuracy say, and what does it not say?",
        ),
    ),
)

SET = ExerciseSet(
    4,
    "Gradient on the input",
    "The gradient that trains the weights can change the input instead: a few steps turn one class into another.",
    ITEMS,
)
