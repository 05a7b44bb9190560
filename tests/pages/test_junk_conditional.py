"""Junk in the address for widgets that appear only after another choice: each is shown once, and drawn all the same."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages.test_junk_address import JUNK, bound_keys, fresh, plant
from ui.app import routes
from ui.form import select

if TYPE_CHECKING:
    from tests.pages.conftest import Lab

PATIENCE = 5
"""Options of a choice that are tried one after the other without a new widget; the rest are alike."""
METHODS = {"train": 40, "epsilon_sweep": 30, "model_comparison": 30, "masked_attack": 25, "sparse_attack": 15}
"""Widgets that such pages have at least for settings of one method or recipe."""
Choice = dict[str, str]
"""What an address says so that a widget is shown: key → option, as the widget writes it."""


class Walk:
    """Chooses each option of every choice of a page, and of those that appear with it, and notes what is shown.

    seen: key of a widget → the choice that showed it first; empty for what is shown at once.
    """

    def __init__(self, lab: Lab, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lab, self.page = lab, page
        self.seen: dict[str, Choice] = {}
        self.options: dict[str, dict[str, Any]] = {}
        self.runs = 0
        original = select.seed

        def noted(key: str, options: Sequence[Any], text: Callable[[Any], str] = str, **more: Any) -> None:
            self.options[key] = {text(option): [option] if more.get("many") else option for option in options}
            original(key, options, text, **more)

        monkeypatch.setattr(select, "seed", noted)

    def start(self, chosen: Choice) -> AppTest:
        """The page in a new session."""
        self.options.clear()
        self.runs += 1
        return fresh(self.lab, self.page, chosen)

    def all(self) -> None:
        """Every tab."""
        app = self.start({})
        self.note(app, {})
        known: set[str] = {f"{self.page}_tab"}
        self.go(app, {}, known)
        for tab in app.tabs[1:]:
            chosen = {f"{self.page}_tab": tab.label}
            app = self.start(chosen)
            self.note(app, chosen)
            self.go(app, chosen, known)

    def note(self, app: AppTest, chosen: Choice) -> bool:
        """Note what is shown now; whether something of it is new."""
        assert not app.exception, f"{chosen}: {app.exception[0].value}"
        new = set(bound_keys(app, self.page)) - set(self.seen)
        self.seen |= dict.fromkeys(sorted(new), chosen)
        return bool(new)

    def go(self, app: AppTest, chosen: Choice, known: set[str]) -> AppTest:
        """Choose all there is to choose that is not known yet; returns the page as it was at first."""
        for key in self.choices(app):
            if key in known:
                continue
            known.add(key)
            idle = 0
            for text in list(self.options[key]):
                if idle == PATIENCE:
                    break
                if key not in self.choices(app) or text not in self.options[key]:
                    app = self.start(chosen)  # the option before took it away
                now = {**chosen, key: text}
                app = self.choose(app, key, text, now)
                idle = 0 if self.note(app, now) else idle + 1
                app = self.go(app, now, known)
            app = self.start(chosen)
        return app

    def choices(self, app: AppTest) -> list[str]:
        """Keys of the choices that can be made now; those of a toggle have their options noted here."""
        found = []
        for kind in ("selectbox", "multiselect", "button_group", "toggle"):
            for box in app.main.get(kind):
                if kind == "toggle":
                    self.options[str(box.key)] = {"true": True, "false": False}
                if not box.proto.disabled and str(box.key) in self.options:
                    found.append(str(box.key))
        return found

    def choose(self, app: AppTest, key: str, text: str, now: Choice) -> AppTest:
        """Choose an option."""
        kinds = ("selectbox", "multiselect", "button_group", "toggle")
        (box,) = (one for kind in kinds for one in app.main.get(kind) if one.key == key)
        self.runs += 1
        try:
            return box.set_value(self.options[key][text]).run()
        except AssertionError:  # AppTest does not follow what a fragment draws into a place outside
            return self.start(now)


@pytest.mark.slow
@pytest.mark.parametrize("page", list(routes.ROUTES))
def test_a_widget_that_appears_later_takes_no_junk(lab: Lab, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together with the choice that shows it, every such widget has junk in the address, twice; counts are printed."""
    plant(lab)
    walk = Walk(lab, page, monkeypatch)
    walk.all()
    later = {key: chosen for key, chosen in walk.seen.items() if set(chosen) - {f"{page}_tab"}}
    together: dict[str, list[str]] = {}
    for key, chosen in later.items():
        together.setdefault(json.dumps(chosen), []).append(key)
    refused = 0
    for text, keys in together.items():
        for turn in (0, len(JUNK) // 2):
            junk = {key: JUNK[(list(later).index(key) + turn) % len(JUNK)] for key in keys}
            app = walk.start({**json.loads(text), **junk})
            assert set(keys) <= set(bound_keys(app, page)), f"{text}: a widget is gone"
            refused += len(app.warning)
            assert "![a](http" not in " ".join(element.value for element in (*app.warning, *app.error, *app.markdown))
    said = f"{page}: {len(walk.seen)} widgets, {len(later)} after one of {len(together)} choices; {walk.runs} runs"
    sys.stdout.write(f"{said}\n")  # with `pytest -rP`
    assert refused or not later
    if page in METHODS:
        assert len(later) >= METHODS[page], "the walk finds the settings of methods and recipes"
