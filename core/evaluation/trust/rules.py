"""The reliability checks of a robust accuracy: what each one asks, its limits, and what to do. Imports no torch.

Sources: Athalye, Carlini, Wagner 2018 (arXiv 1802.00420, section 3.1) and Carlini et al. 2019 (arXiv 1902.06705) name
the signs of gradients that mislead; Andriushchenko and Flammarion 2020 (arXiv 2007.02617) the cosine. The limits are
the project's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "warn", "fail", "skipped"]
Unit = Literal["share", "points", "number"]
MIN_IMAGES = 3
"""A share of images counts only from so many images on: one or two of a hundred are chance. Of honest models, every
tenth evaluation meets one that new starts or random search fool, and the attacks fool 0.2 % on average."""


@dataclass(frozen=True)
class Rule:
    """One check.

    Attributes:
        title: what is true of a reliable estimate, in a few words.
        sign: what was found when it is not true, in a few words.
        advice: what to do then.
        warn: the measured value beyond which it warns; None: it does not.
        fail: the one beyond which it fails; None: it does not.
        unit: of the measured value: a share of the images, points of accuracy, or a plain number.
        below: whether the values below the limits are the bad ones.
        exact: whether a single image counts.
    """

    title: str
    sign: str
    advice: str
    warn: float | None = None
    fail: float | None = None
    unit: Unit = "share"
    below: bool = False
    exact: bool = False

    def grade(self, measured: float, n: int) -> Verdict:
        """The verdict on a value that was measured on n images."""
        few = self.unit != "number" and not self.exact and round(measured * n) < MIN_IMAGES
        if few:
            return "pass"
        for limit, verdict in ((self.fail, "fail"), (self.warn, "warn")):
            if limit is not None and (measured < limit if self.below else measured > limit):
                return "fail" if verdict == "fail" else "warn"
        return "pass"

    def limits(self) -> str:
        """The limits in words, such as `warns above 0.5 %, fails above 2 %, from 3 images on`."""
        side = "below" if self.below else "above"
        parts = [
            f"{word} {side} {self.say(limit)}"
            for word, limit in (("warns", self.warn), ("fails", self.fail))
            if limit is not None
        ]
        if self.unit != "number" and not self.exact:
            parts.append(f"from {MIN_IMAGES} images on")
        return ", ".join(parts)

    def say(self, value: float) -> str:
        """A measured value or a limit with its unit."""
        if self.unit == "number":
            return f"{value:.3g}"
        return f"{100 * value:.3g} {'%' if self.unit == 'share' else 'points'}"


STAND_IN = "Replace the step that stops the gradient by a smooth one for attacks, and add attacks without gradients."
RULES: dict[str, Rule] = {
    "probabilities": Rule(
        "The model gives logits",
        "outputs are probabilities",
        "Remove the softmax: it saturates, and attacks need logits.",
        fail=0.5,
    ),
    "randomness": Rule(
        "The same image gives the same logits",
        "outputs are random",
        "Average the logits, or the gradients, over many draws. One draw measures neither accuracy nor robustness.",
        fail=1e-5,
        unit="number",
    ),
    "neighbours": Rule(
        "An image's logits do not depend on its batch",
        "outputs depend on the batch",
        "Put the model in eval mode, with running statistics. Only an evaluation with one image per batch counts.",
        fail=1e-3,
        unit="number",
    ),
    "saturation": Rule(
        "The cross-entropy has a gradient",
        "logits are saturated",
        "Divide the logits by a constant. The attacks here follow the log-odds, whose gradient does not vanish; tools "
        "that follow the cross-entropy report too high a robust accuracy.",
        warn=30,
        fail=88,
        unit="number",
    ),
    "rejects": Rule(
        "No hidden way to reject an image",
        "changed images are rejected",
        "Count rejected images explicitly, and attack the detector and the classifier together.",
        warn=0.01,
        fail=0.1,
    ),
    "continuity": Rule(
        "Logits change without jumps",
        "logits jump",
        f"{STAND_IN} A gradient says nothing about the other side of a jump.",
        warn=0.01,
        fail=0.1,
    ),
    "gradients": Rule(
        "Gradients are neither zero nor NaN",
        "gradients are zero or NaN",
        STAND_IN,
        fail=0.01,
    ),
    "slope": Rule(
        "Gradients predict the effect of a small step",
        "gradients do not predict small steps",
        "Compare gradients with finite differences, and look for a layer with its own backward pass, or for one that "
        f"leaves a part of the gradient out (`detach`). {STAND_IN}",
        warn=0.05,
        fail=0.2,
        unit="number",
    ),
    "cosine": Rule(
        "Gradients at an image and at a noisy copy agree",
        "gradients change with noise",
        "Use more restarts. If the model was trained with single steps, suspect catastrophic overfitting.",
        warn=0.2,
        unit="number",
        below=True,
    ),
    "single_step": Rule(
        "Many steps beat one",
        "one step beats many",
        "Try other step sizes, more steps and another loss. Gradients may be masked.",
        fail=0.005,
        unit="points",
    ),
    "losses": Rule(
        "Two losses agree, or the lower accuracy counts",
        "two losses disagree",
        "Report the lower accuracy, and attack with both.",
        warn=0.05,
        unit="points",
    ),
    "converged": Rule(
        "More steps fool no more images",
        "more steps fool more images",
        "Attack with more steps until the robust accuracy no longer falls.",
        warn=0.005,
        fail=0.01,
        unit="points",
    ),
    "restarts": Rule(
        "More restarts fool no more images",
        "more restarts fool more images",
        "Attack with more restarts until the robust accuracy no longer falls.",
        warn=0.01,
        fail=0.02,
        unit="points",
    ),
    "black_box": Rule(
        "Gradients fool what random search fools",
        "random search fools what gradients miss",
        "Spend more queries on the images that are not fooled. Gradients may be masked.",
        warn=0.005,
        fail=0.02,
    ),
    "noise": Rule(
        "Attacks beat random noise",
        "noise fools what gradients miss",
        "The attacks are too weak: see the checks of the gradients.",
        fail=0.002,
    ),
    "transfer": Rule(
        "Attacks beat a transfer from a linear model",
        "a transfer from a linear model fools what gradients miss",
        "Attack by transfer as well. Gradients may be masked.",
        fail=0.01,
    ),
    "unbounded": Rule(
        "Without a bound every image is fooled",
        "images are not fooled even without a bound",
        "The attacks are too weak: without a bound, any image can be changed into any other.",
        warn=0.0,
        fail=0.02,
    ),
    "monotone": Rule(
        "Accuracy falls as eps grows",
        "accuracy rises with eps",
        "A larger ball contains the smaller one: keep what was found there, and try other step sizes.",
        fail=0.005,
        unit="points",
    ),
    "missed": Rule(
        "The evaluation missed nothing that the checks found",
        "the evaluation missed adversarial examples",
        "Evaluate again at a higher effort level; the robust accuracy is too high by at least this.",
        warn=0.03,
        fail=0.05,
    ),
    "left_to_find": Rule(
        "The evaluation's searches went far enough",
        "longer searches would fool more",
        "Evaluate again at a higher effort level; the robust accuracy is too high by at least this, very likely.",
        warn=0.01,
    ),
    "images": Rule(
        "Adversarial examples are in ball and box, and fool",
        "adversarial examples break the rules",
        "Do not use this accuracy: an attack's projection, or the way the images were stored, is wrong.",
        fail=0.0,
        exact=True,
    ),
    "proven": Rule(
        "No proven image was fooled",
        "proven images were fooled",
        "Do not use this accuracy: the proof or the attack has an error.",
        fail=0.0,
        exact=True,
    ),
}
"""The checks, in the order in which they are shown: outputs, gradients, attacks, the robust accuracy itself."""
