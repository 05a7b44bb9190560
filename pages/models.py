"""Models: every model on this machine, what is left of its accuracy under attack, and the report of one."""

from __future__ import annotations

from ui.app import guard
from ui.text import literal

guard.ensure_router()

import streamlit as st

from core import access, specs
from core.data import folder
from core.storage import bundled
from ui.app import jobs, routes, sources
from ui.form import missing, model_picker, tabs
from ui.models import references, saved, unreadable

PAGE = "models"


def data() -> None:
    """Draw the data sets: which are on this machine, and how to get the others."""
    for name, info in specs.DATASETS.items():
        channels, height, width = info.shape
        size = f"{height} × {width} pixels, {'grey' if channels == 1 else 'colour'}, {len(info.class_names)} classes"
        if sources.present(name):
            where = "embedded" if info.embedded else "on this machine"
            st.markdown(f":material/check_circle: **{info.title}**: {where}. {size}.")
        else:
            st.markdown(f":material/cloud_download: **{info.title}**: not on this machine. {size}.")
            missing.offer(PAGE, name)
    where = "" if access.is_public() else f"The data folder is {literal(folder.data_root())}. "
    st.caption(f"{where}A folder of your own images can be chosen on the page Train.")


st.page_link(routes.page("add_model"), label="Add a model of your own", icon=routes.ROUTES["add_model"].icon)
own = [model for model in sources.models() if not bundled.is_copy(model.card)]
first = "Bundled" if sources.references() else "Yours"
shown, yours, sets = tabs.tabs(PAGE, ["Bundled", "Yours", "Data sets"], default=first)
with shown:
    if shown.open:
        chosen = references.section(PAGE)
        if chosen is not None:
            saved.report(PAGE, chosen, current=False)
        elif not sources.references():
            st.write("No bundled models are there.")
with yours:
    if yours.open and own:
        picked = saved.saved_models(PAGE, current=None, models=own)
        if picked is not None:
            saved.report(PAGE, picked, current=False)
    elif yours.open:
        st.write(
            "You have not trained or added a model yet. The embedded digits make one in seconds, without a download."
        )
        jobs.offer(PAGE, model_picker.FIRST, "Train a first model on digits", name="first")
if not sets.open:
    unreadable.section()
with sets:
    if sets.open:
        data()
