"""Widgets drawn from specs: every field of every method has one, and says what its field says."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from core import specs
from ui.text import both, class_text


def drawn(method: str) -> None:
    """Draw the settings of one method and build it (a script of its own: AppTest copies this function's source)."""
    import streamlit as st

    from core import specs
    from ui.form import controls

    values = controls.method_settings("page", method)
    made = controls.build(specs.METHODS[method], **values)
    st.session_state["made"] = made


@pytest.mark.sampled(3)
@pytest.mark.parametrize("method", list(specs.METHODS))
def test_every_setting_of_every_method_has_a_widget_with_its_default(method: str) -> None:
    """Untouched widgets build the method with its own defaults."""
    app = AppTest.from_function(drawn, args=(method,), default_timeout=300).run()
    assert not app.exception
    assert app.session_state["made"] == specs.METHODS[method]()
    cls = specs.METHODS[method]
    for name, info in cls.model_fields.items():
        if name != "name":
            widget = app.get_by_key(f"page_{method}_{name}")
            assert widget.label == info.title
            assert widget.help == info.description


def test_every_setting_of_training_has_a_widget_with_its_default() -> None:
    """The form and the spec agree."""

    def script() -> None:
        import streamlit as st

        from core import specs
        from ui.form import controls
        from ui.models import saved

        st.session_state["made"] = specs.TrainSpec(**controls.fields("page", specs.TrainSpec, saved.SETTINGS))

    app = AppTest.from_function(script, default_timeout=300).run()
    assert not app.exception
    assert app.session_state["made"] == specs.TrainSpec()


def ladder() -> None:
    """A text box for several ε."""
    import streamlit as st

    from ui.form import controls

    st.session_state["eps"] = controls.eps_ladder("page")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0 0.1, 0.2", [0, 0.1, 0.2]),
        ("8/255", [8 / 255]),
        ("0.1;0.3", [0.1, 0.3]),
        ("0,05;0,1", [0.05, 0.1]),
        ("0; 0,05; 0,1", [0, 0.05, 0.1]),
        ("0 0,05 0,1", [0, 0.05, 0.1]),
        ("0, 0,05, 0,1", [0, 0.05, 0.1]),
        ("0,.1,.3", [0, 0.1, 0.3]),
        (".3", [0.3]),
        ("0,1", [0.1]),
        ("0,1,2,5", [0, 1, 2, 5]),
        ("0.05,0.1; 8 / 255", [0.05, 0.1, 8 / 255]),
        ("0,5/255", [0.5 / 255]),
        ("a lot", None),
        ("1/0", None),
        ("", []),
    ],
)
def test_eps_ladder_reads_numbers_and_fractions(text: str, values: list[float] | None) -> None:
    """What cannot be read is said, not raised."""
    app = AppTest.from_function(ladder, default_timeout=300).run()
    app.text_input[0].set_value(text).run()
    assert not app.exception
    assert app.session_state["eps"] == (None if values is None else pytest.approx(values))
    assert bool(app.error) == (values is None)


def two_kinds_of_images() -> None:
    """Budgets of which the default depends on the images."""
    import streamlit as st

    from ui.form import controls

    st.session_state["eps"] = controls.eps_ladder(
        "page", default="0 8/255" if st.session_state.get("colour") else "0 0.3"
    )


@pytest.mark.parametrize("written", [None, "0.1 0.2"])
def test_other_images_have_other_budgets(written: str | None) -> None:
    """Their default takes the place of the default before, never of what somebody wrote."""
    app = AppTest.from_function(two_kinds_of_images, default_timeout=300).run()
    assert app.session_state["eps"] == [0, 0.3]
    if written is not None:
        app.text_input[0].set_value(written).run()
    app.session_state["colour"] = True
    app.run()
    assert app.session_state["eps"] == ([0, 8 / 255] if written is None else [0.1, 0.2])
    app.session_state["colour"] = False
    app.run()
    assert app.session_state["eps"] == ([0, 0.3] if written is None else [0.1, 0.2])


def from_links() -> None:
    """Numbers and sliders of ε, as links set them."""
    import streamlit as st

    from core import specs
    from ui.form import controls, widgets
    from ui.form.select import select

    stops = [0.0, 0.03, 0.1]
    st.session_state["made"] = [
        controls.field("page", specs.EvaluateSpec, "eps", default=0.3),
        controls.eps("page", name="slider", default=0.5, step=0.05),
        select("page", "at", "ε", stops, default=0.1, kind="slider", read=widgets.nearest(stops)),
        controls.eps_ladder("page", name="ladder"),
    ]


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("8/255", [8 / 255, 0.05, 0.03, [8 / 255]]),
        ("0,031", [0.031, 0.05, 0.03, [0.031]]),
        (".031", [0.031, 0.05, 0.03, [0.031]]),
        ("0.1", [0.1, 0.1, 0.1, [0.1]]),
        ("8/0", [0.3, 0.5, 0.1, None]),
        ("much", [0.3, 0.5, 0.1, None]),
    ],
)
def test_a_link_names_a_number_as_people_write_it(text: str, made: list[object]) -> None:
    """`?page_eps=8/255`: a box takes the number itself, a slider its nearest stop; what is no number is the default."""
    app = AppTest.from_function(from_links, default_timeout=300)
    for name in ("eps", "slider", "at", "ladder"):
        app.query_params[f"page_{name}"] = text
    app.run()
    assert not app.exception
    assert app.session_state["made"] == made
    app.run()
    assert app.session_state["made"] == made


def test_eps_is_written_in_both_units() -> None:
    """In units of the range and in grey levels."""
    assert both(0.1) == "0.1 (25.5/255)"
    assert both(8 / 255) == "0.031 (8/255)"


def test_class_text_gives_name_and_number() -> None:
    """A digit's name is its number; a shirt has both."""
    assert class_text(3, ["0", "1", "2", "3"]) == "3"
    assert class_text(1, ["coat", "shirt"]) == "1 · shirt"


def test_several_numbers_are_typed_in_one_box() -> None:
    """Spaces, commas and fractions are understood; what is no number is refused in one sentence."""
    app = AppTest.from_function(drawn, args=("frontier",), default_timeout=300).run()
    app.text_input(key="page_frontier_caps").set_value("0.25, 1/2 1").run()
    assert app.session_state["made"].caps == (0.25, 0.5, 1.0)
    app.text_input(key="page_frontier_caps").set_value("0.25 half").run()
    assert not app.exception
    assert app.session_state["made"] is None
    assert "caps" in app.error[0].value
