"""What the trust report asks of a figure: each check's question, its limits and what to do. Imports no torch.

Sources: Athalye, Carlini, Wagner 2018 (arXiv 1802.00420, section 3.1) and Carlini et al. 2019 (arXiv 1902.06705) name
the signs of gradients that mislead; Andriushchenko and Flammarion 2020 (arXiv 2007.02617) the cosine. The limits are
the project's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "warn", "fail", "skipped"]
Unit = Literal["share", "points", "number"]
FEWEST = 2
"""A share of images counts from so many images on: one alone may be chance."""


@dataclass(frozen=True)
class Rule:
    """One check.

    Attributes:
        title: what is true of a figure that can be believed, in a few words.
        sign: what it means when it is not true, in a few words.
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
        """The verdict on a value measured on n images."""
        few = self.unit != "number" and not self.exact and round(measured * n) < FEWEST
        if few:
            return "pass"
        for limit, verdict in ((self.fail, "fail"), (self.warn, "warn")):
            if limit is not None and (measured < limit if self.below else measured > limit):
                return "fail" if verdict == "fail" else "warn"
        return "pass"

    def limits(self) -> str:
        """The limits in words, such as `warns above 0.5 %, fails above 2 %, from 2 images on`."""
        side = "below" if self.below else "above"
        parts = [
            f"{word} {side} {self.say(limit)}"
            for word, limit in (("warns", self.warn), ("fails", self.fail))
            if limit is not None
        ]
        if self.unit != "number" and not self.exact:
            parts.append(f"from {FEWEST} images on")
        return ", ".join(parts)

    def say(self, value: float) -> str:
        """A measured value or a limit with its unit."""
        if self.unit == "number":
            return f"{value:.3g}"
        return f"{100 * value:.3g} {'%' if self.unit == 'share' else 'points'}"


STAND_IN = "Attack through a smooth stand-in for the step that stops the gradient, and add attacks without gradients."
RULES: dict[str, Rule] = {
    "probabilities": Rule(
        "The model gives logits",
        "outputs are probabilities",
        "Remove the softmax: it saturates, and the attacks take logits.",
        fail=0.5,
    ),
    "randomness": Rule(
        "The same image gives the same logits",
        "answers are random",
        "Average the logits, or the gradients, over many draws; one draw tells neither accuracy nor robustness.",
        fail=1e-5,
        unit="number",
    ),
    "neighbours": Rule(
        "An image's logits do not hang on its neighbours",
        "answers hang on the batch",
        "Put the model in eval mode, with running statistics; one image a batch is the figure that counts.",
        fail=1e-3,
        unit="number",
    ),
    "saturation": Rule(
        "Logits leave the cross-entropy a gradient",
        "logits are saturated",
        "Divide the logits by a constant. The attacks here follow log-odds, which do not vanish; the figures of tools "
        "that follow the cross-entropy are too high.",
        warn=30,
        fail=88,
        unit="number",
    ),
    "rejects": Rule(
        "No hidden way to reject an image",
        "changed images are rejected",
        "Count a rejection as what it is, and attack detector and classifier together.",
        warn=0.01,
        fail=0.1,
    ),
    "continuity": Rule(
        "Logits change without jumps",
        "logits jump",
        f"{STAND_IN} A gradient says nothing of the other side of a jump.",
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
        "Gradients tell the truth of a small step",
        "gradients are not the slope",
        f"Compare with differences, and look for a layer with a backward pass of its own. {STAND_IN}",
        warn=0.1,
        fail=0.3,
    ),
    "cosine": Rule(
        "Gradients of an image and of a noisy one agree",
        "gradients change with noise",
        "More restarts; of a model trained with a single step, suspect catastrophic overfitting.",
        warn=0.2,
        unit="number",
        below=True,
    ),
    "single_step": Rule(
        "Many steps beat one",
        "one step beats many",
        "Other step sizes, more steps, another loss; gradients may be masked.",
        fail=0.005,
        unit="points",
    ),
    "losses": Rule(
        "Two losses agree, or the lower counts",
        "two losses disagree",
        "Report the lower accuracy, and attack with both.",
        warn=0.05,
        unit="points",
    ),
    "converged": Rule(
        "More steps gain nothing",
        "more steps still gain",
        "Attack with more steps until the figure stands still.",
        warn=0.005,
        fail=0.01,
        unit="points",
    ),
    "restarts": Rule(
        "More restarts gain nothing",
        "more restarts still gain",
        "Attack with more restarts until the figure stands still.",
        warn=0.01,
        fail=0.02,
        unit="points",
    ),
    "black_box": Rule(
        "Gradients find what queries find",
        "queries find what gradients miss",
        "Spend more queries on the images that stand; gradients may be masked.",
        warn=0.005,
        fail=0.02,
    ),
    "noise": Rule(
        "Attacks beat random noise",
        "noise finds what gradients miss",
        "The attack fails, not the model: see the checks of the gradients.",
        fail=0.002,
    ),
    "transfer": Rule(
        "Attacks beat a linear model's images",
        "a linear model's images find what gradients miss",
        "Attack by transfer as well; gradients may be masked.",
        fail=0.01,
    ),
    "unbounded": Rule(
        "Without a bound nothing stands",
        "images stand without a bound",
        "The attack fails, not the model: any image can be made any other.",
        warn=0.0,
        fail=0.02,
    ),
    "monotone": Rule(
        "Accuracy falls as eps grows",
        "accuracy rises with eps",
        "A larger ball holds the smaller one: carry over what was found, and take other step sizes.",
        fail=0.005,
        unit="points",
    ),
    "missed": Rule(
        "The evaluation missed nothing found here",
        "the evaluation missed adversarial images",
        "Evaluate again with more effort; the figure is too high by at least this.",
        warn=0.005,
        fail=0.02,
    ),
    "images": Rule(
        "Images stay in ball and box, and fool",
        "images break the rules",
        "Do not use this figure: an attack's projection, or the way the images were stored, is wrong.",
        fail=0.0,
        exact=True,
    ),
    "proven": Rule(
        "Nothing proven was attacked",
        "proven images were attacked",
        "Do not use this figure: the proof or the attack has an error.",
        fail=0.0,
        exact=True,
    ),
}
"""The checks, in the order in which they are shown: the model's answers, its gradients, attacks, the figure itself."""
