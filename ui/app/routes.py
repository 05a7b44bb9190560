"""The pages of the dashboard by url path, and links between them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import streamlit as st

PROJECT = Path(__file__).resolve().parents[2]
ICON = PROJECT / "ui" / "assets" / "icon.png"


class Route(NamedTuple):
    """One page: its file in `pages/` is `<url path>.py`."""

    section: str
    title: str
    icon: str
    help: str


ROUTES: dict[str, Route] = {
    "overview": Route("", "Overview", ":material/dashboard:", "What this is, the five steps, and the saved models."),
    "train": Route("Models", "Train", ":material/model_training:", "Train a classifier and look at how well it reads."),
    "generator_attack": Route(
        "Attacks", "Generator attack", ":material/draw:", "A one-input network learns to draw images that fool a model."
    ),
    "sparse_attack": Route(
        "Attacks",
        "Jacobian and sparse",
        ":material/grid_on:",
        "The gradient as a picture; few pixels, or all a little.",
    ),
    "masked_attack": Route(
        "Attacks", "Glasses and masks", ":material/eyeglasses:", "Change only what glasses, a patch or a drawing cover."
    ),
    "universal": Route(
        "Attacks", "Universal perturbation", ":material/layers:", "One change that fools many images, also new ones."
    ),
    "epsilon_sweep": Route(
        "Measurement", "Epsilon sweep", ":material/show_chart:", "Accuracy and confidence against the budget ε."
    ),
    "model_comparison": Route(
        "Measurement", "Model comparison", ":material/table_chart:", "Models side by side under the same attacks."
    ),
    "linear_models": Route(
        "Theory",
        "Linear models",
        ":material/linear_scale:",
        "The case that can be solved exactly, and what it teaches.",
    ),
}
DEFAULT = "overview"


def configure() -> None:
    """Set the browser's icon and the layout. Call it before `st.navigation`.

    The browser takes a page's own material icon for its tab's icon, and fetches that from another host, unless an icon
    was set before.
    """
    st.set_page_config(page_icon=str(ICON), layout="wide")


def page(name: str) -> st.Page:
    """The page with this url path, for `st.navigation`, `st.page_link` and `st.switch_page`."""
    route = ROUTES[name]
    return st.Page(
        PROJECT / "pages" / f"{name}.py",
        title=route.title,
        icon=route.icon,
        url_path="home" if name == DEFAULT else name,
        default=name == DEFAULT,
        help=route.help,
    )


def sections() -> dict[str, list[st.Page]]:
    """All pages by section, as `st.navigation` wants them.

    The default page answers at the root only, so a hidden twin answers at `/overview`.
    """
    found: dict[str, list[st.Page]] = {}
    for name, route in ROUTES.items():
        found.setdefault(route.section, []).append(page(name))
    first = ROUTES[DEFAULT]
    twin = st.Page(
        PROJECT / "pages" / f"{DEFAULT}.py",
        title=first.title,
        icon=first.icon,
        url_path=DEFAULT,
        visibility="hidden",
        help=first.help,
    )
    found[first.section].append(twin)
    return found


def go(name: str, **state: object) -> None:
    """Open the page `name` with these widget values (keys as the page's widgets have them).

    Give it to a button as `on_click`: a widget of the page on show cannot be set once it is drawn.
    """
    for key, value in state.items():
        st.session_state[key] = value
    # never empty: without parameters of its own, a switch fails where the page left has widgets bound to the address
    address = {key: list(map(str, value)) if isinstance(value, list) else str(value) for key, value in state.items()}
    st.switch_page(page(name), query_params=address or {"from": "link"})
