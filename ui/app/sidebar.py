"""The sidebar of every page: a card for each running job, what is done since, the device, the data sets at hand."""

from __future__ import annotations

import os
import shutil

import streamlit as st

from core import access, specs
from core.data import folder
from core.jobs.shards import engines
from core.storage import store
from ui.app import browser, endings, jobs, routes, signin, warm
from ui.text import literal

_STYLE = """<style>
[data-testid=stSliderThumbValue], [data-testid=stSliderThumbValue] p, button[data-variant][aria-checked=true] p {
    color: light-dark(#2b5ea7, #8ab2f0);
}
</style>"""
"""Text in the primary colour: on dark paper that colour, dark enough for white text on buttons, is too dark to read."""


def show() -> None:
    """Draw the sidebar below the navigation."""
    st.html(_STYLE)
    st.logo(str(routes.ICON), size="large")
    with st.sidebar:
        _navigation()
        found = jobs.live_jobs()
        live = tuple(job.id for job in found)
        if live:
            waiting = sum(job.state == "waiting" for job in found)
            counts = {"running": len(live) - waiting, "waiting": waiting}
            st.caption(" · ".join(f"{count} {what}" for what, count in counts.items() if count))
            jobs.cards(live)
        for one in endings.announce(live, jobs.describe)[-3:]:
            st.page_link(routes.page(one.page), label=f"Done: {one.text}", icon=":material/check_circle:")
        st.caption(
            f"**Device** {device()}{_engine()}  \n**Data** {_data()}",
            help=None if access.is_public() else f"Data folder: {folder.data_root()}",
        )
        signin.show()
        browser.show(endings.page_on_show(), endings.arrived())


def _navigation() -> None:
    """Draw a link to each page, by section. Streamlit's own list has no roles that a screen reader understands."""
    with st.container(gap="xsmall", key="navigation"):
        section = ""
        for name, route in routes.ROUTES.items():
            if route.section != section:
                section = route.section
                st.caption(f"**{section}**")
            st.page_link(routes.page(name), width="stretch")


def device() -> str:
    """The device that models run on, as far as it is known without importing torch."""
    cores = f"CPU, {os.cpu_count()} threads"
    if warm.torch_ready():
        from core.jobs import devices

        found = devices.first()
        return cores if found == devices.CPU else f"{devices.name(found)} (CUDA)"
    return "GPU" if shutil.which("nvidia-smi") else cores


def _engine() -> str:
    """Where jobs judge many images, if the environment says so: its machines and devices."""
    found = engines.described(store.default_root())
    return f"  \n**Engine** {literal(found)}" if found else ""


def _data() -> str:
    """The data sets that can be read without a download."""
    return ", ".join(info.title for name, info in specs.DATASETS.items() if folder.is_present(name))
