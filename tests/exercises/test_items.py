"""The exercises as data: every row of the sheets, what counts as done, what is read beside published figures."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import pytest

from core import specs
from core.data import folder
from core.exercises import curves, evidence, items, notes, published, sets, which, written
from core.storage import store

STORE = Path(__file__).resolve().parents[1] / "fixtures" / "artifacts" / "store"
"""Small real artifacts on the 8 × 8 digits."""
ROWS = [
    *("1A", "1B1", "1B2", "1B3", "1B4", "1B5", "1C", "1D"),
    *("2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7"),
    *("3.1", "3.2", "3.3", "3.4", "3.5", "3.6"),
    *("4.A,B", "4.C", "4.D", "4.E"),
    *("5.1a", "5.1b", "5.1c", "5.2+", "5.2"),
]
"""Every row of the five exercise sheets."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with those artifacts: one's own, none bundled."""
    return Path(shutil.copytree(STORE, tmp_path_factory.mktemp("exercises") / "store"))


@pytest.fixture(scope="module")
def known(root: Path) -> evidence.Evidence:
    """What that store holds."""
    return evidence.gather(root, notes.read(root))


def test_every_row_has_an_item_with_a_way_to_it() -> None:
    """No row of a sheet is forgotten, each leads somewhere, says what to do and asks something."""
    assert {item.row for item in sets.items()} == set(ROWS)
    assert [one.number for one in sets.SETS.values()] == [1, 2, 3, 4, 5]
    names = [item.name for item in sets.items()]
    assert len(set(names)) == len(names)
    for item in sets.items():
        assert item.links, item.name
        assert all(link.promise for link in item.links), item.name
        assert 1 <= item.task.count(".") - item.task.count("0.") <= 8, item.name
        assert item.discuss, item.name


def test_an_item_is_found_by_its_name() -> None:
    """And an unknown one lists what there is."""
    assert sets.item("2.4").row == "2.4"
    with pytest.raises(ValueError, match="expected one of 1A"):
        sets.item("6.1")


def test_own_results_make_an_item_done(known: evidence.Evidence) -> None:
    """A scalar model, a sparse attack, a universal perturbation and a pattern are there; the rest is not."""
    done = {item.name for item in sets.items() if item.status(known) == "done"}
    assert {"2.1", "2.4", "2.6", "2.7"} <= done
    assert not {"1A", "1B4", "1C", "3.1", "3.6", "5.2", "2.2", "5.2+ quiz"} & done
    assert sets.item("5.2").missing(known)
    assert sets.item("2.1").missing(known) == []


def test_an_empty_store_has_nothing_done(tmp_path: Path) -> None:
    """And no figure: each is unknown, none is a number."""
    empty = evidence.gather(tmp_path)
    assert {item.status(empty) for item in sets.items()} == {"open"}
    for item in sets.items():
        for figure in item.figures:
            assert figure.read(empty) is None
            assert written.row(figure, None)[2] == "–"


