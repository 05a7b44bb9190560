"""Add a model: a file made by others → what it needs, found out; from then on it is a model like any other."""

from __future__ import annotations

from ui.app import guard

guard.ensure_router()

import streamlit as st

from core import specs
from core.storage import store
from ui.app import routes, sources
from ui.form import data_set
from ui.form.select import select
from ui.models import adding, example, found
from ui.show import model_names, provenance

PAGE = adding.PAGE
CLASSES = "Keep only these classes of the data set, numbered anew in this order: those that the model tells apart."


def chosen() -> store.Artifact | None:
    """Draw the choice of the imported model that is looked at; None where nothing was imported yet."""
    imported = [model for model in sources.models() if isinstance(sources.model_spec(model), specs.ImportSpec)]
    if not imported:
        return None
    by_id = {model.id: model for model in imported}
    names = model_names.short_names(imported)
    picked = select(
        PAGE,
        "model",
        "What was found out about",
        list(by_id),
        text=names.__getitem__,
        kind="list",
        named=True,
        help="Every model that was imported into this store, the newest first.",
    )
    return by_id[picked]


def answer(model: store.Artifact) -> None:
    """Draw how accurate an imported model is, what was tried, and the ways on."""
    found.figures(model)
    found.chart(PAGE, model.card, len(model.card["class_names"]))
    ways_on(model)


def details(model: store.Artifact) -> None:
    """Draw what stands before the network, every finding, and the other readings of those in doubt."""
    found.framing(model)
    other_readings(model)
    found.table(PAGE, model)
    provenance.show(provenance.of(model), here=False)


def ways_on(model: store.Artifact) -> None:
    """Draw the buttons that open other pages on this model."""
    with st.container(horizontal=True):
        for name, text in (
            ("playground", "Attack it"),
            ("epsilon_sweep", "Sweep ε"),
            ("model_comparison", "Compare it"),
        ):
            route = routes.ROUTES[name]
            chosen = [model.id] if route.model_widget == "models" else model.id
            st.button(
                text,
                icon=route.icon,
                key=f"{PAGE}_open_{name}",
                on_click=routes.go,
                args=(name,),
                kwargs={f"{name}_{route.model_widget}": chosen},
                help=f"Opens the page {route.title} with this model.",
            )


def other_readings(model: store.Artifact) -> None:
    """Draw, for what is in doubt, the buttons that fill in another reading."""
    readings = found.other_readings(model)
    if not readings:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**In doubt**", width="content")
        for place, (text, known) in enumerate(readings):
            st.button(
                text,
                icon=":material/edit:",
                key=f"{PAGE}_other_{place}",
                on_click=adding.fill,
                args=(model, known),
                help="Fills in the settings, with the model's file. Nothing is imported before you press Import.",
            )


asked = adding.asked()
made = sources.artifact(asked) if asked is not None else None
if made is not None:
    adding.finished(made)
form, result = st.columns([3, 5], gap="large")
with form:
    file = adding.choose_file()
    data = adding.data_choice()
    architecture = adding.choose_architecture(file)
    place = st.container()
    refused = adding.refused()
    with st.expander("More settings", icon=":material/tune:", expanded=refused in adding.FOLDED):
        label = adding.choose_name(file)
        if data["dataset"] not in specs.OWN:
            data["classes"] = data_set.classes(PAGE, data["dataset"], CLASSES)
        known = adding.settings()
    with place:
        spec = None if file is None else adding.draft(file, data, architecture, label, known)
        pressed = st.button(
            "Import",
            type="primary",
            icon=":material/upload_file:",
            key=f"{PAGE}_import",
            width="stretch",
            disabled=spec is None or adding.running(),
            help="Examines the network on images of the data set, in under a minute, and keeps it as a model.",
        )
        if pressed and file is not None and spec is not None:
            adding.start(file, spec)
        adding.follow()
with result, st.container(key=f"{PAGE}_answer"):
    model = chosen()
    findings = example.show(PAGE) if model is None else []
    if model is not None:
        answer(model)
if model is not None:
    details(model)
elif findings:
    found.listed(findings)
