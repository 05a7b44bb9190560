"""Overview: what this is, the five steps, the models that ship and the saved ones, one button where there is none."""

from __future__ import annotations

import streamlit as st

from core import specs
from core.data import folder
from core.storage import bundled
from ui.app import guard, jobs, routes, sources
from ui.form import model_picker
from ui.models import references, saved

PAGE = "overview"

# page → title and what the step is for
STEPS = {
    "train": ("1. Train", "LeNet, a dense network or a CNN, on MNIST, CIFAR-10, the embedded digits or a folder."),
    "generator_attack": ("2. Fool it by drawing", "A one-input network learns to draw a digit that is misread."),
    "sparse_attack": ("3. See the gradient", "The Jacobian as a picture; a few pixels that flip it, or all a little."),
    "epsilon_sweep": ("4. Turn the knob", "Accuracy and confidence against the budget ε, and the images at every ε."),
    "model_comparison": ("5. Compare", "Models under the same attacks, side by side, as a table to take away."),
}


def missing_data() -> None:
    """Say which data sets are not on this machine, why it matters, and how to mend it."""
    absent = [name for name in specs.DATASETS if not sources.present(name)]
    here = [specs.DATASETS[name].title for name in specs.DATASETS if name not in absent]
    st.subheader("Data", anchor=False)
    st.write(f"On this machine: {', '.join(here)}.")
    if not absent:
        return
    titles = ", ".join(specs.DATASETS[name].title for name in absent)
    st.caption(
        f"Not here: {titles}. Training on one of them downloads it into {folder.data_root()}; "
        "everything works on the embedded digits meanwhile."
    )
    if "mnist" in absent:
        with st.expander("MNIST is missing: where it was looked for, and how to mend it", icon=":material/help:"):
            st.write(folder.missing_message("mnist"))


guard.ensure_router()

st.title("Adversarial Lab")
st.write(
    "Train image classifiers, change their images so slightly that they are misread, defend them, and measure what is "
    "left: with every figure's n, seed, norm and interval beside it."
)

with st.grid(5, min_column_width=140):
    for name, (title, text) in STEPS.items():
        with st.container(border=True, height="stretch"):
            st.markdown(f"**{title}**")
            st.caption(text)
            st.space("stretch")
            st.page_link(routes.page(name), label="Open", icon=routes.ROUTES[name].icon, width="stretch")

chosen = references.section(PAGE)
own = [model for model in sources.models() if not bundled.is_copy(model.card)]
if own:
    chosen = saved.saved_models(PAGE, current=chosen, models=own)
if chosen is not None:
    saved.report(PAGE, chosen, current=False)
if not sources.models():
    st.subheader("Saved models", anchor=False)
    st.write("None yet, and the attacks need one. The embedded digits make one in seconds, without a download.")
    jobs.offer(PAGE, model_picker.FIRST, "Train a first model on digits", name="first")
missing_data()
