"""The choice of a model: short names, and the choice of the data set where models of several are there."""

from __future__ import annotations

from tests.pages.conftest import Lab


def test_models_of_two_data_sets_are_chosen_one_set_at_a_time(lab: Lab) -> None:
    """Both have a model of the same name; the address names both choices, and a change of the set takes its model."""
    of_digits = lab.model()
    four = lab.model(data={"dataset": "digits", "classes": [4, 9]})
    app = lab.open("universal", universal_model=four.id)
    data, model = app.selectbox(key="universal_model_of"), app.selectbox(key="universal_model")
    assert model.value == four.id
    assert data.value.endswith("4 against 9")
    assert model.options == ["Linear · standard"]
    app.selectbox(key="universal_model_of").select(next(one for one in data.options if one != data.value)).run()
    assert app.selectbox(key="universal_model").value == of_digits.id
    assert app.selectbox(key="universal_model").options == ["Linear · standard"]
    assert of_digits.id in app.selectbox(key="universal_model").help
    assert app.query_params["universal_model_of"] == app.selectbox(key="universal_model_of").value


def test_models_of_one_data_set_need_no_such_choice(lab: Lab) -> None:
    """Only what is there to choose is drawn."""
    lab.model()
    app = lab.open("universal")
    assert "universal_model_of" not in [box.key for box in app.selectbox]


def test_several_models_may_be_of_all_data_sets(lab: Lab) -> None:
    """Names have their data set in front then; a link to models of two data sets shows both."""
    found = [lab.model(), lab.model(data={"dataset": "digits", "classes": [4, 9]})]
    app = lab.open("epsilon_sweep", epsilon_sweep_models=[model.id for model in found])
    assert set(app.multiselect(key="epsilon_sweep_models").value) == {model.id for model in found}
    assert all(text.count(" · ") == 2 for text in app.multiselect(key="epsilon_sweep_models").options)
