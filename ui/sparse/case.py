"""One image of one model with its Jacobian, and the tasks of attacks on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import specs
from core.storage import store
from ui.app import sources
from ui.form import controls, samples
from ui.show import gallery


@st.cache_data(max_entries=64, show_spinner="Differentiating …")
def look(model_id: str, root: Path, x: np.ndarray) -> dict[str, np.ndarray]:
    """Logits (K,) of an image (C, H, W) and their Jacobian (K, C, H, W); a scalar network's logits are (0, N(x))."""
    import torch

    from core.attacks.sparse.jacobian import jacobian

    saved = sources.saved_model(model_id, root)
    images = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))[None]
    with torch.no_grad():
        logits = saved.model(images)
    return {"logits": logits[0].numpy(), "jacobian": jacobian(saved.model, images)[0].numpy()}


@st.cache_data(max_entries=64, show_spinner=False)
def logits_of(model_id: str, root: Path, images: np.ndarray) -> np.ndarray:
    """Logits (n, K) of images (n, C, H, W); a scalar network's are (0, N(x)), without its threshold."""
    import torch

    from core.networks import catalogue

    return catalogue.logits_of(sources.saved_model(model_id, root).model, torch.from_numpy(images)).numpy()


@dataclass(frozen=True)
class Case:
    """One image of one model with its Jacobian, and the target of the attack.

    `logits` of a scalar network are (0, N(x) - τ), so that the class is their argmax as for any other.
    """

    model: store.Artifact
    index: int
    label: int
    target: int | None
    threshold: float
    scalar: bool
    x: np.ndarray
    logits: np.ndarray
    jacobian: np.ndarray
    data: specs.DataSpec | None = None

    @classmethod
    def of(
        cls,
        model: store.Artifact,
        index: int,
        label: int,
        x: np.ndarray,
        *,
        target: int | None = None,
        threshold: float = 0.0,
        data: specs.DataSpec | None = None,
    ) -> Case:
        """The image x (C, H, W) of a class, passed through the model. Imports torch."""
        looked, scalar = look(model.id, model.root, x), sources.model_spec(model).scalar
        logits = looked["logits"] - [0, threshold] if scalar else looked["logits"]
        return cls(model, index, label, target, threshold, scalar, x, logits, looked["jacobian"], data)

    def ask(self, attack: dict[str, Any], **more: Any) -> specs.AttackSpec | None:
        """The task of an attack on this image; None, with an explanation on the page, if it is refused."""
        return controls.build(specs.AttackSpec, **self._common(attack), indices=(self.index,), **more)

    def ask_many(self, attack: dict[str, Any], n: int) -> specs.AttackSpec | None:
        """The task of the same attack on the first n images of the class; None, as `ask`, if it is refused."""
        return controls.build(specs.AttackSpec, **self._common(attack), source=self.label, n=n)

    def _common(self, attack: dict[str, Any]) -> dict[str, Any]:
        target = "any" if self.target is None else self.target
        common = {"model": self.model.id, "data": self.data, "attack": attack, "target": target}
        return {**common, "threshold": self.threshold}

    def tests(self) -> pd.DataFrame | None:
        """The model's test table on the same images; None, with an error on the page, if it is damaged."""
        return samples.table(self.model, self.data)

    @property
    def unit(self) -> str:
        """What an attack on few changes: pixels of a grey image, features (single colours of pixels) of another."""
        return "pixels" if len(self.x) == 1 else "features"

    @property
    def names(self) -> Sequence[str]:
        """Class names."""
        return self.model.card["class_names"]

    def read(self, images: np.ndarray) -> np.ndarray:
        """Logits (n, K) of other images, the threshold taken off."""
        logits = logits_of(self.model.id, self.model.root, np.ascontiguousarray(images, dtype=np.float32))
        return logits - [0, self.threshold] if self.scalar else logits

    def margin(self, logits: np.ndarray) -> np.ndarray:
        """Margins (n,) that an attack brings below 0: own logit minus the best other, or best other minus target."""
        at = self.label if self.target is None else self.target
        rest = np.delete(logits, at, axis=1).max(axis=1)
        return logits[:, at] - rest if self.target is None else rest - logits[:, at]

    def shown(self, margin: Any) -> Any:
        """A margin as the page shows it: for a single-output network the score N(x)."""
        return self.threshold + (margin if self.label == 1 else -margin) if self.scalar else margin

    @property
    def quantity(self) -> str:
        """The name of what `shown` returns."""
        if self.scalar:
            return "score N(x)"
        return "margin: own logit − best other" if self.target is None else "margin: best other logit − target's"

    @property
    def level(self) -> float:
        """The value of `shown` at which the class changes."""
        return self.threshold if self.scalar else 0.0

    def slope(self, toward: int) -> np.ndarray:
        """Derivative (C, H, W) of the margin at x, against or towards the class `toward`."""
        if self.target is None:
            return self.jacobian[self.label] - self.jacobian[toward]
        rivals = np.where(np.arange(len(self.logits)) == self.target, -np.inf, self.logits)
        return self.jacobian[int(rivals.argmax())] - self.jacobian[self.target]


def flat(values: np.ndarray) -> np.ndarray:
    """(C, H, W) → (H, W): of several channels the value of largest magnitude."""
    return np.take_along_axis(values, np.abs(values).argmax(axis=0)[None], axis=0)[0]


def with_article(name: str) -> str:
    """A class with its article, such as `a 4`, `an 8`, `an airplane`."""
    return f"{'an' if name[:1].lower() in 'aeiou8' else 'a'} {name}"


def read_as(case: Case, logits: np.ndarray) -> str:
    """The predicted class with its probability, such as `4 · 99.9%`."""
    probabilities = gallery.softmax(logits)
    return f"{case.names[int(probabilities.argmax())]} · {probabilities.max():.1%}"


def toward(case: Case, after: np.ndarray) -> int:
    """The class whose Jacobian is shown: the target, the class reached, or the runner-up."""
    if case.target is not None:
        return case.target
    reached = int(after.argmax())
    if reached != case.label:
        return reached
    return int(np.where(np.arange(len(case.logits)) == case.label, -np.inf, case.logits).argmax())


def derivative(case: Case, aim: int) -> tuple[np.ndarray, str]:
    """The Jacobian (C, H, W) that is shown, and its name: of N, or of one logit minus that of the true class."""
    if case.scalar:
        return case.jacobian[1], "∂N/∂x"
    name = f"∂(z {case.names[aim]} − z {case.names[case.label]})/∂x"
    return case.jacobian[aim] - case.jacobian[case.label], name
