"""Tabs: only the open one is drawn, and which one that is stands in the address and survives a switch of pages."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest


def script() -> None:
    """Two pages, the first with three tabs (a script of its own: AppTest copies its source)."""
    import streamlit as st

    from ui.form.tabs import tabs

    def first() -> None:
        names = st.session_state.setdefault("names", ["Curves", "Images", "What it costs"])
        for name, tab in zip(names, tabs("page", names, default=st.session_state.get("default")), strict=True):
            if tab.open:
                with tab:
                    st.write(f"drawn: {name}")

    def second() -> None:
        st.write("the other page")

    pages = [st.Page(first, title="First", url_path="first", default=True), st.Page(second, title="Second")]
    where = st.navigation(pages)
    if st.session_state.pop("go", None):
        st.switch_page(pages[1], query_params={"from": "link"})
    if st.session_state.pop("back", None):
        st.switch_page(pages[0], query_params={"from": "link"})
    where.run()


def opened(**query: str) -> AppTest:
    """The page, opened by an address with these parameters."""
    app = AppTest.from_function(script, default_timeout=300)
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def drawn(app: AppTest) -> list[str]:
    """What the page shows."""
    assert not app.exception, app.exception[0].value
    return [element.value for element in app.markdown]


def test_only_the_first_tab_is_drawn_at_first() -> None:
    """All three are offered."""
    app = opened()
    assert [tab.label for tab in app.tabs] == ["Curves", "Images", "What it costs"]
    assert drawn(app) == ["drawn: Curves"]


@pytest.mark.parametrize("name", ["Curves", "Images", "What it costs"])
def test_a_link_opens_a_tab(name: str) -> None:
    """`?page_tab=Images`."""
    assert drawn(opened(page_tab=name)) == [f"drawn: {name}"]


def test_a_nonsense_link_opens_the_first_tab() -> None:
    """And leaves the address clean."""
    app = opened(page_tab="nonsense")
    assert drawn(app) == ["drawn: Curves"]
    assert "page_tab" not in app.query_params


def test_a_tab_is_opened_by_the_session() -> None:
    """As `routes.go` does it; the browser then writes the address by the name of its parameter."""
    app = opened()
    app.session_state["page_tab"] = "Images"
    assert drawn(app.run()) == ["drawn: Images"]
    (row,) = (block for block in app.main if block.type == "tab_container")
    assert row.proto.tab_container.query_param_key == "page_tab"


def test_the_open_tab_survives_a_switch_of_pages() -> None:
    """There and back."""
    app = opened(page_tab="Images")
    app.session_state["go"] = True
    assert drawn(app.run()) == ["the other page"]
    app.session_state["back"] = True
    assert drawn(app.run()) == ["drawn: Images"]


def test_a_tab_that_is_gone_gives_way_to_the_first_one_and_others_stay() -> None:
    """The names of tabs may depend on what there is to show."""
    app = opened(page_tab="Images")
    app.session_state["names"] = ["Images", "What it costs"]
    assert drawn(app.run()) == ["drawn: Images"]
    app.session_state["names"] = ["Curves", "What it costs"]
    assert drawn(app.run()) == ["drawn: Curves"]


def test_another_tab_may_be_open_at_first() -> None:
    """The default."""
    app = AppTest.from_function(script, default_timeout=300)
    app.session_state["default"] = "Images"
    assert drawn(app.run()) == ["drawn: Images"]
