"""The page on the exercises: sets, items, ticks and answers, the quiz, the costs, the report."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from streamlit.testing.v1 import AppTest

from core.exercises import notes, sets
from core.exercises.items import Link
from ui.app.routes import ROUTES

if TYPE_CHECKING:
    from tests.pages.conftest import Lab

STORE = Path(__file__).resolve().parents[1] / "fixtures" / "artifacts" / "store"
TABS = [f"{number} {one.title}" for number, one in sets.SETS.items()]


def words(app: AppTest) -> str:
    """What stands on the page."""
    kinds = ("markdown", "caption", "html", "info", "subheader", "error", "success")
    return "\n".join(str(getattr(element, "value", element)) for kind in kinds for element in app.main.get(kind))


@pytest.fixture
def done(lab: Lab) -> Lab:
    """A dashboard whose store has real results."""
    shutil.copytree(STORE, lab.root)
    return lab


@pytest.mark.parametrize("tab", [*TABS, "Quiz", "What it costs", "Lab report"])
def test_every_tab_opens_on_an_empty_store(lab: Lab, tab: str) -> None:
    """Nothing is done, nothing is known, and no page breaks."""
    app = lab.open("exercises", exercises_tab=tab)
    assert not app.error
    if tab in TABS:
        one = sets.SETS[TABS.index(tab) + 1]
        assert f"0 of {len(one.items)} done" in words(app)
        for item in one.items:
            assert item.title in words(app)
            assert len([b for b in app.button if str(b.key).startswith(f"exercises_open_{item.name}_")]) == len(
                item.links
            )


@pytest.mark.parametrize("tab", [*TABS, "What it costs", "Lab report"])
def test_every_tab_opens_on_real_results(done: Lab, tab: str) -> None:
    """With pictures, figures and curves of the store."""
    app = done.open("exercises", exercises_tab=tab)
    assert not app.error
    if tab.startswith("2"):
        assert "jacobian_sparse" in words(app)
        assert "4 of 7 done" in words(app)


def test_an_item_is_ticked_by_hand_and_stays_so(lab: Lab) -> None:
    """Only where nothing in the store can tell; the tick is in the store and not in the session."""
    app = lab.open("exercises", exercises_tab=TABS[1])
    ticks = {box.key for box in app.checkbox}
    assert ticks == {"exercises_tick_2.2", "exercises_tick_2.3"}
    app.checkbox(key="exercises_tick_2.3").check().run()
    assert notes.read(lab.root)["ticked"] == {"2.3": True}
    assert "1 of 7 done" in words(app)
    app.checkbox(key="exercises_tick_2.3").uncheck().run()
    assert notes.read(lab.root)["ticked"] == {}


def test_an_answer_goes_into_the_report(done: Lab) -> None:
    """It is kept in the store, and stands in the report."""
    app = done.open("exercises", exercises_tab=TABS[1])
    app.text_area(key="exercises_answer_2.4").set_value("Because the Jacobian is steep there.").run()
    assert notes.read(done.root)["answers"] == {"2.4": "Because the Jacobian is steep there."}
    app = done.open("exercises", exercises_tab="Lab report")
    (button,) = app.get("download_button")
    assert button.proto.label == "Lab report"
    assert "2.4" in words(app)


def test_open_leads_to_the_page_with_its_settings(lab: Lab) -> None:
    """The first button of an item: page and widgets are set."""
    app = lab.open("exercises", exercises_tab=TABS[2])
    app.button(key="exercises_open_3.5_0").click().run()
    assert not app.exception
    assert app.title[0].value == "Train"
    assert app.session_state["train_recipe"] == "fgsm_mix"
    assert app.session_state["train_network"] == "lenet"


def links() -> list[Any]:
    """Every link of every item, once."""
    found: dict[str, tuple[str, Link]] = {}
    for item in sets.items():
        for link in item.links:
            found.setdefault(link.address("mnist"), (item.name, link))
    return [pytest.param(link, id=f"{name}-{link.page}") for name, link in found.values()]


@pytest.mark.sampled(6)
@pytest.mark.parametrize("link", links())
def test_every_link_names_a_page_and_its_widgets(done: Lab, link: Link) -> None:
    """The page is there and draws with these settings, without a model that fits them too."""
    assert link.page in ROUTES
    for key, value in link.settings("digits").items():
        done.app.session_state[key] = value  # as `routes.go` sets them: of the widgets' own types
    done.open(link.page)


def test_quiz_is_answered_and_counted(done: Lab) -> None:
    """Question by question, then both accuracies; the counts are kept in the store, and the item is done."""
    app = done.open("exercises", exercises_tab="Quiz", exercises_quiz_each="2")
    for place in range(14):
        assert "Which digit do you see?" in words(app)
        key = "none" if place == 3 else str(place % 10)
        app.button(key=f"exercises_quiz_{key}").click().run()
        assert not app.exception, app.exception[0].value
    kept = notes.read(done.root)["quiz"]
    assert [row["asked"] for row in kept] == [2] * 7
    assert "You: " in words(app)
    app.button(key="exercises_quiz_again").click().run()
    assert "Which digit do you see?" in words(app)
    assert "2 of 8 done" in words(done.open("exercises", exercises_tab=TABS[4]))


def test_quiz_takes_an_answer_back(done: Lab) -> None:
    """A slip of the finger is no answer."""
    app = done.open("exercises", exercises_tab="Quiz")
    app.button(key="exercises_quiz_7").click().run()
    assert not app.button(key="exercises_quiz_back").disabled
    app.button(key="exercises_quiz_back").click().run()
    assert app.button(key="exercises_quiz_back").disabled
    assert notes.read(done.root)["quiz"] == []
