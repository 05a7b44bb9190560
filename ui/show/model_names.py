"""What a saved model is called on a page: its label in a choice, a short name in tables and charts."""

from __future__ import annotations

from collections.abc import Sequence

from core.storage import bundled, store
from ui.app import sources
from ui.text import say


def label(model: store.Artifact) -> str:
    """A model in a line, such as `MNIST · LeNet 20-50-500 · Standard · 99.1% · 3f2a91`."""
    spec = sources.model_spec(model)
    accuracy = model.card.get("metrics", {}).get("test_accuracy")
    parts = [sources.data_title(spec.data), say(spec.network), spec.recipe.label()]
    if spec.scalar:
        parts.append("single output")
    if accuracy is not None:
        parts.append(f"{accuracy:.1%}")
    if bundled.is_copy(model.card):
        parts.append("reference")
    return " · ".join([*parts, short_id(model.id)])


def short_id(model_id: str) -> str:
    """The first six letters of the hash in a model's id, which tell it from another of the same kind."""
    return model_id.rsplit("-", 1)[-1][:6]


def short_names(models: Sequence[store.Artifact]) -> dict[str, str]:
    """Model id → the shortest text that tells the models apart."""
    found: dict[str, str] = {}
    ways = [("network",), ("network", "recipe")]
    if len({sources.data_title(sources.model_spec(model).data) for model in models}) > 1:
        ways += [("data", "network"), ("data", "network", "recipe")]
    for parts in ways:
        found = {model.id: _named(model, parts) for model in models}
        if len(set(found.values())) == len(models):
            return found
    doubled = [text for text in found.values() if list(found.values()).count(text) > 1]
    return {model_id: f"{text} {short_id(model_id)}" if text in doubled else text for model_id, text in found.items()}


def _named(model: store.Artifact, parts: Sequence[str]) -> str:
    spec = sources.model_spec(model)
    network = say(spec.network).split(" ")[0].rstrip(",") if spec.network != "mlp" else "Dense"
    words = {
        "data": sources.data_title(spec.data),
        "network": network + (" N" if spec.scalar else ""),
        "recipe": spec.recipe.label(),
    }
    return " ".join(words[part] for part in parts)
