"""Exercise set 5: the inner maximisation, accuracy against ε, adversarial training, and what it costs."""

from __future__ import annotations

from core import specs
from core.exercises import published, which
from core.exercises.evidence import Evidence, Found, Reading, of_row, test_accuracy
from core.exercises.items import ExerciseSet, Figure, Item, Link, Need, Setting, dataset, model_id
from core.exercises.published import CURVES5, EPS5, SET5, TITLES5

FGSM = which.both(which.attack("fgsm"), which.covers(EPS5))
KINDS: dict[str, which.Test] = {
    "linear": which.both(which.digits, which.network("linear"), which.standard),
    "cnn": which.both(which.digits, which.network("cnn"), which.standard),
    "cnn-fgsm": which.both(which.digits, which.network("cnn"), which.recipe("fgsm", "fgsm_mix")),
    "linear-fgsm": which.both(which.digits, which.network("linear"), which.recipe("fgsm", "fgsm_mix")),
}
"""The networks of the set's chart, by the names of the published curves."""


def curve(evidence: Evidence, kind: str, *fits: which.Test) -> Found | None:
    """The sweep under FGSM of one of `KINDS` that counts; None where there is none."""
    return evidence.first(specs.SweepSpec, which.both(FGSM, KINDS[kind], *fits))


def _at(kind: str, eps: float) -> Figure:
    def read(evidence: Evidence) -> Reading | None:
        return of_row(curve(evidence, kind, which.mnist), eps)

    place = EPS5.index(eps)
    value = CURVES5[kind][place] if kind in CURVES5 else None
    source = SET5 if kind in CURVES5 else ""
    return Figure(f"{TITLES5[kind]}, accuracy at: ε {eps:g}", value, source, read, key=kind in CURVES5 and eps != 0.1)


def _trained(*names: str) -> which.Test:
    return which.both(which.digits, which.recipe(*names))


def _literal(found: Found) -> bool:
    return getattr(getattr(found.model, "recipe", None), "start", "") == "image"


def _models(*names: str) -> list[str]:
    """Ids of bundled models of MNIST. Without MNIST, the page shows them the embedded digits in its frame."""
    return [model_id(name) for name in names]


PLANE = {"part": "In the plane, with the SVM"}
IMAGES = {"part": "Images, exactly"}
CURVES: dict[str, Setting] = {"attacks": ["fgsm"], "tab": "Accuracy"}

