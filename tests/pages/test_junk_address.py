"""Whatever an address says: the page is drawn, what makes no sense is ignored, and a note says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages.test_address import INPUTS
from ui.app import routes

if TYPE_CHECKING:
    from tests.pages.conftest import Lab

JUNK: tuple[str | list[str], ...] = (
    *("inf", "-inf", "nan", "-1", "0", "7.5", "1e15", "1e400", "9" * 5000, "", "None", "true", "[]"),
    *("x" * 5000, "<b>x</b>![a](http://evil.example/a.png)", "ü\u202e\x00²٣", "no-such-id", "../../etc/passwd"),
    *(["1", "2"], ["inf", ""], ["a", "a", "b"]),
)
"""Values of every kind that no widget, or only some kinds of widgets, can have."""


def every_kind() -> None:
    """One widget of every kind that is bound (a script of its own: AppTest copies this function's source)."""
    import streamlit as st

    from ui.form import bound
    from ui.form.select import select, select_many
    from ui.form.tabs import tabs

    options = ["fgsm", "pgd"]
    values = {
        "whole_slider": bound.slider("A", key="p_whole_slider", value=3, min_value=1, max_value=9),
        "slider": bound.slider("B", key="p_slider", value=0.5, min_value=0.25, max_value=1.0),
        "whole": bound.number_input("C", key="p_whole", whole=True, value=3, min_value=1, max_value=9),
        "whole_open": bound.number_input("D", key="p_whole_open", whole=True, value=3),
        "real": bound.number_input("E", key="p_real", whole=False, value=0.5, min_value=0.25),
        "may_be_empty": bound.number_input("F", key="p_may_be_empty", whole=True, value=None, min_value=1),
        "text": bound.text_input("G", key="p_text", value="text"),
        "short": bound.text_input("H", key="p_short", max_chars=40),
        "toggle": bound.toggle("I", key="p_toggle"),
        "buttons": select("p", "buttons", "J", options, kind="buttons"),
        "list": select("p", "list", "K", options, kind="list"),
        "named": select("p", "named", "L", options, kind="list", named=True),
        "stops": select("p", "stops", "M", options, kind="slider"),
        "many": select_many("p", "many", "N", options, default=["pgd"]),
        "pills": select_many("p", "pills", "O", options, kind="pills"),
    }
    shown = tabs("p", ["One", "Two"])
    st.session_state["values"] = {**values, "tab": [tab.open for tab in shown]}


def fits(name: str, value: Any) -> bool:
    """Whether a widget of `every_kind` can have this value."""
    kinds = {
        "whole_slider": lambda: isinstance(value, int) and 1 <= value <= 9,
        "slider": lambda: isinstance(value, float) and 0.25 <= value <= 1,
        "whole": lambda: isinstance(value, int) and 1 <= value <= 9,
        "whole_open": lambda: isinstance(value, int),
        "real": lambda: isinstance(value, float) and 0.25 <= value < float("inf"),
        "may_be_empty": lambda: value is None or (isinstance(value, int) and value >= 1),
        "text": lambda: isinstance(value, str) and len(value) <= 2000 and "\x00" not in value,
        "short": lambda: isinstance(value, str) and len(value) <= 40 and "\x00" not in value,
        "toggle": lambda: isinstance(value, bool),
        "many": lambda: set(value) <= {"fgsm", "pgd"},
        "pills": lambda: set(value) <= {"fgsm", "pgd"},
        "tab": lambda: sum(value) == 1,
    }
    return bool(kinds.get(name, lambda: value in ("fgsm", "pgd"))())


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:30])
def test_every_kind_of_widget_takes_what_it_can_have_or_its_default(junk: str | list[str]) -> None:
    """Each value for every kind; what is ignored is named in a note, with what was expected."""
    app = AppTest.from_function(every_kind, default_timeout=300).run()
    default = app.session_state["values"]
    app = AppTest.from_function(every_kind, default_timeout=300)
    for name in default:
        app.query_params[f"p_{name}"] = junk
    app.run()
    assert not app.exception
    values = app.session_state["values"]
    assert [name for name, value in values.items() if not fits(name, value)] == []
    noted = " ".join(warning.value for warning in app.warning)
    labels = dict(zip(default, [*"ABCDEFGHIJKLMNO", "the tab"], strict=True))
    for name, label in labels.items():
        unknown = f"The address sets {label} to" in noted
        empty_choice = junk == "" and name in ("many", "pills", "text", "short", "may_be_empty")
        if not unknown and not empty_choice:
            taken = values[name]
            assert taken in (junk, junk == "true") or float(str(junk)) == taken, f"{name}: ignored without a note"
    assert "![a](" not in noted, "what the address says is no Markdown"
    assert "Expected" in noted


