"""Playground: change an image so slightly that a network is fooled, while a slider moves."""

from __future__ import annotations

from ui.app import guard

guard.ensure_router()

import streamlit as st

from core import epsilon
from core.storage import store
from ui.app import projector, routes, sources
from ui.form import model_picker, tabs
from ui.form.select import select
from ui.playground import address, answers, attacks, images, ladders, models, stage, steps
from ui.playground.attacks import Offer
from ui.playground.picture import Picture
from ui.show import model_names
from ui.text import say

PAGE = "playground"
TABS = ("Attack", "Gradient steps on the input")


def choose_attack() -> tuple[Offer, str]:
    """Draw the choice of the attack and, where it has several, of the norm."""
    with st.container(width=150):
        name = select(
            PAGE,
            "attack",
            "Attack",
            list(attacks.OFFERS),
            text=lambda one: attacks.OFFERS[one].title,
            kind="list",
            help="\n\n".join(f"**{offer.title}**: {offer.help}" for offer in attacks.OFFERS.values()),
        )
    offer = attacks.OFFERS[name]
    with st.container(width=90):
        norm = select(
            PAGE,
            "norm",
            "Norm",
            list(offer.norms),
            text=say,
            kind="list",
            disabled=len(offer.norms) == 1,
            help="How the size of the change is measured: ℓ∞ by the pixel that changed most, ℓ2 by its length, ℓ1 by "
            "the sum of all changes, ℓ0 by the number of pixels.",
        )
    return offer, norm


def label_of(model: store.Artifact, picture: Picture) -> int:
    """The class that the attack leads away from: the true one, or of a drawing the one that the model predicts."""
    if picture.label is not None:
        return picture.label
    with st.spinner("Loading PyTorch …"):
        return int(answers.clean(model, picture).argmax())


def choose_eps(model: store.Artifact, norm: str, picture: Picture) -> tuple[tuple[float, ...], int]:
    """The stops of the ε slider, and where the address says that it stands."""
    stops = ladders.ladder(norm, picture.x.shape)
    start = ladders.default(norm, picture.x.shape, sources.model_spec(model).data.dataset)

    def read(text: str) -> float | None:
        try:
            eps: float = epsilon.parse(text)
        except ValueError:
            return None
        return stops[ladders.nearest(stops, eps)] if 0 <= eps < float("inf") else None

    eps = address.value("eps", read, lambda found: f"{float(found):.6g}", start, ("ε", "a number such as 0.1 or 8/255"))
    return stops, ladders.nearest(stops, eps)


def choose_target(names: list[str], label: int) -> int | None:
    """The wished class, as the address says it; None: any other."""
    known = {"any", *(str(k) for k in range(len(names)) if k != label)}

    def read(text: str) -> str | None:
        return text if text in known else None

    chosen = address.value("target", read, str, "any", ("Target class", "`any`, or the number of another class"))
    return None if chosen == "any" else int(chosen)


def measure(models: list[store.Artifact], offer: Offer, norm: str) -> None:
    """Draw the button that leads to the sweep with these settings."""

    def go() -> None:
        state: dict[str, object] = {"epsilon_sweep_models": [model.id for model in models], "epsilon_sweep_norm": norm}
        if offer.sweep:
            state["epsilon_sweep_attacks"] = [offer.sweep]
        if offer.needs_eps:  # where the sliders stand now, which move without a run of this script
            state["epsilon_sweep_at"] = float(st.session_state[f"{PAGE}_eps"])
        target = str(st.session_state[f"{PAGE}_target"])
        state["epsilon_sweep_target"] = int(target) if target != "any" else "any"
        routes.go("epsilon_sweep", **state)

    st.button(
        "Measure it on 1,000 images",
        icon=":material/show_chart:",
        key=f"{PAGE}_measure",
        on_click=go,
        help="Opens the epsilon sweep with these models, this attack, this ε and this target class.",
    )


def attack_it() -> None:
    """One image under attack, on a model and on the one beside it."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        model = model_picker.pick(PAGE, default=models.default())
        if model is None:
            return
        with st.container(width=230):
            other = models.beside(model)
        offer, norm = choose_attack()
    top, middle, below = st.container(), st.container(), st.container()
    with below:
        data = images.choose_data(model)
    with top:
        picture = images.choose(model, data)
    if picture is None:
        return
    with middle:
        show_stage(model, other, picture, offer, norm)


def show_stage(model: store.Artifact, other: store.Artifact | None, picture: Picture, offer: Offer, norm: str) -> None:
    """The sliders, the images and the verdicts."""
    label = label_of(model, picture)
    stops, place = choose_eps(model, norm, picture) if offer.needs_eps else ((), 0)
    target = choose_target(list(model.card["class_names"]), label)
    sides = tuple(
        answers.Question(one, picture, label, offer.make(norm), norm, target, stops)
        for one in (model, other)
        if one is not None
    )
    names = model_names.short_names([side.model for side in sides])
    scene = stage.Scene(sides, tuple(names[side.model.id] for side in sides), place)
    stage.show(scene)
    with st.container(horizontal=True, vertical_alignment="center"):
        measure([side.model for side in sides], offer, norm)
        projector.toggle()
        st.caption(f"{offer.title}: {offer.help} This page's address reproduces what you see.")
    stage.ahead(scene)


def step_by_step() -> None:
    """Gradient steps on the input."""
    with st.columns([1, 1.6], vertical_alignment="bottom")[0]:
        model = model_picker.pick(PAGE, default=models.default())
    if model is not None:
        middle, below = st.container(), st.container()
        with below:
            data = images.choose_data(model)
        with middle:
            steps.show(model, data)


@st.fragment
@guard.told()
def play() -> None:
    """Everything that answers while somebody plays: only this part is drawn again."""
    shown = tabs.tabs(PAGE, TABS)
    for tab, draw in zip(shown, (attack_it, step_by_step), strict=True):
        if tab.open:
            with tab:
                draw()


stage.entered()
play()
