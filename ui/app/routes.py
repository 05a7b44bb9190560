"""The pages of the dashboard by url path, and links between them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

import streamlit as st
from streamlit.errors import StreamlitAPIException

PROJECT = Path(__file__).resolve().parents[2]
ICON = PROJECT / "ui" / "assets" / "icon.png"


class Route(NamedTuple):
    """All that the rest of the dashboard knows of a page. Its file is `pages/<url path>.py`.

    Attributes:
        section: the heading above its link in the sidebar.
        title: of the link.
        icon: a material icon.
        help: what one can do there; shown at the link.
        lead: the sentence below the page's heading.
        heading: the page's own first line, where it is not the title.
        model_widget: its widget that names the saved model, or models, that it works on; a report on a model then
            links to the page. Empty: none.
    """

    section: str
    title: str
    icon: str
    help: str
    lead: str
    heading: str = ""
    model_widget: str = ""


ROUTES: dict[str, Route] = {
    "playground": Route(
        "",
        "Playground",
        ":material/toys:",
        "Change an image until a network misclassifies it, while you move a slider.",
        model_widget="model",
        lead="Change an image so slightly that a network misclassifies it: move the sliders and watch.",
    ),
    "exercises": Route(
        "",
        "Exercises",
        ":material/school:",
        "The five exercise sets, item by item, with published figures beside yours, and the lab report.",
        lead="Work through the five exercise sets: every item opens the right page with the right settings, "
        "and your figures appear beside the published ones.",
    ),
    "models": Route(
        "Models",
        "All models",
        ":material/dashboard:",
        "See every model, its accuracy, and what is left of it under attack; get data sets.",
        heading="Models",
        lead="See every model on this machine, trained or imported: how accurate it is, and what is left of "
        "that under attack. Choose a row for the report of a model.",
    ),
    "train": Route(
        "Models",
        "Train",
        ":material/model_training:",
        "Train a classifier and see how well it classifies test images.",
        lead="Train a classifier and see how well it classifies test images. What was trained once is kept and loaded.",
    ),
    "add_model": Route(
        "Models",
        "Add a model",
        ":material/upload_file:",
        "Bring a network of your own, as ONNX or as weights, and see what it needs.",
        lead="Bring a network of your own. The program finds out how to prepare its images, and says what it "
        "found; then every page works on it.",
    ),
    "generator_attack": Route(
        "Attacks",
        "Generator attack",
        ":material/draw:",
        "Train a network with one input to draw an image that fools a model.",
        model_widget="model",
        lead="A network with one input, always 1, redraws your sample so that the model classifies it as "
        "another class.",
    ),
    "sparse_attack": Route(
        "Attacks",
        "Jacobian and sparse",
        ":material/grid_on:",
        "See the gradient as a picture; change a few pixels a lot, or all pixels a little.",
        heading="Jacobian and sparse attack",
        model_widget="model",
        lead="Turn an image into another class by changing a few of its pixels. The Jacobian, the derivative "
        "of the output with respect to each pixel, shows which ones.",
    ),
    "masked_attack": Route(
        "Attacks",
        "Glasses and masks",
        ":material/eyeglasses:",
        "Change only the pixels under glasses, under a patch or under your own drawing.",
        model_widget="model",
        lead="Fool a model by changing only the pixels under a pair of glasses, a sticker or a shape that you "
        "draw. The pattern also works when the object moves and the light changes.",
    ),
    "universal": Route(
        "Attacks",
        "Universal perturbation",
        ":material/layers:",
        "Find one perturbation that fools the model on many images, also on new ones.",
        model_widget="model",
        lead="Find one perturbation that fools the model on many images. It is made from some images and "
        "measured on others, beside random noise of the same size.",
    ),
    "epsilon_sweep": Route(
        "Measurement",
        "Epsilon sweep",
        ":material/show_chart:",
        "Plot accuracy and confidence against the perturbation budget ε.",
        model_widget="models",
        lead="See how accuracy falls as an attack may change each pixel by more, and what is proven whatever "
        "the attack.",
    ),
    "model_comparison": Route(
        "Measurement",
        "Model comparison",
        ":material/table_chart:",
        "Compare models under the same attacks.",
        model_widget="models",
        lead="See which model keeps most of its accuracy when its images are attacked, and what is proven of each.",
    ),
    "linear_models": Route(
        "Theory",
        "Linear models",
        ":material/linear_scale:",
        "Study linear models, whose worst perturbation has an exact formula.",
        lead="A linear model can be attacked exactly: see the worst and the smallest change, and how close an "
        "attack comes.",
    ),
}
"""Every page by its url path, in the order of the sidebar. A new page: its file in `pages/`, an entry, its test."""
DEFAULT = "playground"
HIDDEN = {DEFAULT: DEFAULT, "models": "overview"}
"""Pages that answer at another address too: the default page is at the root only; `/overview` is an old address."""


def name_of(path: str) -> str:
    """The page that answers at this url path; the default one where none does."""
    if path in ROUTES:
        return path
    return next((name for name, other in HIDDEN.items() if other == path), DEFAULT)


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

    `HIDDEN` pages answer at a second address.
    """
    found: dict[str, list[st.Page]] = {}
    for name, route in ROUTES.items():
        found.setdefault(route.section, []).append(page(name))
    for name, path in HIDDEN.items():
        route = ROUTES[name]
        file = PROJECT / "pages" / f"{name}.py"
        twin = st.Page(file, title=route.title, icon=route.icon, url_path=path, visibility="hidden", help=route.help)
        found[route.section].append(twin)
    return found


def go(name: str, **state: object) -> None:
    """Open the page `name` with these widget values (keys as the page's widgets have them).

    Give it to a button as `on_click`: a widget of the page on show cannot be set once it is drawn.
    """
    for key, value in state.items():
        st.session_state[key] = value
    # never empty: without parameters of its own, a switch fails where the page left has widgets bound to the address
    address = {key: list(map(str, value)) if isinstance(value, list) else str(value) for key, value in state.items()}
    with contextlib.suppress(StreamlitAPIException):  # the page on show: its widgets write the address themselves
        st.switch_page(page(name), query_params=address or {"from": "link"})