def test_a_note_stays_until_its_setting_is_changed() -> None:
    """A page may be run again at once, as by a component of the browser."""

    def script() -> None:
        from ui.app import refused
        from ui.form import bound

        refused.place("")
        bound.number_input("Images", key="p_n", whole=True, value=3, min_value=1, max_value=9)

    app = AppTest.from_function(script, default_timeout=300)
    app.query_params["p_n"] = "inf"
    app.run()
    told = "The address sets Images to “inf”. Expected a whole number from 1 to 9; the page ignores it."
    assert [warning.value for warning in app.run().warning] == [told]
    app.number_input(key="p_n").set_value(5).run()
    assert not app.run().warning


def bound_keys(app: AppTest, page: str) -> list[str]:
    """The keys of the widgets on show that take a value from the address."""
    kinds = (kind for kind in INPUTS if kind not in ("pills", "segmented_control", "tabs"))
    drawn = [widget for kind in (*kinds, "button_group") for widget in app.main.get(kind)]
    own = {"playground": ["playground_eps", "playground_target", "playground_drawing"]}.get(page, [])
    return [str(widget.key) for widget in drawn if getattr(widget.proto, "query_param_key", "")] + own


def fresh(lab: Lab, page: str, query: dict[str, Any]) -> AppTest:
    """The page in a new session, which begins there."""
    from tests.pages.conftest import PROJECT

    lab.app = AppTest.from_file(str(PROJECT / "dashboard.py"), default_timeout=300)
    for name, value in query.items():
        lab.app.query_params[name] = value
    lab.app.switch_page(f"pages/{page}.py").run()
    assert not lab.app.exception, f"{query}: {lab.app.exception[0].value}"
    return lab.app


def plant(lab: Lab) -> None:
    """Models of each kind, so that pages draw all they have."""
    lab.model()
    lab.model(network="lenet")
    lab.model(data={"dataset": "digits", "classes": (4, 9)}, scalar=True)
    lab.imported()


def crossed(lab: Lab, page: str, query: dict[str, Any], turns: range) -> None:
    """Open the page with every key set to junk, each time to another piece; `fresh` allows no exception."""
    keys = [*bound_keys(fresh(lab, page, query), page), f"{page}_tab"]
    for turn in turns:
        values = {key: JUNK[(place + turn) % len(JUNK)] for place, key in enumerate(keys)}
        app = fresh(lab, page, {**values, **query})
        for element in (*app.markdown, *app.caption, *app.warning, *app.error, *app.info):
            assert "![a](http" not in element.value, element.value[:200]


@pytest.mark.parametrize("page", list(routes.ROUTES))
def test_a_page_is_drawn_whatever_its_address_says(lab: Lab, page: str) -> None:
    """Its first view, every setting with junk."""
    plant(lab)
    crossed(lab, page, {}, range(0, len(JUNK), 8))


@pytest.mark.slow
@pytest.mark.parametrize("page", list(routes.ROUTES))
def test_every_tab_of_a_page_is_drawn_with_junk_in_every_setting(lab: Lab, page: str) -> None:
    """Every tab, every widget, and every value on one of three tabs that follow each other."""
    plant(lab)
    labels = [tab.label for tab in fresh(lab, page, {}).tabs]
    for place, query in enumerate([{}, *({f"{page}_tab": label} for label in labels[1:])]):
        crossed(lab, page, query, range(place % 3, len(JUNK), 3))
