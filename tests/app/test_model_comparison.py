"""The comparison page: its tables, cells not yet run, two models side by side, the exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scipy.stats import binomtest

from core import specs
from tests.app.test_epsilon_sweep import LADDER, asked, five, plant, texts
from ui import comparison_views

if TYPE_CHECKING:
    from tests.app.conftest import Lab


def test_table_says_what_was_not_run_and_one_button_runs_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row a model, empty cells where nothing was run, one job for all of them."""
    run, other = lab.model(accuracy=0.95), lab.model(network="mlp")
    plant(lab, run)
    submitted = asked(monkeypatch)
    app = lab.open(
        "model_comparison",
        model_comparison_models=[run.id, other.id],
        model_comparison_n="100",
        model_comparison_eps="0 0.1 0.3",
    )
    table = app.dataframe[0].value.set_index("Model")
    assert table.loc["Linear", "FGSM"] == pytest.approx(0.6)
    assert table.loc["Linear", "FGSM, interval"] == "49.7–69.7"
    assert list(table.loc["Linear", "FGSM, curve"]) == pytest.approx([0.95, 0.6, 0.05])
    assert table.loc["Linear", "Test"] == pytest.approx(0.95)
    assert table["FGSM"].isna()["Dense"]
    assert "1 of 2 not run yet" in texts(app)
    app.button(key="model_comparison_run").click().run()
    assert submitted == [specs.CompareSpec(models=(run.id, other.id), eps=LADDER, n=100)]


def test_tables_of_set_three_follow_the_slider(lab: Lab) -> None:
    """Clean and adversarial beside each other, with the calibration gap."""
    plant(lab, lab.model())
    app = lab.open("model_comparison")
    app.select_slider(key="model_comparison_at").set_value(0.3).run()
    assert not app.exception
    table = app.table[0].value
    assert list(table.columns) == ["clean", "FGSM"]
    assert list(table.index) == list(comparison_views.LAYOUT.values())
    assert table.loc["Correctly predicted"].tolist() == ["0.9500", "0.0500"]
    assert table.loc["Calibration gap"].tolist() == ["-0.1500", "+0.7500"]


def test_clean_column_without_zero_in_the_ladder(lab: Lab) -> None:
    """It comes from the model's own table of the test set, for the same images."""
    plant(lab, lab.model(accuracy=0.9), eps=(0.1, 0.2), right=(60, 5))
    app = lab.open("model_comparison")
    assert app.table[0].value.loc["Correctly predicted"].tolist() == ["1.0000", "0.6000"]


def test_two_models_on_the_same_images(lab: Lab) -> None:
    """Counts of who reads what, and McNemar's exact p."""
    a, b = lab.model(), lab.model(network="mlp", seed=0)
    plant(lab, a, right=(95, 60, 5))
    plant(lab, b, right=(95, 20, 5))
    app = lab.open(
        "model_comparison",
        model_comparison_models=[a.id, b.id],
        model_comparison_n="100",
        model_comparison_eps="0 0.1 0.3",
    )
    counts = {metric.label: metric.value for metric in app.metric}
    assert counts == {"Both right": "20", "Only A right": "40", "Only B right": "0", "Both wrong": "40"}
    assert "beyond what chance explains" in texts(app)
    app.selectbox(key="model_comparison_a").select(b.id).run()
    assert not app.exception
    assert app.selectbox(key="model_comparison_b").value == a.id
    app.select_slider(key="model_comparison_at").set_value(0.3).run()
    assert "The two are level" in texts(app)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (3, 9), (40, 12), (1200, 1000), (5000, 0)])
def test_mcnemar_is_the_binomial_test(only_a: int, only_b: int) -> None:
    """Against SciPy's."""
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert comparison_views.mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-6)


def test_one_model_alone_is_no_error(lab: Lab) -> None:
    """The side by side says what it needs."""
    plant(lab, lab.model())
    assert "Choose and run two models" in texts(lab.open("model_comparison"))


def test_models_of_different_data_are_warned_of(lab: Lab) -> None:
    """Rows of different data sets are not comparable, and A against B is refused."""
    one, other = lab.model(), lab.model(data={"dataset": "digits", "classes": (4, 9)})
    plant(lab, one)
    plant(lab, other)
    app = lab.open(
        "model_comparison",
        model_comparison_models=[one.id, other.id],
        model_comparison_n="100",
        model_comparison_eps="0 0.1 0.3",
    )
    assert any("different data sets" in warning.value for warning in app.warning)


def test_exports_and_the_way_to_the_curves(lab: Lab) -> None:
    """Four formats, the provenance on the page, and the same settings in the epsilon sweep."""
    model = lab.model()
    plant(lab, model, attack={"name": "pgd", "steps": 7})
    app = lab.open("model_comparison")
    keys = [button.key for button in app.get("download_button")]
    assert [f"model_comparison_download_{ending}" in keys for ending in ("csv", "md", "tex", "json")] == [True] * 4
    assert "pgd(steps=7)" in texts(app)
    app.button(key="model_comparison_open").click().run()
    assert not app.exception
    assert app.title[0].value == "Epsilon sweep"
    assert app.number_input(key="epsilon_sweep_pgd_steps").value == 7
    assert five(app)["accuracy"].tolist() == [0.6]
