"""Figures: what they draw is what they were given, on transparent paper."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest

from core.figures import records
from core.figures.base import accuracy_by_epoch, against_eps, running_loss, score_histogram, traces, training_curves
from core.figures.heat import confusion, signed_heatmap, write_cells

HISTORY = [
    {"epoch": k, "loss": 1 / k, "train_accuracy": 0.9, "validation_loss": 1.2 / k, "validation_accuracy": 1 - 0.5 / k}
    for k in (1, 2, 3)
]
ROWS = [{"eps": e, "accuracy": 1 - e, "low": 0.9 - e, "high": 1.0 - e / 2, "confidence": 0.9} for e in (0.0, 0.1, 0.2)]


def every_figure() -> dict[str, go.Figure]:
    """One of each kind."""
    rng = np.random.default_rng(0)
    return {
        "training_curves": training_curves(HISTORY, best_epoch=3),
        "running_loss": running_loss([{"loss": 2.0}, {"phase": "x"}, {"loss": 1.0}]),
        "accuracy_by_epoch": accuracy_by_epoch({"this": HISTORY, "other": HISTORY[:2]}),
        "confusion": confusion(np.array([0, 1, 1]), np.array([0, 1, 0]), ["4", "9"]),
        "score_histogram": score_histogram(rng.normal(size=50), np.arange(50) % 2, ["4", "9"], 0.1),
        "against_eps": against_eps({"a": ROWS, "b": ROWS}, chance=0.1, marked=0.1),
        "signed_heatmap": signed_heatmap(rng.normal(size=(8, 8))),
        "traces": traces({"distance": [1.0, 0.5]}, level=0.2, level_name="goal", marked=1),
    }


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", list(every_figure()))
def test_paper_is_transparent_and_figure_is_json(name: str) -> None:
    """So that it is legible on light and dark; and it can be sent to a browser."""
    figure = every_figure()[name]
    assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert figure.data
    assert figure.to_json()


def test_confusion_counts_rows_by_true_class() -> None:
    """Two images of class 1, one of them read as 0."""
    heat = confusion(np.array([0, 1, 1]), np.array([0, 1, 0]), ["4", "9"]).data[0]
    assert heat.customdata[..., 0].tolist() == [[1, 0], [1, 1]]
    assert heat.z[1][0] == -1  # the worst error has full colour
    assert heat.z[1][1] == 0.5


def test_confusion_without_errors_has_no_error_colour() -> None:
    """Nothing is divided by zero."""
    heat = confusion(np.array([0, 1]), np.array([0, 1]), ["4", "9"]).data[0]
    assert np.diag(np.asarray(heat.z)).tolist() == [1, 1]
    assert np.isnan(np.asarray(heat.z)[0, 1])  # an empty cell shows the paper


def test_texts_of_cells_are_legible_on_every_page() -> None:
    """White on dark cells, dark on light ones, the page's own colour where there is no cell; empty texts: none."""
    heat = go.Figure(go.Heatmap(z=[[0.0, 1.0], [np.nan, np.nan]], x=["a", "b"], y=["c", "d"]))
    _, *written = write_cells(heat, np.array([["0", "1"], ["own", ""]]), np.array([[False, True]] * 2)).data
    found = {text.textfont.color: (text.x, text.y, text.text) for text in written}
    assert found == {
        "#ffffff": (("b",), ("c",), ("1",)),
        "#1b2430": (("a",), ("c",), ("0",)),
        None: (("a",), ("d",), ("own",)),
    }


def test_band_lies_around_its_curve() -> None:
    """Down along the upper ends and back along the lower ones."""
    band, curve = against_eps({"a": ROWS}).data
    assert list(band.x) == [0.0, 0.1, 0.2, 0.2, 0.1, 0.0]
    assert band.y[0] == ROWS[0]["high"]
    assert band.y[-1] == ROWS[0]["low"]
    assert [list(point) for point in curve.customdata] == [["a", 0.0], ["a", 0.1], ["a", 0.2]]


def test_undefined_values_leave_a_gap() -> None:
    """`confidence when wrong` is undefined where nothing is wrong."""
    rows = [{"eps": 0.0, "confidence_wrong": None}, {"eps": 0.1, "confidence_wrong": 0.7}]
    assert list(against_eps({"a": rows}, value="confidence_wrong", band=None).data[0].y) == [None, 0.7]


def test_heatmap_of_nothing_has_a_scale() -> None:
    """A Jacobian that vanishes is drawn, not divided by."""
    assert signed_heatmap(np.zeros((4, 4))).data[0].zmax == 1.0


def test_curves_leave_out_events_within_an_epoch() -> None:
    """Live histories mix batch losses with the rows of epochs."""
    figure = training_curves([{"loss": 3.0}, *HISTORY])
    assert list(figure.data[0].x) == [1, 2, 3]


def test_training_curves_show_accuracy_under_attack_and_proven() -> None:
    """Recipes with a budget have two more curves, those with a proof three; the standard one none."""
    row = {"loss": 1.0, "train_accuracy": 0.5, "validation_loss": 1.0, "validation_accuracy": 0.9}
    watched = {"eps": 0.3, "robust_accuracy": 0.6, "fgsm_accuracy": 0.7}
    for more, expected in (({}, set()), (watched, {"under PGD", "under FGSM"})):
        names = {trace.name for trace in training_curves([{"epoch": 1, **row, **more}]).data}
        assert names == {"training", "validation", *expected}
    proven = training_curves([{"epoch": 1, **row, **watched, "certified_accuracy": 0.5}])
    assert [trace.y[0] for trace in proven.data if trace.name == "proven"] == [0.5]
    noisy = training_curves([{"epoch": 1, **row, "sigma": 0.5, "noise_accuracy": 0.4}])
    assert [(trace.y[0], trace.customdata[0]) for trace in noisy.data if trace.name == "under noise"] == [(0.4, 0.5)]


def test_training_curves_cross_out_epochs_that_withstand_one_step_only() -> None:
    """Only those, at their accuracy under PGD; what was done about it on hover."""
    row = {"loss": 1.0, "train_accuracy": 0.5, "validation_loss": 1.0, "validation_accuracy": 0.9, "eps": 0.3}
    row |= {"robust_accuracy": 0.6, "fgsm_accuracy": 0.7, "overfitted": 0.0}
    collapsed = {**row, "epoch": 2, "robust_accuracy": 0.1, "overfitted": 1.0, "rolled_back": 1.0}
    figure = training_curves([{"epoch": 1, **row}, collapsed])
    (crossed,) = [trace for trace in figure.data if trace.name == "overfitted to one step"]
    assert (list(crossed.x), list(crossed.y)) == ([2], [0.1])
    assert "went back" in crossed.customdata[0]


def test_success_within_a_distance_is_the_share_of_all_images() -> None:
    """Two of four fooled: half at their own distances and from then on; none at all is a line at zero."""
    found = {"a": np.array([2.0, np.inf, 1.0, np.inf]), "b": np.full(3, np.inf)}
    one, other = records.within(found, norm="ℓ2").data
    assert list(zip(one.x, one.y, strict=True)) == [(0, 0), (1, 0.25), (2, 0.5), (2.1, 0.5)]
    assert list(other.y) == [0, 0]
    assert records.within({}, norm="ℓ2").to_json()