ITEMS = (
    Item(
        "5.1a",
        "The worst change inside an ℓ2 ball",
        "For a linear model, derive the change of norm at most ε that raises the loss most. Check the formula in the "
        "plane, where the ball and the maximiser are drawn.",
        (Link("linear_models", {**PLANE, "norm": "l2"}, "maximiser"),),
        ("Why does the answer not depend on the image?", "What is left of the min-max problem once this is put in?"),
    ),
    Item(
        "5.1b",
        "Hinge loss and the SVM",
        "Put the formula into the hinge loss and compare with the soft-margin SVM: both objectives, the gap between "
        "them, and the path that joins the regularisation λ to the budget ε.",
        (Link("linear_models", {**PLANE, "loss": "hinge"}, "SVM"),),
        ("When do the two problems have the same solution?", "What is the margin in this picture?"),
    ),
    Item(
        "5.1c",
        "The same in ℓ∞, and FGSM",
        "Repeat it for ℓ∞: the worst change is ε · sign of the gradient. For a linear model FGSM is therefore exact: "
        "the cosine between the two is 1.",
        (
            Link("linear_models", {**PLANE, "norm": "linf"}, "Cosine of the maximiser", "In the plane"),
            Link("linear_models", IMAGES, "FGSM", "On images"),
        ),
        ("For which models is FGSM the worst change, and why not for a CNN?",),
    ),
    Item(
        "5.2",
        "Accuracy against ε",
        "Attack logistic regression and a CNN by FGSM at ε = 0, 0.05, …, 0.3 and look at five examples of each ε. Then "
        "train the CNN with FGSM at ε = 0.25 and put the three curves into one chart.",
        (
            Link(
                "epsilon_sweep",
                {**CURVES, "models": _models("mnist-linear", "mnist-cnn", "mnist-cnn-fgsm")},
                "ccuracy",
                "The curves",
            ),
            Link(
                "epsilon_sweep",
                {**CURVES, "models": _models("mnist-cnn"), "tab": "Images"},
                "ε",
                "Examples",
            ),
            Link(
                "train",
                {"dataset": dataset(), "network": "cnn", "preset": "set5", "recipe": "fgsm", "fgsm_eps": "0.25"},
                "FGSM",
                "Train",
            ),
        ),
        (
            "At which ε does each model fall to chance?",
            "Between 0.25 and 0.3 the defence was never trained. Does it hold there?",
            "Is the CNN's slower fall a sign of robustness, or of a weak attack? Try PGD.",
        ),
        (
            Need("a sweep of logistic regression under FGSM", specs.SweepSpec, which.both(FGSM, KINDS["linear"])),
            Need("a sweep of the CNN under FGSM", specs.SweepSpec, which.both(FGSM, KINDS["cnn"])),
            Need("a sweep of the FGSM-trained CNN under FGSM", specs.SweepSpec, which.both(FGSM, KINDS["cnn-fgsm"])),
        ),
        tuple(_at(kind, eps) for kind in CURVES5 for eps in (0.0, 0.1, 0.25)),
    ),
    Item(
        "5.2+",
        "Adversarial images only",
        "Train the CNN on adversarial images alone, one FGSM step from the image itself, with dropout active "
        "while they are made, as the public lab does. Watch "
        "clean accuracy and accuracy under attack by epoch.",
        (
            Link(
                "train",
                {
                    "dataset": dataset(),
                    "network": "cnn",
                    "preset": "set5",
                    "recipe": "fgsm",
                    "fgsm_eps": "0.25",
                    "fgsm_start": "image",
                    "fgsm_mode": "train",
                },
                "FGSM",
                "Train it",
            ),
            Link("exercises", {"tab": "What it costs"}, "epoch", "Accuracy by epoch"),
        ),
        (
            "Does accuracy under FGSM rise while accuracy under PGD falls? What has the network learnt then?",
            "Compare with half clean images in every batch.",
        ),
        (
            Need(
                "a network trained on FGSM examples alone, from the image itself",
                specs.TrainSpec,
                which.both(_trained("fgsm"), _literal),
            ),
        ),
        key="5.2+ only",
    ),
    Item(
        "5.2+",
        "The same defence on the linear model",
        "Train logistic regression with FGSM at ε = 0.25 as well and add its curve as the fourth. For a linear model "
        "the attack is exact, so this curve is the truth.",
        (
            Link(
                "train",
                {"dataset": dataset(), "network": "linear", "preset": "set5", "recipe": "fgsm", "fgsm_eps": "0.25"},
                "Linear",
                "Train it",
            ),
            Link(
                "epsilon_sweep",
                {**CURVES, "models": _models("mnist-linear", "mnist-cnn", "mnist-cnn-fgsm")},
                "ccuracy",
                "The curves",
            ),
        ),
        ("Why does the defence help the linear model so little, and what does it do to its weights?",),
        (
            Need(
                "a sweep of logistic regression that was trained with FGSM",
                specs.SweepSpec,
                which.both(FGSM, KINDS["linear-fgsm"]),
            ),
        ),
        tuple(_at("linear-fgsm", eps) for eps in (0.0, 0.1, 0.25)),
        key="5.2+ linear",
    ),
    Item(
        "5.2+",
        "How many would you get right?",
        "Look at adversarial images of every ε, one by one, and say which digit you see. Then compare your accuracy "
        "with the models' on the same images.",
        (Link("exercises", {"tab": "Quiz"}, "Which digit", "Start the quiz"),),
        (
            "At which ε do you begin to fail? Should a model be blamed beyond that ε?",
            "Which errors do you share with the model?",
        ),
        key="5.2+ quiz",
        quiz=True,
    ),
    Item(
        "5.2+",
        "What robustness costs",
        "Compare the clean accuracy of the defended networks with that of their undefended twins.",
        (
            Link("exercises", {"tab": "What it costs"}, "lean accuracy", "Clean accuracy"),
            Link("model_comparison", {"tab": "Ranking"}, "lean", "Ranking"),
        ),
        (
            "Which defence costs most, and does it buy more?",
            "Would you pay that price? For what use?",
        ),
        (
            Need("a network trained on clean images", specs.TrainSpec, which.both(which.digits, which.standard)),
            Need("a network trained on adversarial images", specs.TrainSpec, _trained(*which.ADVERSARIAL), show=3),
        ),
        (
            Figure(
                "error under FGSM at ε 0.25: softmax regression",
                published.SOFTMAX["error"],
                published.FGSM,
                lambda evidence: _error(evidence, "linear"),
            ),
            Figure(
                "error under FGSM at ε 0.25: a maxout network, here the CNN",
                published.MAXOUT["error"],
                published.FGSM,
                lambda evidence: _error(evidence, "cnn"),
            ),
            Figure(
                "error under FGSM at ε 0.25: after adversarial training",
                published.MAXOUT_ADVERSARIAL["error"],
                published.FGSM,
                lambda evidence: _error(evidence, "cnn-fgsm"),
            ),
            Figure(
                "clean accuracy, trained with FGSM",
                CURVES5["cnn-fgsm"][0],
                SET5,
                lambda evidence: test_accuracy(
                    evidence.first(specs.TrainSpec, which.both(KINDS["cnn-fgsm"], which.mnist))
                ),
            ),
        ),
        key="5.2+ cost",
    ),
)


def _error(evidence: Evidence, kind: str) -> Reading | None:
    return of_row(curve(evidence, kind, which.mnist), published.EPS_FGSM, "error")


SET = ExerciseSet(
    5,
    "Adversarial training",
    "The worst change has a formula for linear models; for networks one trains on attacks, and pays in clean accuracy.",
    ITEMS,
)