def test_bundled_results_are_not_yours(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What lies with the bundled models is shown and never counted as done."""
    monkeypatch.setenv("ADVERSARIAL_LAB_REFERENCE", str(root))
    monkeypatch.setattr(store, "all_results", lambda model, where, *tasks: _results(root, model, tasks))
    found = evidence.gather(tmp_path / "none")
    results = [one for one in found.results]
    assert results
    assert all(one.bundled for one in results)
    scalar = next(one for one in results if which.both(which.attack("jacobian_sparse"), which.scalar)(one))
    assert "bundled" in scalar.provenance()
    assert sets.item("2.4").status(found) == "bundled"
    assert sets.item("2.4").missing(found)


def _results(root: Path, model: str, tasks: tuple[str, ...]) -> list[store.Artifact]:
    from core.storage import cards

    return [store.Artifact(*both) for both in cards.folders(root / model / "results", *tasks)]


def test_figures_are_those_of_the_cards(known: evidence.Evidence) -> None:
    """A reading is the card's number with its interval and n."""
    found = known.first(specs.AttackSpec, which.both(which.attack("jacobian_sparse"), which.scalar))
    assert found is not None
    metrics = found.artifact.card["metrics"]
    figure = next(figure for figure in sets.item("2.4").figures if figure.unit == "pixels")
    reading = figure.read(known)
    assert reading is not None
    assert (reading.value, reading.n) == (metrics["median_pixels"], metrics["n"])
    assert written.published(figure) == "32 pixels"
    assert written.whose(reading) == "yours"
    rate = evidence.of_metric(found, "success_rate", interval=("low", "high"))
    assert rate is not None
    assert written.read(sets.item("2.4").figures[0], rate) == f"100.0 % [{100 * metrics['low']:.1f}, 100.0]"


def test_a_sweep_is_read_only_where_it_was_run(known: evidence.Evidence) -> None:
    """No ε stands in for another."""
    found = known.first(specs.SweepSpec, which.attack("fgsm"))
    assert found is not None
    assert evidence.of_row(found, 0.1) is not None
    assert evidence.of_row(found, 0.25) is None
    assert which.covers((0.0, 0.1))(found)
    assert not which.covers()(found)


def test_ticks_answers_and_quiz_are_kept(tmp_path: Path) -> None:
    """What leaves no artifact lies in one file of the store, and makes its item done."""
    item = sets.item("2.3")
    assert item.by_hand
    notes.change(tmp_path, lambda kept: notes.ticked(kept, "2.3", True))
    notes.change(tmp_path, lambda kept: notes.answered(kept, "2.3", "beside the stroke "))
    notes.change(
        tmp_path, lambda kept: notes.quizzed(kept, [{"eps": 0.1, "asked": 3, "right": 2, "models": {"LeNet": 1}}])
    )
    kept = notes.read(tmp_path)
    assert kept["answers"] == {"2.3": "beside the stroke"}
    known = evidence.gather(tmp_path, kept)
    assert item.status(known) == sets.item("5.2+ quiz").status(known) == "done"
    notes.change(tmp_path, lambda kept: notes.ticked(kept, "2.3", False))
    notes.change(tmp_path, lambda kept: notes.answered(kept, "2.3", "  "))
    assert notes.read(tmp_path)["ticked"] == notes.read(tmp_path)["answers"] == {}
    assert store.models(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"ticked": 3}', '{"quiz": {"a": 1}}'])
def test_damaged_notes_are_none(tmp_path: Path, text: str) -> None:
    """A file that somebody changed by hand breaks no page."""
    (tmp_path / notes.NAME).write_text(text, encoding="utf-8")
    assert notes.read(tmp_path) == {"ticked": {}, "answers": {}, "quiz": []}


def test_links_follow_the_images_that_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST where it is, else the embedded digits."""
    link = sets.item("2.1").links[0]
    there = link.settings("mnist")
    assert there["train_dataset"] == "mnist"
    assert there["train_mnist_classes"] == [4, 9]
    assert "train_scalar=true" in link.address("mnist")
    monkeypatch.setattr(folder, "is_present", lambda name: False)
    assert link.settings()["train_dataset"] == items.embedded()
    both = sets.item("3.6").links[0].settings("mnist")["model_comparison_models"]
    assert isinstance(both, list)
    assert [str(model).split("-")[2] for model in both] == ["standard", "fgsm_mix"]


def test_published_tables_can_be_right() -> None:
    """Confidence is the mean of that when correct and when wrong; the misprint of set 3 was mended that way."""
    for metrics in published.TABLE3.values():
        mean = metrics["accuracy"] * metrics["confidence_correct"] + metrics["error"] * metrics["confidence_wrong"]
        assert abs(mean - metrics["confidence"]) < 2e-4
    for curve in published.CURVES5.values():
        assert len(curve) == len(published.EPS5)
        assert list(curve) == sorted(curve, reverse=True)


def test_curves_come_from_the_store_and_as_published(known: evidence.Evidence) -> None:
    """Published ones are hollow and rest on no artifact; a crossing is where the line falls below a level."""
    lines = curves.set5_curves(known)
    assert [line.hollow for line in lines] == [True] * 3
    assert curves.sources(lines) == []
    linear = lines[0]
    level = curves.crossing(linear, 0.1)
    assert level is not None
    assert 0.1 < level < 0.15
    assert curves.crossing(linear, -1.0) is None
    flips = [
        next((x for x, y in zip(line.x, line.y, strict=True) if (y or 0) > 0.5), None) for line in curves.toy_curves()
    ]
    assert flips[0] is not None
    assert flips[0] > (flips[-1] or 0)


def test_a_defended_model_has_its_twin(known: evidence.Evidence) -> None:
    """The same network on the same data, without the defence."""
    (cost,) = curves.costs(known)
    assert (cost.model.model.recipe.name, cost.twin.model.recipe.name) == ("fgsm", "standard")
    assert cost.lost == pytest.approx(cost.before - cost.after)


def test_the_stamp_changes_with_the_store(tmp_path: Path) -> None:
    """A page reads the cards again when a result has come."""
    shutil.copytree(STORE, tmp_path / "store")
    before = evidence.stamp(tmp_path / "store")
    assert before == evidence.stamp(tmp_path / "store")
    model = next(path for path in (tmp_path / "store").iterdir() if (path / "results").is_dir())
    shutil.rmtree(next((model / "results").iterdir()))
    assert evidence.stamp(tmp_path / "store") != before


def test_notes_of_people_are_kept_apart(tmp_path: Path) -> None:
    """From one another and from the store's, under ids that lead nowhere else."""
    for person in ("", "ann", "bob"):
        notes.change(tmp_path, functools.partial(notes.answered, item="2.4", text=f"of {person}."), person)
    for person in ("", "ann", "bob"):
        assert notes.read(tmp_path, person)["answers"] == {"2.4": f"of {person}."}
    assert notes.read(tmp_path, "cleo") == notes.nothing()
    with pytest.raises(ValueError, match="person: expected an id"):
        notes.change(tmp_path, lambda kept: kept, "../store")
