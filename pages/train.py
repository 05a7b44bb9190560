"""Train: data, network and recipe → a saved model, its curves, its confusion matrix, and the way on to the attacks."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core import specs
from core.data.folder import missing_message
from core.figures.base import running_loss, training_curves
from core.jobs import queue
from ui.app import guard, jobs, sources, warm
from ui.form import controls
from ui.form.select import KEEP, select, select_many
from ui.models import saved
from ui.show import elements
from ui.text import class_text, say

PAGE = "train"


def chosen_preset() -> dict[str, Any]:
    """Settings of the preset that is chosen, for the data set that is chosen."""
    name = st.session_state.get(f"{PAGE}_preset", "fast")
    return specs.preset(name, st.session_state.get(f"{PAGE}_dataset", sources.start_data()))


def apply_preset() -> None:
    """Put the preset's settings into the form's widgets."""
    defaults = {name: specs.TrainSpec.model_fields[name].default for name in saved.OPTIMISER if name != "seed"}
    for name, value in {**defaults, **chosen_preset()}.items():
        st.session_state[f"{PAGE}_{name}"] = value


def apply_epochs() -> None:
    """Set the number of epochs that the preset has for the chosen data set."""
    if "epochs" in chosen_preset():
        st.session_state[f"{PAGE}_epochs"] = chosen_preset()["epochs"]


def choose_data() -> dict[str, Any]:
    """Draw the choice of data set and classes, and return the arguments of a DataSpec."""
    names = [*specs.DATASETS, "folder"]
    left, right = st.columns([1, 2])
    with left:
        dataset = controls.field(
            PAGE, specs.DataSpec, "dataset", options=names, default=sources.start_data(), on_change=apply_epochs
        )
    if dataset == "folder":
        with right:
            folder = controls.field(PAGE, specs.DataSpec, "folder")
        size, grey, classes = st.columns(3, vertical_alignment="bottom")
        with size:
            image_size = controls.field(PAGE, specs.DataSpec, "image_size")
        with grey:
            is_grey = controls.field(PAGE, specs.DataSpec, "grey")
        with classes:
            text = st.text_input(
                "Classes", key=f"{PAGE}_class_numbers", placeholder="all; or numbers, such as 0 3", **KEEP
            )
        chosen = tuple(text.replace(",", " ").split()) or None
        st.caption(
            "One folder per class, either inside `train/` and `test/` (with `val/` if there is one), or side by side: "
            "then a fifth of every class becomes the test part."
        )
        return {"dataset": dataset, "folder": folder, "image_size": image_size, "grey": is_grey, "classes": chosen}
    info = specs.DATASETS[dataset]
    with right:
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
    if not sources.present(dataset):
        megabytes = info.download_size / 1e6
        st.warning(
            f"{info.title} is not on this machine: training downloads it first ({megabytes:.0f} MB), if it can.",
            icon=":material/cloud_download:",
        )
        with st.expander("Where it was looked for, and other ways"):
            st.write(missing_message(dataset))
    return {"dataset": dataset, "classes": tuple(kept) or None}


@st.fragment(run_every=1.0)
def facts_later(spec: specs.TrainSpec) -> None:
    """Wait for torch, which is being imported in the background, then draw the facts once."""
    if warm.torch_ready():
        st.rerun()
    st.caption("Layers and expected time follow in a moment: PyTorch is being loaded.")


def facts(spec: specs.TrainSpec) -> None:
    """Draw the layer table and the expected training time of a model that is not trained yet."""
    seconds = sources.expected_seconds(spec)
    layers = sources.layers_of(spec)
    parts = []
    if layers:
        parts.append(f"{sum(layer.parameters for layer in layers):,} parameters")
    if seconds is not None:
        parts.append(f"about {jobs.duration(seconds)} on this machine's {'GPU' if sources.on_gpu() else 'CPU'}")
    st.caption(" · ".join(parts) or "How long this takes is known once the folder is read.")
    if layers:
        with st.expander(f"Layers of {say(spec.network)}", icon=":material/layers:"):
            saved.layer_table([vars(layer) for layer in layers])


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


guard.ensure_router()

st.title("Train")
st.write("Train a classifier, see how well it reads, and keep it: what was trained once is loaded the next time.")

with st.container(border=True):
    data = choose_data()
    left, middle, right = st.columns([2, 1, 2], vertical_alignment="bottom")
    with left:
        network = controls.field(PAGE, specs.TrainSpec, "network")
    two = data["dataset"] == "folder" or len(data["classes"] or ()) == 2
    with middle:
        scalar = controls.field(PAGE, specs.TrainSpec, "scalar", disabled=not two) and two
    with right:
        select(
            PAGE,
            "preset",
            "Preset",
            list(specs.PRESETS),
            text=specs.PRESET_TITLES.__getitem__,
            kind="list",
            help="Fills in the settings below, which may then be changed.",
            on_change=apply_preset,
        )
    recipe = controls.recipe_choice(PAGE)
    with st.form(f"{PAGE}_form", border=False):
        recipe |= controls.recipe_settings(PAGE, recipe["name"])
        settings = controls.fields(PAGE, specs.TrainSpec, saved.OPTIMISER, defaults=chosen_preset())
        asked = st.form_submit_button("Train", type="primary", icon=":material/play_arrow:")

    data_spec = controls.build(specs.DataSpec, **data)
    spec = None
    if data_spec is not None:
        spec = controls.build(
            specs.TrainSpec, data=data_spec, network=network, scalar=scalar, recipe=recipe, **settings
        )

    if spec is not None and spec.data.dataset == "folder":
        spec = sources.as_it_is(spec)
    model = sources.artifact(spec) if spec is not None else None
    if model is not None:
        st.caption("A model with these settings is saved: its report is below, and there is nothing to train.")
    elif spec is not None and jobs.of(spec) is None:
        if warm.torch_ready():
            facts(spec)
        else:
            facts_later(spec)

if asked and spec is not None and model is None:
    st.session_state.pop(f"{PAGE}_saved", None)
    jobs.start(spec)

if spec is not None and model is None:
    jobs.panel(PAGE, spec, live=live)

chosen = saved.saved_models(PAGE, current=model)
if chosen is not None:
    saved.report(PAGE, chosen, current=chosen == model)
