"""Exercise set 1: adversarial examples drawn by a generator, on MNIST and CIFAR-10."""

from __future__ import annotations

from collections.abc import Callable

from core import specs
from core.exercises import published, which
from core.exercises.evidence import Evidence, Reading, of_measurement, of_metric, test_accuracy
from core.exercises.items import ExerciseSet, Figure, Item, Link, Need, dataset, model_id

DRAWN = which.attack("generator", "generator_strong")
GRID = Need(
    "a generator attack on five digits towards every class",
    specs.AttackSpec,
    which.both(DRAWN, which.every_class, which.samples(5), which.digits),
)


def _accuracy(fits: which.Test) -> Figure:
    return Figure(
        "test accuracy, MNIST",
        published.MNIST1,
        published.SET1,
        lambda evidence: test_accuracy(evidence.first(specs.TrainSpec, which.both(fits, which.mnist))),
        key=True,
    )


def _success(fits: which.Test, column: str) -> Callable[[Evidence], Reading | None]:
    ends = ("low", "high") if column == "success_rate" else None
    return lambda evidence: of_metric(
        evidence.first(specs.AttackSpec, which.both(DRAWN, which.every_class, fits)), column, interval=ends
    )


def _needed(recipe: str) -> Figure:
    fits = which.both(which.recipe(recipe), which.mnist, which.network("strided"))
    title = "undefended" if recipe == "standard" else "defended"
    return Figure(
        f"median ℓ2 distance that the strong attack needs, {title}",
        None,
        "",
        lambda evidence: of_measurement(evidence.first(specs.TrainSpec, fits), "generator_strong", "median_l2"),
        unit="",
    )


def _rounds(evidence: Evidence) -> Reading | None:
    found = evidence.first(specs.AttackSpec, which.both(which.attack("generator"), which.digits))
    return None if found is None else Reading(float(found.attack.rounds), None, None, None, found)


