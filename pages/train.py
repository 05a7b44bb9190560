"""Train: data, network and recipe → a saved model, its curves, its confusion matrix, and the way on to the attacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from core import specs
from core.data.folder import missing_message
from core.figures.base import running_loss, training_curves
from core.jobs import queue
from core.storage import store
from ui.app import guard, jobs, sources, warm
from ui.form import controls, tabs
from ui.form.select import KEEP, select, select_many
from ui.models import earlier, references, saved
from ui.show import elements, model_names
from ui.text import class_text, counted, say

PAGE = "train"
RESULT, EARLIER, NETWORK, MODELS = NAMES = ["Result", "Against earlier ones", "Network", "Your models"]
PRESETS = {"quick": "Quick", "fast": "Fast", "set3": "Exercise set 3", "set5": "Exercise set 5"}


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


def choose_folder() -> dict[str, Any]:
    """Draw the settings of a folder of images, and return them as arguments of a DataSpec."""
    folder = controls.field(PAGE, specs.DataSpec, "folder")
    size, grey, classes = st.columns(3, vertical_alignment="bottom")
    with size:
        image_size = controls.field(PAGE, specs.DataSpec, "image_size")
    with grey:
        is_grey = controls.field(PAGE, specs.DataSpec, "grey")
    with classes:
        chosen = class_numbers()
    st.caption(
        "One folder per class, either inside `train/` and `test/` (with `val/` if there is one), or side by side: "
        "then a fifth of every class becomes the test part."
    )
    return {"folder": folder, "image_size": image_size, "grey": is_grey, "classes": chosen}


def choose_file() -> dict[str, Any]:
    """Draw the settings of a file of images, and return them as arguments of a DataSpec."""
    path, classes = st.columns([2, 1], vertical_alignment="bottom")
    with path:
        file = controls.field(PAGE, specs.DataSpec, "file")
    with classes:
        chosen = class_numbers()
    st.caption(
        "A `.npz` file of NumPy with `x_train`, `y_train`, `x_test` and `y_test`: images as uint8 0 to 255 or float in "
        "[0, 1], classes as whole numbers; `class_names` if you like."
    )
    return {"file": file, "classes": chosen}


def class_numbers() -> tuple[str, ...] | None:
    """Draw the choice of classes by their numbers; None: all."""
    text = st.text_input("Classes", key=f"{PAGE}_class_numbers", placeholder="all; or numbers, such as 0 3", **KEEP)
    return tuple(text.replace(",", " ").split()) or None


def absent(dataset: str) -> None:
    """Say that a data set is not on this machine yet."""
    info = specs.DATASETS[dataset]
    megabytes = info.download_size / 1e6
    st.warning(
        f"{info.title} is not on this machine: training downloads it first ({megabytes:.0f} MB), if it can.",
        icon=":material/cloud_download:",
    )
    with st.expander("Where it was looked for, and other ways"):
        st.write(missing_message(dataset))


def choose_classes(dataset: str) -> tuple[int, ...] | None:
    """Draw the choice of some of a data set's classes; None: all."""
    info = specs.DATASETS[dataset]
    kept = select_many(
        PAGE,
        f"{dataset}_classes",
        "Classes",
        list(range(len(info.class_names))),
        text=lambda number: class_text(number, info.class_names),
        placeholder="all classes",
        help="Keep only these classes, numbered anew in this order. With two, such as 4 and 9, a single-output "
        "network is possible too.",
    )
    return tuple(kept) or None


def details(data: dict[str, Any], recipe: str) -> dict[str, Any]:
    """Draw the settings that are folded away; returns arguments of a TrainSpec, and `classes` of the data."""
    found: dict[str, Any] = {}
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    if data["dataset"] not in specs.OWN:
        with left:
            data["classes"] = choose_classes(data["dataset"])
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
        theirs = sources.model_spec(model)
        same = (theirs.data, theirs.network, theirs.recipe.name) == (spec.data, spec.network, spec.recipe.name)
        if same and theirs.batch_size == spec.batch_size:
            return float(model.card["timing"]["seconds"]) / theirs.epochs * spec.epochs
    return None


@st.fragment(run_every=1.0)
def redraw_with_torch() -> None:
    """Wait for torch, which is being imported in the background, then draw the page once more with times and layers."""
    if warm.torch_ready():
        st.rerun()


def instead(spec: specs.TrainSpec) -> store.Artifact | None:
    """The saved model that is nearest to settings that are not trained yet: of the same data, network and recipe."""

    def rank(model: store.Artifact) -> tuple[bool, bool, bool]:
        theirs = sources.model_spec(model)
        return theirs.data == spec.data, theirs.network == spec.network, theirs.recipe.name == spec.recipe.name

    return max(sources.models(), key=rank, default=None)


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


def _same_layers(one: specs.TrainSpec, other: specs.TrainSpec) -> bool:
    return (one.network, one.data, one.scalar) == (other.network, other.data, other.scalar)


def models_tab() -> None:
    """Draw the table of all saved models, and the chosen one in short."""
    chosen = saved.saved_models(PAGE, current=None)
    if chosen is not None:
        st.subheader(model_names.label(chosen), anchor=False)
        saved.settings_button(PAGE, chosen)
        saved.result(f"{PAGE}_chosen", chosen)


guard.ensure_router()

st.title("Train")
st.write("Train a classifier and see how well it classifies test images. What was trained once is kept and loaded.")

one, two, three, four = st.columns([3, 3, 3, 4], vertical_alignment="bottom")
with one:
    dataset = controls.field(
        PAGE,
        specs.DataSpec,
        "dataset",
        options=[*specs.DATASETS, *specs.OWN],
        default=sources.start_data(),
        on_change=apply_epochs,
    )
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
if dataset == "folder":
    data |= choose_folder()
elif dataset == "file":
    data |= choose_file()
elif not sources.present(dataset):
    absent(dataset)
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
