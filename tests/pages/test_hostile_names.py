"""Names that people and files give to things are shown as they are: no page, no export takes them for more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.message import Message
from streamlit.testing.v1 import AppTest

from core import escaping, specs
from tests.fixtures import hostile
from tests.pages.test_junk_address import fresh
from ui.app import routes

if TYPE_CHECKING:
    from tests.pages.conftest import Lab

NAMES = (
    *("![x](http://evil.example/a.png)", "=cmd|' /C calc'!A0", "<img src=x onerror=alert(1)>", "@SUM(1)", "$x$ **b**"),
    *(":material/home:", "[Sign in](http://evil.example)", "`c` :red[d]", "-d", "www.evil.example"),
)
"""Ten names of classes."""
MARKED = ("![x](", "<img src", "**b**", ":material/home:", "[Sign in](", ":red[d]", "`c` ", "http:", "www.evil")
"""What is in them and means something in Markdown; an address becomes a link by itself."""
PLAIN = re.compile(
    r"\.(options|raw_values|default|raw_text|set_value|placeholder|file_name|id|form_id|query_param_key|arrow_data|spec|"
    r"vega_lite_chart|url|json|mixed_args|text|data|user_key|element_id|deferred_file_id|formatted_options|key)(\[|\.|$)"
)
"""Fields of messages that the browser shows as plain text, or not at all."""


PLAIN_KINDS = ("html", "text", "selectbox", "multiselect", "text_input", "text_area")
"""Elements whose value is plain text, or HTML that is escaped as such."""


def texts(message: Message, where: str) -> Iterator[tuple[str, str]]:
    """Every text in a message to the browser, with the way to it."""
    for field, value in message.ListFields():
        here = f"{where}.{field.name}"
        values = [value] if isinstance(value, Message | str | bytes | int | float) else list(value)
        for one in values:
            if isinstance(one, Message):
                yield from texts(one, here)
            elif isinstance(one, str):
                yield here, one


def drawn(app: AppTest) -> Iterator[tuple[str, str]]:
    """Every text on a page that is read as Markdown."""

    def below(node: Any) -> Iterator[Any]:
        yield node
        for child in getattr(node, "children", {}).values():
            yield from below(child)

    for node in below(app._tree):
        proto = getattr(node, "proto", None)
        kind = getattr(node, "type", "?")
        if not isinstance(proto, Message) or kind in ("bidi_component", "iframe", "arrow_data_frame", "plotly_chart"):
            continue
        for where, text in texts(proto, kind):
            if kind in PLAIN_KINDS and where.endswith((".body", ".value")):
                continue
            option = kind == "button_group" and where.endswith(".content") and ".options" in where
            if option or not PLAIN.search(where):
                yield where, text


@pytest.fixture
def harmful(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A dashboard with models and results of every kind, whose classes have such names."""
    info = specs.DATASETS["digits"]
    monkeypatch.setitem(specs.DATASETS, "digits", info.model_copy(update={"class_names": NAMES}))
    hostile.copied(lab.root, lambda number, count: NAMES[number] if count > 2 else NAMES[(4, 9)[number]])
    lab.model(network="lenet")
    return lab


def unescaped(mark: str, text: str) -> bool:
    """Whether a mark is in a text, and no backslash before it."""
    return re.search(rf"(?<!\\){re.escape(mark)}", text) is not None


def taken_for_more(app: AppTest) -> list[tuple[str, str]]:
    """Texts in which a name is not written as a name."""
    return [
        (where, text[max(0, text.index(mark) - 60) :][:120])
        for where, text in drawn(app)
        for mark in MARKED
        if unescaped(mark, text)
    ]


@pytest.mark.parametrize("page", list(routes.ROUTES))
def test_no_page_takes_a_name_of_a_class_for_markdown(harmful: Lab, page: str) -> None:
    """The first view; the test finds its names there, where it shows names at all."""
    assert taken_for_more(fresh(harmful, page, {})) == []


@pytest.mark.slow
@pytest.mark.parametrize("page", list(routes.ROUTES))
def test_no_tab_takes_a_name_of_a_class_for_markdown(harmful: Lab, page: str) -> None:
    """Every other view."""
    for label in [tab.label for tab in fresh(harmful, page, {}).tabs][1:]:
        assert taken_for_more(fresh(harmful, page, {f"{page}_tab": label})) == [], label


@pytest.mark.parametrize("name", [*NAMES, "a\nb", "3. c", "# h", "a -> b", "x@y.org", "&lt;", ":smile:", "~a~", "a|b"])
def test_markdown_of_a_name_has_nothing_left_that_means_something(name: str) -> None:
    """Neither at once nor where Streamlit looks at the finished text."""
    written = escaping.markdown(name)
    assert not [mark for mark in MARKED if unescaped(mark, written)]
    assert not re.search(r"(?<!\\)[\[\]<>`*$|~{}]", written)
    assert not re.search(r":[\w+/-]+:|https?:|www\.|\w@|\s[-<>=~]+[->=]\s", written.replace("\\", ""))
    assert not re.match(r"\s|[-+=#]|\d+[.)]", written)
    assert "\n" not in written
    assert written.replace("\\", "").replace("\u2060", "") == name.replace("\n", " ").replace("\\", "")


@pytest.mark.parametrize("name", ["4", "cat", "LeNet · FGSM-trained", "UCI digits 8×8", "y_pred", "à côté (2)"])
def test_an_ordinary_name_stays_as_it_is(name: str) -> None:
    """So that texts can be searched."""
    assert escaping.markdown(name) == name


@pytest.mark.parametrize("field", ["epsilon_sweep_eps", "model_comparison_eps"])
@pytest.mark.parametrize("given", [NAMES[0], NAMES[6], NAMES[9]])
def test_what_an_address_gives_a_text_box_is_no_markdown(harmful: Lab, field: str, given: str) -> None:
    """It is refused in a sentence that quotes it."""
    app = fresh(harmful, field.rpartition("_")[0], {field: given})
    assert taken_for_more(app) == []
    assert any("evil" in error.value for error in app.error)


def test_settings_that_are_refused_are_quoted_as_they_are() -> None:
    """Whatever was typed, or came with a link."""

    def script() -> None:
        from core import specs
        from ui.form import controls

        controls.build(specs.TrainSpec, lr="![x](http://evil.example/a.png)")

    app = AppTest.from_function(script, default_timeout=300).run()
    assert "evil" in app.error[0].value
    assert taken_for_more(app) == []
