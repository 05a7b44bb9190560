"""The line that says where a figure comes from: model, data, ε and norm, steps, seed, n."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core import specs
from core.storage import store
from ui.app import sources
from ui.text import both, counted, grey_levels, literal, say


def line(
    *,
    model: store.Artifact | str | None = None,
    data: str | specs.DataSpec | None = None,
    attack: str | None = None,
    norm: str | None = None,
    eps: float | tuple[float, ...] | None = None,
    steps: int | None = None,
    seed: int | None = None,
    n: int | None = None,
    more: str | None = None,
) -> str:
    """What is given, joined by middle dots.

    `data` are the images that the model was shown; None: the test set of its own data set.
    """
    parts: list[str] = []
    if model is not None:
        parts.append(f"model {model if isinstance(model, str) else model.id}")
        if data is None and not isinstance(model, str):
            data = sources.model_spec(model).data
    if data:
        parts.append(data if isinstance(data, str) else f"{sources.data_title(data)} test set")
    if attack:
        parts.append(attack)
    if norm:
        parts.append(say(norm))
    if isinstance(eps, tuple):
        grey = f" ({grey_levels(min(eps))} to {grey_levels(max(eps))})" if max(eps) <= 1 else ""
        parts.append(f"ε {min(eps):g} to {max(eps):g}{grey}")
    elif eps is not None:
        parts.append(f"ε {both(eps)}")
    if steps is not None:
        parts.append(f"{steps} steps")
    if seed is not None:
        parts.append(f"seed {seed}")
    if n is not None:
        parts.append(f"n = {n:,}")
    if more:
        parts.append(more)
    return " · ".join(parts)


def of(artifact: store.Artifact, model: store.Artifact | None = None) -> str:
    """The line of a stored artifact, from its spec and card; `model` is the model that a result belongs to."""
    spec = artifact.spec()
    created = str(artifact.card.get("created", ""))[:10]
    more = " · ".join(part for part in (f"result {artifact.id}", f"made {created}" if created else "") if part)
    if isinstance(spec, specs.TrainSpec):
        metrics = artifact.card.get("metrics", {})
        epochs = counted(spec.epochs, "epoch")
        how = "standard" if spec.recipe.name == "standard" else spec.recipe.label()
        recipe = f"{say(spec.network)}, {how} training, {epochs}"
        n = metrics.get("test_n")
        return line(model=artifact, more=f"{recipe} · {created}" if created else recipe, seed=spec.seed, n=n)
    if isinstance(spec, specs.ImportSpec):
        n = artifact.card.get("metrics", {}).get("test_n")
        what = f"“{spec.label}”, imported from {_kind(spec)}, SHA-256 {spec.digest[:12]}…"
        return line(model=artifact, more=f"{what} · {created}" if created else what, n=n)
    method: Any = getattr(spec, "attack", None) or getattr(spec, "method", None)
    settings: Any = method
    norm = getattr(settings, "norm", None) or (method.norms[0] if method is not None else None)
    return line(
        model=model or getattr(spec, "model", None),
        data=spec.data,
        attack=method.title if method is not None else None,
        norm=norm,
        eps=getattr(spec, "eps", None),
        steps=getattr(settings, "steps", None) or getattr(settings, "rounds", None),
        seed=getattr(spec, "seed", None),
        n=artifact.card.get("metrics", {}).get("n", getattr(spec, "n", None)),
        more=more,
    )


def _kind(spec: specs.ImportSpec) -> str:
    return "an ONNX graph" if spec.route == "onnx" else f"weights of {say(spec.architecture)}"


def mask_text(result: store.Artifact) -> str:
    """The mask of an attack or of a universal perturbation in a few words, such as `Patch of size 0.3, 64 pixels`."""
    mask: Any = getattr(result.spec(), "mask", None)
    pixels = result.card["mask"]["pixels"]
    if isinstance(mask, specs.Cells):
        return f"drawn by hand, {pixels} pixels"
    return f"{say(mask.shape)} of size {mask.size:g}, {pixels} pixels"


def show(text: str, *, here: bool = True) -> None:
    """Write the line under a figure; with `here` also that the page's address reproduces the figure."""
    written = "  \n".join(map(literal, text.splitlines()))
    st.caption(f"{written} · this page's address reproduces it" if here else written)
