"""python -m core bundle: makes what is missing with the bundled models, says sizes, and keeps within its bounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import specs
from core.__main__ import main
from core.jobs import bundle, queue
from core.models import bundled_results, reference
from core.models.reference import REFERENCES, Reference
from core.specs.tasks import task_name
from core.storage import bundled, cards, store
from tests.fixtures import STANDARD

TINY = Reference("tiny", STANDARD["linear"], "A test.")
ID = TINY.spec.artifact_name()
REQUESTS = (
    specs.SweepSpec(model=ID, attack="fgsm", eps=(0.0, 0.1), n=30),
    specs.RadiiSpec(model=ID, budget=50, n=30),
)


@pytest.fixture
def ships(trained_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One small model that ships, and two results that are to."""
    where = tmp_path / "reference"
    monkeypatch.setenv("ADVERSARIAL_LAB_REFERENCE", str(where))
    monkeypatch.setitem(REFERENCES, "tiny", TINY)
    monkeypatch.setitem(reference._BY_MODEL, ID, TINY)
    monkeypatch.setattr(bundled_results, "requests", lambda: iter(REQUESTS))
    trained = store.open_model(ID, trained_store)
    card = {name: value for name, value in trained.card.items() if name not in cards.WRITTEN_BY_STORE}
    store.write(
        TINY.spec, where, card={**card, "reference": {"name": "tiny"}}, arrays={"weights": trained.arrays("weights")}
    )
    return where


def rows(capsys: pytest.CaptureFixture[str], *flags: str) -> list[dict[str, Any]]:
    """What the command prints."""
    assert main(["bundle", "--device", "cpu", "--json", *flags]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_what_is_missing_is_made_once_and_found_by_a_users_request(
    ships: Path, store_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed first, made by the command, there already for the same request; whole tables, the first images."""
    assert [row["bundled"] for row in rows(capsys, "--list")] == [False, False]
    made = rows(capsys)
    assert [(row["task"], row["settings"]) for row in made] == [("sweep", "fgsm"), ("radii", "linf")]
    assert all(row["bundled"] and row["model"] == "tiny" for row in made)
    assert sum(row["bytes"] for row in made) == bundle.total() > 0
    assert not store_root.exists()

    before = {path: path.stat().st_mtime_ns for path in ships.glob("*/results/*/*")}
    assert rows(capsys, "--only", "tiny") == made
    assert {path: path.stat().st_mtime_ns for path in ships.glob("*/results/*/*")} == before
    assert queue.submit(REQUESTS[1], store_root).state == "done"

    radii = store.find(REQUESTS[1], store_root)
    assert radii is not None
    own = bundle.running.runner_for(REQUESTS[1])(REQUESTS[1], store_root, device="cpu")
    assert len(radii.table("images")) == 30
    assert (radii.table("images")["upper"] == own.tables["images"]["upper"]).all()
    for name, array in radii.arrays("images").items():
        assert (array == own.arrays["images"][name][: bundle.KEPT]).all()
        assert len(array) == bundle.KEPT == radii.card["bundled"]["images_kept"]

    monkeypatch.setattr(bundle, "KEPT", 3)
    rows(capsys, "--force")
    again = store.find(REQUESTS[1], store_root)
    assert again is not None
    assert len(again.arrays("images")["index"]) == 3


def test_beyond_its_bound_nothing_is_added(
    ships: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has both sizes; what was there stays."""
    first = bundle.make(REQUESTS[0], device="cpu")
    monkeypatch.setattr(bundle, "LARGEST", first.size + 100)
    assert main(["bundle", "--device", "cpu"]) == 2
    assert f"got {first.size:,} and" in capsys.readouterr().err
    assert [row["bundled"] for row in rows(capsys, "--list")] == [True, False]
    assert bundle.total() == first.size


def test_refused_where_it_has_no_place(ships: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name, an installed package."""
    assert main(["bundle", "--only", "nonesuch", "--list"]) == 2
    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE")
    monkeypatch.setattr("core.paths.in_clone", lambda: False)
    assert main(["bundle"]) == 2


def test_only_images_are_left_out() -> None:
    """Along the axis that is as long as the index; what is short, or has no index, stays whole."""
    group = {"index": np.arange(30), "x_adv": np.zeros((4, 30, 1, 8, 8)), "eps": np.zeros(7)}
    kept = bundle.first_images(group, 20)
    assert {name: array.shape for name, array in kept.items()} == {
        "index": (20,),
        "x_adv": (4, 20, 1, 8, 8),
        "eps": (7,),
    }
    assert bundle.first_images(group, 30) is group
    assert bundle.first_images({"delta": np.zeros(50)}, 20)["delta"].shape == (50,)


# ---------------------------------------------------------------- what ships


def test_requests_are_different_and_on_models_of_the_list() -> None:
    """And none names images that are on one machine only."""
    wanted = list(bundled_results.requests())
    assert len({(spec.model, spec.artifact_name()) for spec in wanted}) == len(wanted)
    by_model = {one.spec.artifact_name() for one in REFERENCES.values()}
    for spec in wanted:
        assert {spec.model, *getattr(spec, "models", ())} <= by_model
        assert spec.data is None


def test_results_that_ship_are_whole_small_and_on_the_list(monkeypatch: pytest.MonkeyPatch, store_root: Path) -> None:
    """Every folder is a sound result of a request of the list, made on the weights that ship; found from Python."""
    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE")
    where = bundled.root()
    assert where is not None
    wanted = {(spec.model, spec.artifact_name()): spec for spec in bundled_results.requests()}
    for folder in where.glob("*/results/*"):
        card = cards.verified(folder)
        assert {path.name.removesuffix(".zst") for path in folder.iterdir()} == {*card["files"], cards.CARD}
        spec = wanted[folder.parents[1].name, folder.name]
        found = store.find(spec, store_root)
        assert found is not None
        assert found.folder == folder
        assert found in store.results(spec.model, store_root, task_name(spec))
    assert 0 < bundle.total() <= bundle.LARGEST
