"""Train: data, network and recipe → a saved model, its curves, its confusion matrix, and the way on to the attacks."""

from __future__ import annotations

from ui.app import guard

guard.ensure_router()

from collections.abc import Mapping
from typing import Any

import streamlit as st

from core import specs
from core.figures.base import running_loss, training_curves
from core.jobs import queue
from core.storage import store
from ui.app import jobs, sources, warm
from ui.form import controls, data_set, tabs
from ui.form.select import select
from ui.models import earlier, references, saved
from ui.show import elements, model_names
from ui.text import counted, say

PAGE = "train"
RESULT, EARLIER, NETWORK, MODELS = NAMES = ["Result", "Against earlier ones", "Network", "Your models"]
PRESETS = {"quick": "Quick", "fast": "Fast", "set3": "Exercise set 3", "set5": "Exercise set 5"}
CLASSES = (
    "Keep only these classes, numbered anew in this order. With two, such as 4 and 9, a single-output network is "
    "possible too."
)


def chosen_preset() -> dict[str, Any]:
    """Settings of the preset that is chosen, for the data set that is chosen."""
    name = st.session_state.get(f"{PAGE}_preset", "fast")
    dataset = st.session_state.get(f"{PAGE}_dataset", sources.start_data())
    if name in specs.PRESETS:
        return specs.preset(name, dataset)
    fast = specs.preset("fast", dataset)
    epochs = fast.get("epochs", specs.TrainSpec.model_fields["epochs"].default)
    return {**fast, "epochs": max(1, epochs // 4)} if name == "quick" else fast


def apply_preset() -> None:
    """Put the preset's settings into the widgets."""
    defaults = {name: specs.TrainSpec.model_fields[name].default for name in saved.OPTIMISER if name != "seed"}
    for name, value in {**defaults, **chosen_preset()}.items():
        st.session_state[f"{PAGE}_{name}"] = value


def apply_epochs() -> None:
    """Set the number of epochs that the preset has for the chosen data set."""
    if "epochs" in chosen_preset():
        st.session_state[f"{PAGE}_epochs"] = chosen_preset()["epochs"]


def details(data: dict[str, Any], recipe: str) -> dict[str, Any]:
    """Draw the settings that are folded away; returns arguments of a TrainSpec, and `classes` of the data."""
    found: dict[str, Any] = {}
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    if data["dataset"] not in specs.OWN:
        with left:
            data["classes"] = data_set.classes(PAGE, data["dataset"], CLASSES)
    two = data["dataset"] in specs.OWN or len(data["classes"] or ()) == 2
    with right:
        found["scalar"] = controls.field(PAGE, specs.TrainSpec, "scalar", disabled=not two) and two
    cls = specs.RECIPES[recipe]
    st.caption(f"**{cls.title}.** {cls.help} *{cls.paper}.*" if cls.paper else f"**{cls.title}.** {cls.help}")
    found["recipe"] = {"name": recipe, **controls.recipe_settings(PAGE, recipe)}
    return found | controls.fields(PAGE, specs.TrainSpec, saved.OPTIMISER, defaults=chosen_preset())


def button_text(spec: specs.TrainSpec | None, *, done: bool) -> str:
    """What the button will do: open the model of these settings, or train it, and how long that takes."""
    if done:
        return "Open the trained model"
    if spec is None:
        return "Train"
    seconds = expected(spec)
    name = specs.NETWORKS[spec.network].called
    return f"Train {name}" + ("" if seconds is None else f" (about {jobs.duration(seconds)})")


def expected(spec: specs.TrainSpec) -> float | None:
    """Expected seconds: by a short calibration once PyTorch is loaded, before as long as a similar model took."""
    if warm.torch_ready():
        return sources.expected_seconds(spec)
    for model in sources.models():
        theirs = model.spec()
        if not isinstance(theirs, specs.TrainSpec):
            continue
        same = (theirs.data, theirs.network, theirs.recipe.name) == (spec.data, spec.network, spec.recipe.name)
        if same and theirs.batch_size == spec.batch_size:
            return float(model.card["timing"]["seconds"]) / theirs.epochs * spec.epochs
    return None


@st.fragment(run_every=1.0)
@guard.told()
def redraw_with_torch() -> None:
    """Wait for torch, which is being imported in the background, then draw the page once more with times and layers."""
    if warm.torch_ready():
        st.rerun()


def instead(spec: specs.TrainSpec) -> store.Artifact | None:
    """The trained model that is nearest to settings that are not trained yet: of the same data, network and recipe."""
    trained = [model for model in sources.models() if isinstance(sources.model_spec(model), specs.TrainSpec)]

    def rank(model: store.Artifact) -> tuple[bool, bool, bool]:
        theirs = sources.model_spec(model)
        same_recipe = specs.recipe_of(theirs) == spec.recipe.name
        return theirs.data == spec.data, theirs.network == spec.network, same_recipe

    return max(trained, key=rank, default=None)


def live(job: queue.Job) -> None:
    """Draw the curves of a training that is running."""
    saved.overfitting(job.history)
    if any("validation_accuracy" in row for row in job.history):
        elements.chart(
            training_curves(job.history),
            key=f"{PAGE}_live_curves",
            alt="Loss and accuracy by epoch so far",
        )
    else:
        elements.chart(
            running_loss(job.history),
            key=f"{PAGE}_live_loss",
            alt="Loss of the batches so far",
        )


def open_result() -> None:
    """Bring the result to the front, and say that there is nothing to train."""
    st.session_state[f"{PAGE}_tab"] = RESULT
    st.session_state.pop(f"{PAGE}_saved", None)
    st.toast("This model is trained already. Its result is shown.", icon=":material/check_circle:")


def network_tab(spec: specs.TrainSpec | None, shown: store.Artifact | None) -> None:
    """Draw the layer table of the chosen network, trained or not."""
    layers: list[Mapping[str, Any]] = []
    if spec is not None and shown is not None and _same_layers(spec, sources.model_spec(shown)):
        layers = shown.card["network"]["layers"]
    elif spec is not None and warm.torch_ready():
        layers = [vars(layer) for layer in sources.layers_of(spec)]
    if spec is None or not layers:
        st.caption("The layers are shown once PyTorch is loaded, or once the folder is read.")
        return
    weights = sum(layer["parameters"] for layer in layers)
    st.markdown(f"**{say(spec.network)}**: {weights:,} parameters in {counted(len(layers), 'layer')}.")
    saved.layer_table(layers)
    st.caption("Receptive field: how many pixels of the image, across, one value of the layer's output sees.")


def _same_layers(one: specs.TrainSpec, other: specs.ModelSpec) -> bool:
    return (one.network, one.data, one.scalar) == (other.network, other.data, other.scalar)


def models_tab() -> None:
    """Draw the table of all saved models, and the chosen one in short."""
    chosen = saved.saved_models(PAGE, current=None)
    if chosen is not None:
        st.subheader(model_names.label(chosen), anchor=False)
        saved.settings_button(PAGE, chosen)
        saved.result(f"{PAGE}_chosen", chosen)


one, two, three, four = st.columns([3, 3, 3, 5], vertical_alignment="bottom")
with one:
    dataset = data_set.choose(PAGE, on_change=apply_epochs)
with two:
    network = controls.field(PAGE, specs.TrainSpec, "network")
with three:
    recipe_name = select(
        PAGE,
        "recipe",
        "Recipe",
        list(specs.RECIPES),
        text=controls.recipe_title,
        help="How the loss of a batch is made: standard training, or training on adversarial examples.",
    )
select(
    PAGE,
    "preset",
    "Preset",
    list(PRESETS),
    text=PRESETS.__getitem__,
    default="fast",
    kind="buttons",
    help="Fills in the settings below. Quick: a quarter of the epochs. Fast: one-cycle SGD, as the bundled models. "
    "The exercise sets: their literal settings.",
    on_change=apply_preset,
)
data: dict[str, Any] = {"dataset": dataset, "classes": None}
if dataset in specs.OWN:
    data |= data_set.own(PAGE, dataset)
elif not sources.present(dataset):
    data_set.absent(dataset, "training")
with st.expander("More settings", icon=":material/tune:"):
    settings = details(data, recipe_name)

data_spec = controls.build(specs.DataSpec, **data)
spec = None
if data_spec is not None:
    spec = controls.build(specs.TrainSpec, data=data_spec, network=network, **settings)
if spec is not None and spec.data.path is not None:
    spec = sources.as_it_is(spec)
model = sources.artifact(spec) if spec is not None else None
job = None if spec is None or model is not None else jobs.of(spec)
with four:
    asked = st.button(
        button_text(spec, done=model is not None),
        type="primary",
        icon=":material/folder_open:" if model is not None else ":material/play_arrow:",
        key=f"{PAGE}_train",
        width="stretch",
        disabled=spec is None or (job is not None and job.live),
        on_click=open_result if model is not None else None,
    )
if asked and spec is not None and model is None:
    jobs.start(spec)
if spec is not None and model is None and job is None and not warm.torch_ready():
    redraw_with_torch()

shown = model or (None if spec is None else instead(spec))
for name, tab in zip(NAMES, tabs.tabs(PAGE, NAMES), strict=True):
    if not tab.open:
        continue
    with tab:
        if spec is not None and model is None:
            jobs.panel(PAGE, spec, live=live if name == RESULT else None)
        if name == NETWORK:
            network_tab(spec, shown)
        elif name == MODELS:
            models_tab()
        elif job is not None and job.live and name == RESULT:
            pass  # its curves so far stand in the panel
        elif shown is None:
            st.info("No model is saved yet. Train one, and its result is shown here.", icon=":material/info:")
        elif name == RESULT:
            if model is None:
                st.caption("These settings are not trained yet. Until then, a saved model that is near to them:")
            st.markdown(f"**{model_names.label(shown)}**", help=model_names.facts(shown))
            saved.result(PAGE, shown, here=model is not None)
        else:
            earlier.show(PAGE, shown)
            references.card(PAGE, shown)
            references.beside(PAGE, shown)
