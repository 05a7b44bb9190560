"""Back, a reload and a link bring a page back as it was: every widget that changes what is shown is in the address."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ui.app import routes

if TYPE_CHECKING:
    from tests.pages.conftest import Lab

INPUTS = (
    *("checkbox", "toggle", "slider", "select_slider", "selectbox", "multiselect", "radio", "pills", "tabs"),
    *("segmented_control", "number_input", "text_input", "text_area", "color_picker", "date_input", "time_input"),
)
NOT_IN_THE_ADDRESS = {
    "ui/app/projector.py:toggle": "it writes `projector=1` itself, which is short to type on any page",
    "ui/exercises/cards.py:checkbox": "whether an item was done belongs to the reader, and is kept in the store",
    "ui/exercises/cards.py:text_area": "the reader's own answer, as long as it likes",
    "ui/exercises/hand_in.py:text_input": "a name is nothing to pass on with a link",
    "ui/measure/audit_views.py:text_area": "a table that was pasted in, too long for an address",
}
"""`file:widget` of what is left out, and why."""


def _calls() -> Iterator[tuple[str, ast.Call]]:
    """Each call of a widget, of Streamlit or of a container."""
    for folder in ("ui", "pages"):
        for path in sorted((routes.PROJECT / folder).rglob("*.py")):
            nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
            imported = {
                alias.asname or alias.name
                for node in nodes
                if isinstance(node, ast.Import | ast.ImportFrom)
                for alias in node.names
                if alias.asname != "st"
            }
            for node in nodes:
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in INPUTS:
                    base = node.func.value
                    if not (isinstance(base, ast.Name) and base.id in imported):
                        yield f"{path.relative_to(routes.PROJECT).as_posix()}:{node.func.attr}", node


def _is_bound(call: ast.Call) -> bool:
    """By `**KEEP`, or by the arguments that a function of ui.form has put together, or in words."""
    unpacked = [part.value for part in call.keywords if part.arg is None]
    if any(isinstance(value, ast.Name) and value.id in ("KEEP", "common") for value in unpacked):
        return True
    return any(part.arg == "bind" for part in call.keywords)


def test_every_input_is_bound_to_the_address() -> None:
    """Wherever it is drawn."""
    found = list(_calls())
    assert len(found) > 15, "the search finds the widgets"
    loose = [f"{name} (line {call.lineno})" for name, call in found if not _is_bound(call)]
    unknown = [name for name in loose if name.split(" ")[0] not in NOT_IN_THE_ADDRESS]
    assert not unknown, "add **KEEP, or a reason to NOT_IN_THE_ADDRESS"
    assert {name.split(" ")[0] for name in loose} == set(NOT_IN_THE_ADDRESS), "an exception that is none any more"


def test_every_bound_widget_is_drawn_where_the_address_is_checked_first() -> None:
    """By the functions of ui.form; `ui.form.bound.check` names what a widget can have."""
    drawn = {name.partition(":")[0] for name, call in _calls() if _is_bound(call)}
    drawn -= {"ui/form/bound.py", "ui/form/select.py", "ui/form/tabs.py"}
    assert drawn == {"ui/models/adding.py"}, "call ui.form.bound, or check the address as adding.py does"
    assert "bound.check_text(key" in (routes.PROJECT / "ui/models/adding.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", list(routes.ROUTES))
def test_what_a_page_draws_first_is_bound(lab: Lab, page: str) -> None:
    """As the browser is told it, for each widget with a value."""
    lab.model()
    app = lab.open(page)
    kinds = (kind for kind in INPUTS if kind not in ("pills", "segmented_control", "tabs"))
    drawn = [widget for kind in (*kinds, "button_group") for widget in app.main.get(kind)]
    loose = [widget.key for widget in drawn if not getattr(widget.proto, "query_param_key", "")]
    excused = ("projector", "exercises_", "model_comparison_audit")
    assert [key for key in loose if not str(key).startswith(excused)] == []
