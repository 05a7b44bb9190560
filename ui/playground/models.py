"""The model that is attacked, and the robust one beside it."""

from __future__ import annotations

from core import specs
from core.storage import store
from ui.app import sources
from ui.form.select import select
from ui.playground.address import PAGE
from ui.show import model_names

FIRST = ("mnist-lenet", "digits28-standard")
"""The bundled models that the page opens with: the first whose own images are here, else the first."""
ROBUST = ("pgd", "trades", "fgsm_mix", "fgsm", "free", "ibp", "generator")
"""Recipes of robust models, the one that withstands most first."""
NONE = "none"


def default() -> str | None:
    """Id of the model that the page opens with; None where no bundled one fits."""
    here = {one.name: model for one, model in sources.references() if one.name in FIRST}
    ordered = sorted((name for name in FIRST if name in here), key=lambda name: not _own_images(here[name]))
    return here[ordered[0]].id if ordered else None


def _own_images(model: store.Artifact) -> bool:
    return sources.present(sources.model_spec(model).data.dataset)


def beside(model: store.Artifact) -> store.Artifact | None:
    """Draw the choice of the model that the same attack is tried on; None where there is none, or none is wanted."""
    spec = sources.model_spec(model)
    shown = (tuple(model.card["shape"]), tuple(model.card["class_names"]))
    found = {
        other.id: other
        for other in sources.models()
        if other.id != model.id and (tuple(other.card["shape"]), tuple(other.card["class_names"])) == shown
    }
    if not found:
        return None

    def place(other: store.Artifact) -> tuple[bool, bool, int, bool]:
        own = sources.model_spec(other)
        recipe = specs.recipe_of(own)
        robust = ROBUST.index(recipe) if recipe in ROBUST else len(ROBUST)
        if specs.recipe_of(spec) in ROBUST:  # a robust model has the undefended one beside it
            robust = 0 if recipe == "standard" else 1 + robust
        return own.data != spec.data, robust >= len(ROBUST), robust, own.network != spec.network

    ordered = sorted(found.values(), key=place)
    same = [other for other in ordered if sources.model_spec(other).data == spec.data]
    names = model_names.short_names(ordered) | model_names.short_names(same)
    options = [*(other.id for other in ordered), NONE]
    chosen = select(
        PAGE,
        "beside",
        "Same attack on",
        options,
        text=lambda one: "no other model" if one == NONE else names[one],
        kind="list",
        help="The same attack, made anew for this model: what a defence is worth, in one look.",
    )
    return found.get(chosen)
