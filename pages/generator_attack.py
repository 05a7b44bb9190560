"""Generator attack: samples × every target class, each drawn by a one-input network that is trained in turns."""

from __future__ import annotations

from ui.app import guard

guard.ensure_router()

import functools

import streamlit as st

from core import specs
from core.jobs import queue
from core.storage import store
from ui.app import jobs, sources
from ui.form import controls, data_choice, model_picker, samples, tabs
from ui.generator import choices, compare, cost, results, robust, views
from ui.generator import pairs as stored
from ui.generator.pairs import Pairs
from ui.show import lessons, provenance
from ui.text import literal

PAGE = "generator_attack"
NAMES = ["Grid", "Curves", "Success by class", "Transfer", "Robust to this attack", "Export"]


def request_for(spec: specs.AttackSpec, target: str | int, made: list[store.Artifact]) -> specs.AttackSpec:
    """What the button draws: every target, or the chosen one where not all are stored or on their way."""
    whole = target == "all" or jobs.is_live(spec) or any(result.spec() == spec for result in made)
    return spec if whole else spec.model_copy(update={"target": target})


def button_text(request: specs.AttackSpec, labels: list[int], model: store.Artifact, *, done: bool) -> str:
    """What the button will do: how many images it draws and how long that takes, or that they are already there."""
    names = model.card["class_names"]
    targets = range(len(names)) if request.target == "all" else [int(request.target)]
    things = f"{stored.wrong_pairs(labels, targets):,} adversarial {stored.noun(names)}"
    if request.target != "all":
        things += f" towards {literal(names[int(request.target)])}"
    if done:
        return f"{things}: already there"
    seconds = cost.seconds(request, model)
    return f"Draw {things}" + ("" if seconds is None else f" (about {jobs.duration(seconds)})")


def is_running(job: queue.Job | None) -> bool:
    """Whether a job is waiting or running: its images so far then take the grid's place."""
    return job is not None and job.live


left, middle = st.columns([3, 2], vertical_alignment="bottom")
with left:
    model = model_picker.pick(PAGE, text="Model", default=choices.default_model())
if model is None:
    st.stop()
names = model.card["class_names"]
with middle:
    target = controls.a_class(
        PAGE,
        names,
        name="target",
        label="Target class",
        extra={"all": "every class"},
        help="A class: its column is marked in the grid and its curves are bold. Every class: the whole grid.",
    )
under, right = st.columns([3, 2])
more = under.expander("More settings", icon=":material/tune:")
with more:
    data = data_choice.choose(PAGE, model)
tests = samples.table(model, data)
if tests is None:
    st.stop()
with more:
    picked = choices.pick_samples(model, tests)
    mode = choices.pick_mode()
    settings = choices.draw_settings(mode)
    strong = mode == "generator_strong"
    seed = controls.field(PAGE, specs.AttackSpec, "seed", disabled=strong)
for name in picked.left_out:
    samples.none_of(name, f" with a confidence of {picked.confidence:.2%}; it is left out. Lower the least confidence")
if not len(picked.rows):
    st.info("Choose at least one class under “More settings”.", icon=":material/info:")
    st.stop()

indices = tuple(int(index) for index in picked.rows["index"])
labels = [int(label) for label in picked.rows["y"]]
spec = controls.build(
    specs.AttackSpec,
    model=model.id,
    data=data,
    attack={"name": mode, **settings},
    indices=indices,
    target="all",
    seed=0 if strong else seed,
)
if spec is None:
    st.stop()
made = stored.known(spec)
request = request_for(spec, target, made)
job = jobs.of(request)
done = any(result.spec() == request for result in made)
here = data is not None or sources.present(sources.model_spec(model).data.dataset)
with right:
    asked = st.button(
        button_text(request, labels, model, done=done),
        type="primary",
        icon=":material/check:" if done else ":material/draw:",
        key=f"{PAGE}_draw",
        width="stretch",
        disabled=done or is_running(job) or not here,
        help=None if here else "Drawing needs the images, which are not on this machine.",
    )
if asked:
    jobs.start(request)

other = None if made else stored.instead(spec)
shown = made or ([other] if other else [])
pairs = Pairs.of(*shown) if shown else None
if pairs is not None:
    chosen = None if target == "all" else int(target)
    line = " + ".join(provenance.of(result, model) for result in shown)
    st.markdown(views.verdict(pairs, chosen))
    if (images_of := stored.spec_of(shown[0]).data) is not None:
        st.caption(f"Images: {literal(sources.data_title(images_of))}.")
    if other is not None:
        differs = stored.differences(stored.spec_of(shown[0]), spec)
        st.caption(f"These were drawn earlier with other settings ({differs}). Yours are not drawn yet.")
images = None
if (pairs is None or is_running(job)) and here:
    images = samples.images(model, indices, data)
if made and pairs is not None:
    choices.draw_samples(picked.slots, [pairs.arrays["x"][row] for row in pairs.samples], picked.rows, names)
elif images is not None:
    choices.draw_samples(picked.slots, images, picked.rows, names)

for name, tab in zip(NAMES, tabs.tabs(PAGE, NAMES), strict=True):
    if not tab.open:
        continue
    with tab:
        targets = list(range(len(names))) if request.target == "all" else [int(request.target)]
        if name != "Grid" or images is None:
            jobs.panel(PAGE, request)
        else:
            live = functools.partial(views.live, x=images, targets=targets, y=labels, names=names)
            jobs.panel(PAGE, request, live=live)
        if is_running(job) and (name == "Grid" or pairs is None):
            continue
        if pairs is None:
            if images is not None:
                views.originals(images, labels, names, targets, legend="Your samples. “–”: not drawn yet.")
            st.info(f"{button_text(request, labels, model, done=False)} to see them here.", icon=":material/draw:")
        elif name == "Grid":
            results.grid(pairs, chosen)
            provenance.show(line, here=bool(made))
        elif name == "Curves":
            results.rounds(pairs, chosen)
            compare.attacks(shown[0], stored.spec_of(shown[0]), model)
        elif name == "Success by class":
            results.matrix(model, pairs, spec, tests, picked.confidence)
        elif name == "Transfer":
            compare.transfer(pairs, shown, model)
        elif name == "Robust to this attack":
            robust.show(stored.spec_of(shown[0]), model)
        else:
            results.export(pairs, line)
lessons.generator()