ITEMS = (
    Item(
        "1A",
        "Train two classifiers",
        "Train a dense network and a convolutional network on handwritten digits. Both normalise the pixels in their "
        "first layer, so every attack works on pixels in [0, 1]. Compare the curves and the confusion matrices.",
        (
            Link("train", {"dataset": dataset(), "network": "mlp"}, "Dense network", "Train the dense network"),
            Link("train", {"dataset": dataset(), "network": "lenet"}, "LeNet", "Train LeNet"),
        ),
        (
            "Which digits are confused with each other, and why those?",
            "How many parameters has each network, and what does the larger one gain?",
        ),
        (
            Need(
                "a dense network for digits",
                specs.TrainSpec,
                which.both(which.digits, which.network("mlp"), which.standard),
            ),
            Need(
                "a convolutional network for digits",
                specs.TrainSpec,
                which.both(which.digits, which.convolutional, which.standard),
            ),
        ),
        (_accuracy(which.both(which.convolutional, which.standard)),),
    ),
    Item(
        "1B1",
        "Choose five digits",
        "Choose your five favourite digits and one test image of each. Take images that the network classifies "
        "correctly and confidently: the slider sets the least confidence.",
        (Link("generator_attack", {"tab": "Grid"}, "classes"),),
        ("Why should the starting images be classified correctly, and confidently?",),
        (
            Need(
                "a generator attack on five images",
                specs.AttackSpec,
                which.both(DRAWN, which.samples(5), which.digits),
            ),
        ),
    ),
    Item(
        "1B2",
        "A generator with one input",
        "Build a network whose only input is the constant 1. Its output is an image that depends on its weights alone: "
        "x = f(w). Train it with Adam and the squared error until it draws one of your samples.",
        (Link("generator_attack", {"tab": "Curves", "mode": "generator"}, "generator"),),
        (
            "Why is a network with a constant input enough to draw one image?",
            "What does the squashing at its end do to the gradient near black and white?",
        ),
        (
            Need(
                "a generator attack in the literal mode",
                specs.AttackSpec,
                which.both(which.attack("generator"), which.digits),
            ),
        ),
    ),
    Item(
        "1B3",
        "The composite model C∘f",
        "Put the trained classifier C behind the generator and freeze it. Only the weights of the generator learn, "
        "from the squared error between C's output and the one-hot vector of the target class. Compare with "
        "cross-entropy and the margin.",
        (Link("generator_attack", {"tab": "Curves", "mode": "generator", "generator_loss": "mse"}, "loss"),),
        (
            "What must stay frozen in C besides its weights?",
            "What does the squared error to a one-hot vector ask for that the cross-entropy does not?",
        ),
        (
            Need(
                "a generator attack through the frozen classifier",
                specs.AttackSpec,
                which.both(which.attack("generator"), which.digits),
            ),
        ),
    ),
    Item(
        "1B4",
        "Two steps in turns",
        "For each of your five samples and for every class, train a generator in turns: a step towards the sample, "
        "then a step towards the class through C. Watch distance and confidence by round.",
        (Link("generator_attack", {"tab": "Curves", "target": "all"}, "round"),),
        (
            "Which of the two steps wins, and how does the learning rate change that?",
            "Does one shared state of Adam help or hurt?",
        ),
        (GRID,),
        (
            Figure("rounds", published.ROUNDS1, published.SET1, _rounds, unit="rounds", key=True),
            Figure("adversarial examples that reach their class", None, "", _success(which.digits, "success_rate")),
        ),
    ),
    Item(
        "1B5",
        "The grid",
        "Show the five samples and their adversarial examples for all ten classes on one grid, with differences and "
        "distances. The true class is drawn too, but it does not count as a success.",
        (
            Link("generator_attack", {"tab": "Grid", "target": "all"}, "grid"),
            Link("generator_attack", {"tab": "Success by class"}, "uccess", "Success by class"),
        ),
        (
            "Would you have been fooled? Where does the change hide?",
            "Which pairs of classes need the largest change?",
        ),
        (GRID,),
        (
            Figure("median ℓ2 distance", None, "", _success(which.digits, "median_l2"), unit="", key=True),
            Figure("median ℓ∞ distance", None, "", _success(which.digits, "median_linf"), unit=""),
        ),
    ),
    Item(
        "1C",
        "The same in colour",
        "Repeat it on CIFAR-10 for one image and all ten classes. The images are 3 × 32 × 32 now, and the classes have "
        "names.",
        (
            Link("generator_attack", {"model": model_id("cifar10-standard"), "tab": "Grid"}, "airplane", "Attack it"),
            Link("train", {"dataset": "cifar10", "network": "resnet_small"}, "CIFAR-10", "Train on CIFAR-10"),
        ),
        ("Is the change easier or harder to see than on digits? Compare the distances.",),
        (
            Need("a model for CIFAR-10", specs.TrainSpec, which.both(which.colour, which.standard)),
            Need(
                "a generator attack on it towards every class",
                specs.AttackSpec,
                which.both(DRAWN, which.every_class, which.colour),
            ),
        ),
        (
            Figure(
                "test accuracy, CIFAR-10",
                published.CIFAR1,
                published.SET1,
                lambda evidence: test_accuracy(
                    evidence.first(specs.TrainSpec, which.both(which.colour, which.standard))
                ),
                key=True,
            ),
        ),
    ),
    Item(
        "1D",
        "A model that resists this attack",
        "Train a network on examples of the generator attack itself, then run the attack against it. Report success "
        "against a cap on the distortion, because this attack has no budget and always succeeds in the end.",
        (
            Link("generator_attack", {"tab": "Robust to this attack"}, "robust"),
            Link("train", {"dataset": "mnist", "network": "strided", "recipe": "generator"}, "Generator", "Train one"),
        ),
        (
            "What does the defended network's adversarial example of an 8 as a 3 look like now?",
            "Is a network that resists this attack robust against others?",
            "What did the defence cost in clean accuracy?",
        ),
        (
            Need("a model trained against the generator", specs.TrainSpec, which.recipe("generator"), show=2),
            Need(
                "a generator attack on that model",
                specs.AttackSpec,
                which.both(DRAWN, which.recipe("generator")),
            ),
        ),
        (
            Figure(
                "clean accuracy of the defended model, MNIST",
                None,
                "",
                lambda evidence: test_accuracy(
                    evidence.first(specs.TrainSpec, which.both(which.recipe("generator"), which.mnist))
                ),
            ),
            *(_needed(recipe) for recipe in ("standard", "generator")),
        ),
    ),
)


SET = ExerciseSet(
    1,
    "Generators",
    "A network that draws an image learns to draw one that a classifier takes for another class.",
    ITEMS,
)
