"""The choice of one option and of several: its kinds, links that name options, and options that are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from streamlit.testing.v1 import AppTest

from ui.show import model_names

if TYPE_CHECKING:
    from tests.pages.conftest import Lab


def script() -> None:
    """A page with two choices; their options stand in the session (a script of its own: AppTest copies its source)."""
    import streamlit as st

    from ui.form.select import select, select_many

    offered = st.session_state.setdefault("offered", ["fgsm", "pgd", "ddn"])
    words = st.session_state.setdefault("words", {"fgsm": "FGSM", "pgd": "PGD", "ddn": "DDN", "apgd": "APGD"})
    kind = st.session_state.get("kind", "fitting")
    st.session_state["one"] = select(
        "page", "one", "One", offered, text=words.__getitem__, default="pgd", kind=kind, help="Which one."
    )
    st.session_state["many"] = select_many("page", "many", "Many", offered, text=words.__getitem__, default=["fgsm"])


def opened(**query: str | list[str]) -> AppTest:
    """The page, opened by an address with these parameters."""
    app = AppTest.from_function(script, default_timeout=300)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def test_defaults_are_chosen_at_first() -> None:
    """Without an address."""
    app = opened()
    assert app.session_state["one"] == "pgd"
    assert app.session_state["many"] == ["fgsm"]


@pytest.mark.parametrize("kind", ["buttons", "list", "slider"])
def test_every_kind_keeps_what_is_chosen(kind: str) -> None:
    """A choice is returned, and kept at the next run."""
    app = AppTest.from_function(script, default_timeout=300)
    app.session_state["kind"] = kind
    app.run()
    widget = {"buttons": app.segmented_control, "list": app.selectbox, "slider": app.select_slider}[kind](
        key="page_one"
    )
    assert (widget.label, widget.help) == ("One", "Which one.")
    widget.set_value("ddn").run()
    assert app.session_state["one"] == "ddn"
    assert app.run().session_state["one"] == "ddn"


def test_few_short_options_are_buttons_and_many_are_a_list() -> None:
    """The fitting kind."""
    app = opened()
    assert [widget.key for widget in app.segmented_control] == ["page_one"]
    app.session_state["words"] = {name: 20 * name for name in ("fgsm", "pgd", "ddn")}
    assert [widget.key for widget in app.run().selectbox] == ["page_one"]


@pytest.mark.parametrize("given", ["ddn", "DDN"])
def test_a_link_names_an_option_as_specs_or_as_the_page_do(given: str) -> None:
    """`?page_one=ddn` and what the widget itself writes."""
    app = opened(page_one=given, page_many=[given, "pgd"] if given == "ddn" else [given, "PGD"])
    assert app.session_state["one"] == "ddn"
    assert app.session_state["many"] == ["ddn", "pgd"]
    assert app.query_params["page_one"] in ("DDN", ["DDN"]), "the address goes on to say it"
    assert app.query_params["page_many"] == ["DDN", "PGD"]


def test_a_nonsense_link_falls_back_to_the_default() -> None:
    """Nothing breaks."""
    app = opened(page_one="nonsense", page_many="nonsense")
    assert app.session_state["one"] == "pgd"


def test_chosen_options_that_are_gone_are_replaced_or_forgotten() -> None:
    """One: by the default, or where that is gone too, by the first option. Several: those that are left stay chosen."""
    app = opened(page_one="ddn", page_many=["fgsm", "ddn"])
    app.session_state["offered"] = ["fgsm", "pgd"]
    app.run()
    assert app.session_state["one"] == "pgd"
    assert app.session_state["many"] == ["fgsm"]
    app.session_state["offered"] = ["apgd", "fgsm"]
    app.run()
    assert app.session_state["one"] == "apgd"


def test_a_choice_survives_new_words_for_its_options() -> None:
    """The option stays chosen under its new text."""
    app = opened(page_one="ddn")
    app.session_state["words"] = {"fgsm": "a", "pgd": "b", "ddn": "c"}
    app.run()
    assert app.session_state["one"] == "ddn"
    assert app.get_by_key("page_one").value == "ddn"


@pytest.mark.parametrize(
    ("page", "key", "given", "kept"),
    [
        ("train", "train_network", "mlp", "Dense network, 256-128"),
        ("generator_attack", "generator_attack_mode", "generator_strong", "strong: the nearest image"),
    ],
)
def test_what_a_link_chose_by_its_plain_name_stays_in_the_address(
    lab: Lab, page: str, key: str, given: str, kept: str
) -> None:
    """So that a reload, and Back, find it again."""
    lab.model(network="lenet")
    app = lab.open(page, **{key: given})
    assert app.query_params[key] in (kept, [kept])
    assert app.run().query_params[key] in (kept, [kept])


def test_a_link_to_a_model_stays_in_the_address_even_where_it_is_the_default(lab: Lab) -> None:
    """The default may be another model tomorrow."""
    model = lab.model(network="lenet")
    app = lab.open("generator_attack", generator_attack_model=model.id)
    assert app.selectbox(key="generator_attack_model").value == model.id
    assert model_names.name(model) in app.query_params["generator_attack_model"]
