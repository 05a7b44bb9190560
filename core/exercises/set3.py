"""Exercise set 3: FGSM on LeNet, the five metrics, and training on adversarial examples."""

from __future__ import annotations

from core import specs
from core.exercises import which
from core.exercises.evidence import Evidence, Reading, of_row, test_accuracy
from core.exercises.items import ExerciseSet, Figure, Item, Link, Need, bundled_model, dataset
from core.exercises.published import EPS3, SET3, TABLE3

LENET = which.both(which.digits, which.network("lenet"))
STANDARD = which.both(LENET, which.standard)
DEFENDED = which.both(LENET, which.recipe("fgsm_mix", "fgsm"))
SWEPT = which.both(which.attack("fgsm"), which.at(EPS3))
AT = f"ε {EPS3:g} (64/255)"
MODELS = [bundled_model("mnist-lenet", "standard"), bundled_model("mnist-lenet-fgsm-mix", "fgsm-mix")]
"""The two bundled models that the set compares."""
METRICS = {
    "accuracy": "accuracy",
    "confidence": "mean confidence",
    "confidence_correct": "confidence when correct",
    "confidence_wrong": "confidence when wrong",
}


def swept(evidence: Evidence, fits: which.Test) -> Reading | None:
    """The accuracy under FGSM at set 3's ε, on MNIST."""
    return of_row(evidence.first(specs.SweepSpec, which.both(SWEPT, fits, which.mnist)), EPS3)


def _figure(training: str, images: str, metric: str) -> Figure:
    fits = which.both(SWEPT, STANDARD if training == "standard" else DEFENDED, which.mnist)
    eps = 0.0 if images == "clean" else EPS3
    where = "clean" if images == "clean" else f"FGSM at {AT}"
    return Figure(
        f"{training} training, {where}: {METRICS[metric]}",
        TABLE3[training, images][metric],
        SET3,
        lambda evidence: of_row(evidence.first(specs.SweepSpec, fits), eps, metric),
        key=metric == "accuracy",
    )


ITEMS = (
    Item(
        "3.1",
        "LeNet",
        "Build LeNet as the exercise gives it: convolutions of 20, 50 and 500 channels, max-pooling, one ReLU, ten "
        "outputs, and the mean image subtracted first. The table of its layers must end at 431,080 parameters.",
        (Link("train", {"dataset": dataset(), "network": "lenet", "tab": "Network"}, "431,080"),),
        ("Where do most of the parameters sit?", "How large a part of the image does one unit of each layer see?"),
        (Need("a trained LeNet", specs.TrainSpec, STANDARD),),
    ),
    Item(
        "3.2",
        "Standard training",
        "Train it on clean images: with the exercise's settings (SGD 0.001, momentum 0.9, weight decay 0.0005, batches "
        "of 100, 30 epochs), and with the faster recipe of this project. Compare accuracy and time.",
        (
            Link("train", {"dataset": dataset(), "network": "lenet", "preset": "set3"}, "Exercise set 3", "Literal"),
            Link("train", {"dataset": dataset(), "network": "lenet", "preset": "fast"}, "Fast", "Fast recipe"),
        ),
        ("What does the fast recipe do differently, and why does it need fewer epochs?",),
        (Need("LeNet, trained on clean images", specs.TrainSpec, STANDARD),),
        (
            Figure(
                "clean test accuracy, MNIST",
                TABLE3["standard", "clean"]["accuracy"],
                SET3,
                lambda evidence: test_accuracy(evidence.first(specs.TrainSpec, which.both(STANDARD, which.mnist))),
            ),
        ),
    ),
    Item(
        "3.3",
        "FGSM",
        "Attack LeNet by the fast gradient sign method: x' = x + ε · sign ∇ₓJ. Move ε, once with the pixels clipped to "
        "[0, 1] and once without, which the exercise's literal formula leaves open.",
        (Link("epsilon_sweep", {"models": MODELS[:1], "attacks": ["fgsm"], "tab": "Accuracy"}, "ε"),),
        (
            "At which ε would you begin to misread the images yourself?",
            "Why does a single step along the sign of the gradient go so far?",
        ),
        (Need("a sweep of LeNet under FGSM", specs.SweepSpec, which.both(which.attack("fgsm"), STANDARD)),),
    ),
    Item(
        "3.4",
        "The table of five metrics",
        "Fill in the exercise's table for clean and adversarial images: correctly predicted, error, mean confidence, "
        "confidence when correct, confidence when wrong. The published table can be checked for numbers that cannot be "
        "right.",
        (
            Link("model_comparison", {"models": MODELS[:1], "tab": "Five metrics"}, "confidence"),
            Link("model_comparison", {"tab": "Check a published table"}, "table", "Check the table"),
        ),
        (
            "The attacked network is wrong and sure of it. What would you want it to say instead?",
            "One number of the published table is a misprint. Which, and how do you know?",
        ),
        (Need(f"a sweep of LeNet under FGSM with {AT}", specs.SweepSpec, which.both(SWEPT, STANDARD)),),
        (
            *(_figure("standard", "clean", metric) for metric in METRICS),
            *(_figure("standard", "FGSM", metric) for metric in METRICS),
        ),
    ),
    Item(
        "3.5",
        "Adversarial training",
        "Train LeNet on a mix: half of each batch are clean images, half their FGSM examples, made anew as the network "
        "changes. Remake them for every batch, or once an epoch as the exercise says.",
        (
            Link(
                "train",
                {"dataset": dataset(), "network": "lenet", "recipe": "fgsm_mix", "fgsm_mix_eps": f"{EPS3:g}"},
                "FGSM mix",
            ),
        ),
        (
            "Why must the examples be remade while the network learns?",
            "Watch accuracy under PGD beside accuracy under FGSM by epoch. What happens, and what does it tell you?",
        ),
        (Need("LeNet, trained on adversarial examples", specs.TrainSpec, DEFENDED),),
        (_figure("adversarial", "clean", "accuracy"),),
    ),
    Item(
        "3.6",
        "Compare",
        "Put the standard and the adversarially trained network side by side: the five metrics, the gap between "
        "confidence and accuracy, and both on the same images.",
        (
            Link("model_comparison", {"models": MODELS, "tab": "Side by side"}, "ide by side", "Side by side"),
            Link("model_comparison", {"models": MODELS, "tab": "Ranking"}, "lean", "Ranking"),
        ),
        (
            "Is the second network robust, or only against this attack? Look at PGD and at the reliability checks.",
            "What happened to the confidence when wrong?",
        ),
        (
            Need(f"a sweep of LeNet under FGSM with {AT}", specs.SweepSpec, which.both(SWEPT, STANDARD)),
            Need(
                f"a sweep of the adversarially trained LeNet with {AT}",
                specs.SweepSpec,
                which.both(SWEPT, DEFENDED),
            ),
        ),
        tuple(_figure("adversarial", "FGSM", metric) for metric in METRICS),
    ),
)

SET = ExerciseSet(
    3,
    "FGSM and LeNet",
    "One step along the sign of the gradient fools LeNet; training on such images brings its accuracy back.",
    ITEMS,
)
