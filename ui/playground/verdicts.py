"""What happened to an image, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ui.text import both, class_text, counted


def verdict(
    names: Sequence[str],
    label: int,
    clean: int,
    found: int,
    confidence: float,
    *,
    success: bool,
    target: int | None,
    known: bool,
) -> tuple[str, str]:
    """The kind of a verdict and its sentence.

    Args:
        names: of the classes.
        label: the class that the attack leads away from.
        clean: the class that the model predicts for the image as it is.
        found: the class that it predicts for the adversarial image.
        confidence: the probability of that, in [0, 1].
        success: whether the attack reached its goal.
        target: the wished class; None: any other.
        known: whether `label` is the image's true class, and not only what a model thinks of a drawing or an upload.
    """
    the = f"The {names[label]}"
    if known and clean != label:
        return "before", f"{the} is classified as {names[clean]} without any change."
    sure = f"with {share(confidence)} confidence"
    if success:
        return "fooled", f"{the} is now classified as {names[found]} {sure}."
    if found != label:
        wished = "" if target is None else f", not as {class_text(target, names)}"
        return "fooled", f"{the} is now classified as {names[found]} {sure}{wished}."
    return "holds", f"{the} is still classified as {names[found]}, {sure}."


def change(norm: str, distance: Mapping[str, float], pixels: int) -> str:
    """How large a change is, in the units of its norm."""
    if not distance["l0"]:
        return "Nothing was changed."
    if norm == "l0":
        return f"{distance['pixels']:.0f} of {counted(pixels, 'pixel')} changed."
    if norm == "linf":
        return f"No pixel changed by more than {both(distance['linf'])}."
    length = distance[norm]
    sign = {"l2": "ℓ2", "l1": "ℓ1"}[norm]
    return f"The change has the {sign} length {length:.3g}; no pixel changed by more than {both(distance['linf'])}."


def share(probability: float) -> str:
    """A probability as people say it: no 100% where it is only close."""
    if probability > 0.999:
        return "more than 99.9%" if probability < 1 else "100%"
    return f"{probability:.1%}" if probability > 0.99 else f"{probability:.0%}"


def proven(eps: float | None, norm: str) -> str:
    """What is proven of all attacks, in a sentence; empty where the network has layers that no rule covers."""
    if eps is None:
        return ""
    if eps <= 0:
        return "Could any attack do it? Nothing is proven here in the time that a page has."
    size = both(eps) if norm == "linf" else f"{eps:.3g} in {'ℓ2' if norm == 'l2' else 'ℓ1'}"
    return f"Could any attack do it? Proven: no change up to {size} can."
