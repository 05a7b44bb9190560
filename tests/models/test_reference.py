"""Reference models: a list that holds, a command that makes, measures and ships them, and what ships already."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core import specs
from core.__main__ import main
from core.data.sets import Dataset, load
from core.jobs import bundle, reference_build
from core.models import reference
from core.models.reference import REFERENCES, Reference
from core.models.saved import load_model
from core.networks.catalogue import logits_of
from core.storage import bundled, cards, store
from tests.planted import CARD

TINY = Reference(
    "tiny", specs.TrainSpec(network="linear", recipe={"name": "ibp", "eps": 0.05}, epochs=12), "A test.", drawn=True
)
DIGITS = specs.DataSpec()


@pytest.fixture
def ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to ship to, a small reference and cheap measurements."""
    where = tmp_path / "reference"
    monkeypatch.setenv("ADVERSARIAL_LAB_REFERENCE", str(where))
    monkeypatch.setitem(REFERENCES, "tiny", TINY)
    monkeypatch.setitem(reference._BY_MODEL, TINY.spec.artifact_name(), TINY)
    monkeypatch.setattr(reference_build, "PGD", specs.Pgd(steps=5, restarts=2))
    monkeypatch.setattr(reference_build, "DRAWN", (specs.GeneratorMethod(rounds=30), specs.GeneratorStrong(rounds=20)))
    monkeypatch.setattr(reference_build, "DRAWN_N", 20)
    return where


# ---------------------------------------------------------------- the list


def test_names_and_artifacts_are_all_different() -> None:
    """Two names of one artifact would ship over each other."""
    assert len({one.spec.artifact_name() for one in REFERENCES.values()}) == len(REFERENCES)
    assert all(name == one.name and one.purpose.endswith(".") for name, one in REFERENCES.items())
    assert all(0 < one.eps <= 1 for one in REFERENCES.values())


def test_the_counterpart_is_the_nearest_of_the_same_kind(store_root: Path) -> None:
    """Same data and family of recipes; then the very spec, recipe, network, budget; none where none is."""
    wanted = ("digits-standard", "digits-fgsm-mix", "digits-pgd", "mnist-pgd")
    ids = {name: REFERENCES[name].spec.artifact_name() for name in wanted}
    pgd = specs.TrainSpec(recipe={"name": "pgd", "eps": 0.2})
    assert reference.counterpart(pgd, store_root) is None
    for name in wanted:
        store.write(REFERENCES[name].spec, store_root, card=CARD)

    def nearest(**fields: Any) -> str | None:
        found = reference.counterpart(specs.TrainSpec(**fields), store_root)
        return found and found.id

    assert nearest(recipe={"name": "pgd", "eps": 0.2}) == ids["digits-pgd"]
    assert nearest(recipe={"name": "trades"}, network="mlp") == ids["digits-pgd"]
    assert nearest(recipe={"name": "fgsm"}) == ids["digits-fgsm-mix"]
    assert nearest(network="mlp") == ids["digits-standard"]
    assert nearest(recipe={"name": "ibp"}) is None
    assert nearest(data={"classes": (4, 9)}) is None
    assert nearest() == nearest(epochs=3) == ids["digits-standard"]
    store.write(REFERENCES["mnist-linear"].spec, store_root, card=CARD)
    own = store.write(REFERENCES["mnist-lenet"].spec, store_root, card=CARD)
    assert reference.counterpart(REFERENCES["mnist-lenet"].spec, store_root) == own  # not mnist-linear


# ---------------------------------------------------------------- making one


