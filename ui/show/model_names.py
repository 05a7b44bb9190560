"""What a saved model is called: the same short name on every page, such as `LeNet · FGSM-trained`.

The name says the network and how it was trained, or what an imported model is called. Where several models of a data
set would have the same one, the bundled model keeps it, then the oldest; the others add their ε if that tells them
apart, else the end of their id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from core import escaping, specs
from core.storage import bundled, store
from ui.app import sources
from ui.text import say


def names() -> dict[str, str]:
    """Model id → name, of every saved model. Two models of one data set never have the same name."""
    return _named(sources.models())


def name(model: store.Artifact) -> str:
    """What this model is called."""
    return _named([*sources.models(), model])[model.id]


def short_names(models: Sequence[store.Artifact]) -> dict[str, str]:
    """Model id → name, of these models; with the data set in front where they are of several."""
    found = _named([*sources.models(), *models])
    several = len({data_of(model) for model in models}) > 1
    return {model.id: f"{data_of(model)} · {found[model.id]}" if several else found[model.id] for model in models}


def label(model: store.Artifact) -> str:
    """A model that stands alone, with its data set: `MNIST · LeNet · FGSM-trained`."""
    return f"{data_of(model)} · {name(model)}"


def facts(model: store.Artifact) -> str:
    """What a help text says of a model: its id, network, recipe, accuracy, and whether it is bundled."""
    spec, accuracy = sources.model_spec(model), model.card.get("metrics", {}).get("test_accuracy")
    parts = [f"`{model.id}`", data_of(model), say(spec.network)]
    parts += [f"recipe {spec.recipe.label()}"] if isinstance(spec, specs.TrainSpec) else []
    if accuracy is not None:
        parts.append(f"test accuracy {accuracy:.2%}")
    here = "trained here" if isinstance(spec, specs.TrainSpec) else specs.IMPORTED
    return " · ".join([*parts, "bundled" if bundled.is_copy(model.card) else here])


def data_of(model: store.Artifact) -> str:
    """The data set of a model as it stands in front of names: `MNIST`, `MNIST, 4 against 9`.

    Its own folder and classes may have any names: what means something in Markdown is left out.
    """
    return escaping.tame(sources.data_title(sources.model_spec(model).data))


def short_id(model_id: str) -> str:
    """The first six letters of the hash in a model's id, which tell it from another of the same kind."""
    return model_id.rsplit("-", 1)[-1][:6]


def _named(models: Iterable[store.Artifact]) -> dict[str, str]:
    found: dict[str, str] = {}
    taken: set[tuple[str, str]] = set()
    by_id = {model.id: model for model in models}
    for model in sorted(by_id.values(), key=_seniority):
        spec = sources.model_spec(model)
        plain = _plain(spec)
        ways = [plain, f"{plain} {short_id(model.id)}"]
        if (eps := getattr(getattr(spec, "recipe", None), "eps", None)) is not None:
            ways.insert(1, f"{plain}, ε {eps:.3g}")
        data = spec.data.slug() + (spec.data.path or "")
        found[model.id] = next((way for way in ways if (data, way) not in taken), model.id)
        taken.add((data, found[model.id]))
    return found


def _seniority(model: store.Artifact) -> tuple[bool, str, str]:
    return not bundled.is_copy(model.card), str(model.card.get("created", "")), model.id


def _plain(spec: specs.ModelSpec) -> str:
    if isinstance(spec, specs.ImportSpec):
        return f"{spec.label} · {specs.IMPORTED}"
    network = specs.NETWORKS[spec.network].called + (", one output" if spec.scalar else "")
    return f"{network} · {spec.recipe.kind()}"
