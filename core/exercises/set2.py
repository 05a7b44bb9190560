"""Exercise set 2: what the Jacobian of a single-output network tells, on 4 against 9."""

from __future__ import annotations

from core import specs
from core.exercises import published, which
from core.exercises.evidence import of_metric, test_accuracy
from core.exercises.items import ExerciseSet, Figure, Item, Link, Need, dataset

FEW = which.attack("jacobian_sparse", "exhaustive", "frontier")

ITEMS = (
    Item(
        "2.1",
        "A network N that tells 4 from 9",
        "Train a network with one output N(x), without a sigmoid, on the digits 4 and 9. The class follows from a "
        "threshold τ: move it, and watch the histogram of scores and the two kinds of error.",
        (
            Link(
                "train",
                {"dataset": dataset(), "{data}_classes": [4, 9], "network": "mlp", "scalar": True},
                "Single-output network",
                "Train N",
            ),
            Link("sparse_attack", {"tab": "One image"}, "Threshold", "Scores and threshold"),
        ),
        ("Which τ would you choose if a missed 9 costs more than a missed 4?",),
        (Need("a single-output network", specs.TrainSpec, which.scalar),),
        (
            Figure(
                "test accuracy at τ = 0",
                None,
                "",
                lambda evidence: test_accuracy(evidence.first(specs.TrainSpec, which.scalar)),
            ),
        ),
    ),
    Item(
        "2.2",
        "A correctly classified 4",
        "Choose a 4 of the test set that N classifies correctly. Its score and its margin to τ say how far it is from "
        "being classified as a 9.",
        (Link("sparse_attack", {"tab": "One image", "order": "smallest"}, "N(x)"),),
        ("Order the images by margin: do the images with a small margin look like a 9 to you?",),
    ),
    Item(
        "2.3",
        "The Jacobian ∂N/∂x",
        "Look at the derivative of N with respect to every pixel, as a signed picture. A red pixel raises N when it "
        "becomes brighter, a blue one lowers it.",
        (Link("sparse_attack", {"tab": "One image"}, "Jacobian"),),
        ("Where are the strongest pixels: on the stroke, beside it, or where the 9 would be closed?",),
    ),
    Item(
        "2.4",
        "A sparse change",
        "Change as few pixels as possible so that N says 9: pixel by pixel along the Jacobian, then with pruning, then "
        "by trying every change of one or two pixels. How sparse can it be, and can one tell the result from an "
        "original?",
        (
            Link("sparse_attack", {"tab": "One image"}, "pixel", "Change one image"),
            Link("sparse_attack", {"tab": "How sparse can it be?"}, "pixels", "How sparse?"),
            Link("sparse_attack", {"tab": "Quiz"}, "Which", "Can you tell?"),
        ),
        (
            "Why do a few pixels suffice? Compare the estimate from the Jacobian with what was found.",
            "Which pixels does the attack choose first?",
        ),
        (
            Need(
                "a sparse attack on the single-output network", specs.AttackSpec, which.both(FEW, which.scalar), show=2
            ),
        ),
        (
            Figure(
                "images fooled by a sparse change",
                published.JSMA_SUCCESS,
                f"{published.JSMA}: ten classes, another network",
                lambda evidence: of_metric(
                    evidence.first(specs.AttackSpec, which.both(which.attack("jacobian_sparse"), which.scalar)),
                    "success_rate",
                    interval=("low", "high"),
                ),
                key=True,
            ),
            Figure(
                "pixels changed, median here, mean there",
                published.JSMA_PIXELS,
                f"{published.JSMA}: 4.02 % of 784 features",
                lambda evidence: of_metric(
                    evidence.first(specs.AttackSpec, which.both(which.attack("jacobian_sparse"), which.scalar)),
                    "median_pixels",
                ),
                unit="pixels",
                key=True,
            ),
        ),
    ),
    Item(
        "2.5",
        "All pixels a little",
        "Change every pixel by the same small amount, in the direction of the Jacobian's sign. If N were linear, the "
        "smallest such change is ε* = |τ − N(x)| / ‖J‖₁. Compare the predicted score with the real one.",
        (Link("sparse_attack", {"tab": "All pixels a little"}, "ε*"),),
        (
            "How far is N from linear between the image and its adversarial example?",
            "What does the limit of the pixel range [0, 1] change?",
            "Which of the two changes, few pixels or all, is easier to see?",
        ),
        (
            Need(
                "the dense formula on the single-output network",
                specs.AttackSpec,
                which.both(which.attack("jacobian_dense"), which.scalar),
            ),
        ),
        (
            Figure(
                "images fooled at 1 · ε*, or at your factor",
                None,
                "",
                lambda evidence: of_metric(
                    evidence.first(specs.AttackSpec, which.both(which.attack("jacobian_dense"), which.scalar)),
                    "success_rate",
                    interval=("low", "high"),
                ),
            ),
            Figure(
                "median ε*",
                None,
                "",
                lambda evidence: of_metric(
                    evidence.first(specs.AttackSpec, which.both(which.attack("jacobian_dense"), which.scalar)),
                    "median_linf",
                ),
                unit="",
                key=True,
            ),
        ),
    ),
    Item(
        "2.6",
        "One change for a whole set",
        "Find a single perturbation that fools N on every image of a set S, by gradient steps and by a linear "
        "programme. Where there is none, a lower bound says so. Then measure it on images that it never saw.",
        (
            Link("universal", {"tab": "Perturbation"}, "perturbation"),
            Link("universal", {"tab": "Held-out images"}, "held", "Held-out images"),
            Link("universal", {"tab": "Solver and lower bound"}, "bound", "Solver and bound"),
        ),
        (
            "How does the smallest ε grow with the number of images in S?",
            "Why can one change fool images that it was not made from?",
        ),
        (Need("a universal perturbation", specs.UniversalSpec),),
        (
            Figure(
                "held-out images that it fools",
                None,
                "",
                lambda evidence: of_metric(
                    evidence.first(specs.UniversalSpec), "fooling_rate", interval=("low", "high")
                ),
            ),
            Figure(
                "held-out images that noise of the same size fools",
                None,
                "",
                lambda evidence: of_metric(evidence.first(specs.UniversalSpec), "noise_rate"),
            ),
        ),
    ),
    Item(
        "2.7",
        "The glasses",
        "Allow changes only inside a drawn mask, such as glasses, and make one pattern that works for many images, "
        "shifted and brighter or darker. Why does so small a part of the image suffice?",
        (
            Link("masked_attack", {"tab": "One pattern for many"}, "pattern"),
            Link("masked_attack", {"tab": "One image"}, "mask", "One image"),
            Link("masked_attack", {"tab": "Why it works"}, "mask", "Why it works"),
        ),
        (
            "What would have to hold for a printed pattern to work in a photograph?",
            "How does the success depend on where the mask lies?",
        ),
        (
            Need(
                "a pattern on glasses, or an attack inside a mask",
                specs.Spec,
                lambda found: isinstance(found.spec, specs.PatternSpec) or which.masked(found),
            ),
        ),
        (
            Figure(
                "held-out images that the pattern fools",
                None,
                "",
                lambda evidence: of_metric(evidence.first(specs.PatternSpec), "fooling_rate", interval=("low", "high")),
                key=True,
            ),
        ),
    ),
)

SET = ExerciseSet(
    2,
    "Jacobian",
    "The derivative of a network's output with respect to its input says where an image is weak.",
    ITEMS,
)