def test_a_reference_is_trained_measured_and_shipped(ships: Path, store_root: Path, tmp_path: Path) -> None:
    """It is found in an empty store, loads in float32, and its card and table say what the model itself says."""
    seen: list[str | None] = []
    made = reference_build.make(
        "tiny", store_root, device="cpu", on_progress=lambda done, total, *, phase=None, **_: seen.append(phase)
    )
    assert {"training", "PGD"} <= set(seen)
    assert [path.name for path in ships.iterdir() if not path.name.startswith(".")] == [made.id]
    assert store.find(TINY.spec, store_root, allow_bundled=False) is not None
    other = tmp_path / "another-store"
    assert store.find(TINY.spec, other) == made

    saved = load_model(made.id, other)
    assert {value.dtype for value in saved.model.parameters()} == {torch.float32}
    test = load(DIGITS).test
    pred = logits_of(saved.model, test.x).argmax(dim=1)
    tests, table = made.table("test"), made.table("measurements").set_index("measure")
    assert (tests["pred"].to_numpy() == pred.numpy()).all()
    assert table.loc["clean", "value"] == made.card["metrics"]["test_accuracy"] == (pred == test.y).sum().item() / 360
    facts = made.card["reference"]
    assert facts["weights_dtype"] == str(made.arrays("weights")[next(iter(made.arrays("weights")))].dtype)
    assert list(table.index) == ["clean", "pgd", "proven", "generator", "generator_strong"]
    assert table.loc["proven", "value"] <= table.loc["pgd", "value"] < table.loc["clean", "value"]
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    assert table.loc["generator_strong", "median_l2"] < table.loc["generator", "median_l2"]
    assert facts["measured"]["pgd"] == table.loc["pgd", "value"]
    assert facts["measured"]["eps"] == 0.05
    assert made.card["timing"]["cpu_seconds"] > 0
    assert made.card["machine"]
    (row,) = [row for row in reference.rows(other) if row["name"] == "tiny"]
    assert row["bundled"]
    assert row["proven"] == table.loc["proven", "value"]


@pytest.mark.slow
def test_stable_relus_are_measured_by_linear_bounds(
    ships: Path, store_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that PGD and stable ReLUs made has its proven share beside PGD's; plain PGD's has none."""
    recipe = {"name": "pgd", "eps": 0.03, "steps": 2}
    for stability in (1.0, 0.0):
        spec = specs.TrainSpec(network="mlp", recipe=recipe | {"stability": stability}, epochs=5)
        monkeypatch.setitem(REFERENCES, "tiny", Reference("tiny", spec, "A test."))
        made = reference_build.make("tiny", store_root, device="cpu", n=30)
        table = made.table("measurements").set_index("measure")
        assert ("proven" in table.index) == bool(stability)
        if stability:
            assert 0 < table.loc["proven", "value"] <= table.loc["pgd", "value"]
            assert table.loc["proven", "settings"] == "linf, linear bounds (CROWN)"


@pytest.mark.slow
def test_making_it_again_changes_nothing_but_times(ships: Path, store_root: Path, tmp_path: Path) -> None:
    """From the training in the store, or trained anew although it ships already: the same files."""
    first = reference_build.make("tiny", store_root, device="cpu", n=30)
    trained = store.find(TINY.spec, store_root, allow_bundled=False)
    assert trained is not None
    for root in (store_root, tmp_path / "another-store"):
        again = reference_build.make("tiny", root, device="cpu", n=30)
        assert again.card["files"] == first.card["files"]
        assert again.card["reference"]["measured"] == first.card["reference"]["measured"]
        assert store.find(TINY.spec, tmp_path / "empty") == again
    assert store.find(TINY.spec, store_root, allow_bundled=False) == trained
    assert store.find(TINY.spec, tmp_path / "another-store", allow_bundled=False) is not None
    assert [path.name for path in ships.glob("[!.]*")] == [first.id]


def test_it_is_measured_again_without_training(
    ships: Path, store_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, when and with what they were trained, and what is bundled of them stay; figures are new."""
    made = reference_build.make("tiny", store_root, device="cpu", n=30)
    trained = store.find(TINY.spec, store_root, allow_bundled=False)
    assert trained is not None
    sweep = specs.SweepSpec(model=made.id, attack="fgsm", eps=(0, 0.05), n=20)
    result = bundle.make(sweep, device="cpu").folder
    assert result is not None
    shutil.rmtree(store_root)
    later = {**cards.versions(), "torch": "99.0"}
    monkeypatch.setattr(cards, "versions", lambda: later)
    again = reference_build.measure_again("tiny", device="cpu", n=20)
    assert not store_root.exists()
    for field in ("created", "versions"):
        assert again.card[field] == made.card[field] == trained.card[field]
    assert again.card["reference"]["measuring"]["versions"] == later
    assert made.card["reference"]["measuring"]["versions"] == made.card["versions"]
    assert again.card["reference"]["measuring"]["created"] > made.card["reference"]["measuring"]["created"]
    assert again.card["files"]["weights.safetensors"] == made.card["files"]["weights.safetensors"]
    for fact in ("weights_dtype", "predictions_that_differ", "name", "purpose"):
        assert again.card["reference"][fact] == made.card["reference"][fact]
    assert again.card["metrics"] == made.card["metrics"]
    assert (made.card["reference"]["measured"]["n"], again.card["reference"]["measured"]["n"]) == (30, 20)
    assert store.find(TINY.spec, tmp_path / "empty") == again
    cards.verified(result)


def test_only_what_is_bundled_is_measured_again(ships: Path) -> None:
    """Said with its name; nothing is left behind."""
    with pytest.raises(ValueError, match="name: expected a bundled model, got 'tiny', which is not"):
        reference_build.measure_again("tiny", device="cpu", n=5)
    assert not ships.exists()


@pytest.mark.parametrize(
    ("spoil", "dtype"),
    [
        (lambda w: w, "float16"),
        (lambda w: w * 1e7, "float32"),  # beyond float16
        (lambda w: 1000 + w / 1000, "float32"),  # what tells the classes apart is lost in rounding
    ],
)
def test_half_precision_is_taken_only_where_it_costs_nothing(
    trained_store: Path, spoil: Callable[[np.ndarray], np.ndarray], dtype: str
) -> None:
    """The same images read correctly, and hardly another prediction; the number that differ is said."""
    model = next(m for m in store.models(trained_store) if m.spec() == specs.TrainSpec(network="linear", epochs=15))
    weights = {name: spoil(value) if value.ndim == 2 else value for name, value in model.arrays("weights").items()}

    class Spoilt(store.Artifact):
        def arrays(self, name: str) -> dict[str, np.ndarray]:
            return weights

    data: Dataset = load(DIGITS)
    found, facts = reference_build.in_half(Spoilt(model.folder, model.card), data, "cpu")
    assert facts["weights_dtype"] == dtype
    assert {str(value.dtype) for value in found.values() if value.ndim == 2} == {dtype}
    assert (facts["predictions_that_differ"] == 0) == (dtype == "float16")


@pytest.mark.slow
def test_a_model_too_large_to_bundle_is_refused(ships: Path, store_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left of it where bundled models lie; its training stays in the store."""
    monkeypatch.setattr(reference_build, "LARGEST", 1000)
    with pytest.raises(ValueError, match="tiny: expected at most 1,000 bytes for a bundled model, got"):
        reference_build.make("tiny", store_root, device="cpu", n=5)
    assert not ships.exists()
    assert store.find(TINY.spec, store_root, allow_bundled=False) is not None


def test_the_command_lists_and_makes(ships: Path, store_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names alone list those; only `--make` makes; an unknown name or number of images is refused."""
    assert main(["reference", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(REFERENCES)
    assert not any(row["bundled"] for row in rows)
    assert main(["reference", "tiny", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert not row["bundled"]
    assert not ships.exists()
    assert main(["reference", "--make"]) == main(["reference", "--all"]) == 2
    assert "expected --make or --measure with names or with --all" in capsys.readouterr().err
    assert main(["reference", "tiny", "--make", "--n", "20", "--device", "cpu", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["bundled"]
    assert row["n"] == 20
    assert main(["reference", "nonesuch"]) == 2
    assert "name: expected one of digits28-standard" in capsys.readouterr().err
    assert main(["reference", "tiny", "--make", "--n", "0"]) == 2
    assert main(["reference", "tiny", "--make", "--measure"]) == main(["reference", "--measure"]) == 2
    assert main(["reference", "--measure", "--all", "--n", "10", "--device", "cpu", "--json"]) == 0
    found = {row["name"]: row["n"] for row in json.loads(capsys.readouterr().out) if row["bundled"]}
    assert found == {"tiny": 10}


# ---------------------------------------------------------------- what ships


def test_all_that_ships_is_whole_and_small_and_on_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder is a sound model made from a spec of the list, 10 MB at most, 60 together; the digits are there."""
    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE")
    where = bundled.root()
    assert where is not None
    by_model = {one.spec.artifact_name(): one.name for one in REFERENCES.values()}
    sizes = {}
    for folder in where.glob("[!.]*"):
        card = cards.verified(folder)
        assert card["reference"]["name"] == by_model[folder.name]
        assert specs.load_task(card).artifact_name() == folder.name
        assert specs.load_task(card).body() == card["spec"]
        assert {"clean", "pgd"} <= set(store.Artifact(folder, card).table("measurements")["measure"])
        assert {path.name for path in folder.iterdir()} - {"results"} == {*card["files"], cards.CARD}
        sizes[folder.name] = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    assert {
        "digits28-standard",
        "digits28-fgsm-mix",
        "digits28-pgd",
        "digits-standard",
        "digits-fgsm-mix",
        "digits-pgd",
    } <= {by_model[name] for name in sizes}
    assert max(sizes.values()) <= 10_000_000
    assert sum(sizes.values()) <= 60_000_000
