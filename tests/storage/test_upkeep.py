"""A store is checked, put back together part by part, and rewritten from earlier formats; nothing is ever deleted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.__main__ import main
from core.jobs import remade
from core.specs import FORMAT, TASKS, task_name
from core.storage import cards, damage, migrate, restore, store, verify
from tests.fixtures.artifacts import LINEAR, SPECS, STORE
from tests.storage.test_other_versions import content

ID = LINEAR.artifact_name()
FILES = sorted(path.relative_to(STORE) for path in STORE.rglob("*") if path.is_file())


@pytest.fixture
def root(store_root: Path) -> Path:
    """The default store, with an artifact of every task."""
    shutil.copytree(STORE, store_root)
    return store_root


def flip(path: Path) -> None:
    """Change the last byte of a file."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def stored(root: Path) -> dict[str, bytes]:
    """Every file of an artifact that is not set aside."""
    return {name: data for name, data in content(root).items() if not name.startswith(store.SET_ASIDE)}


def use(root: Path, file: Path) -> None:
    """Read a damaged artifact as a page or a command would, so that it is set aside."""
    parts = file.parts
    folder = root.joinpath(*parts[:-1])
    with pytest.raises(store.DamagedArtifact):
        damage.or_set_aside(folder, root, lambda: cards.verified(folder))
    assert not folder.exists()


# ---------------------------------------------------------------- verify


@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name[:24]}/{path.name}")
@pytest.mark.parametrize("harm", [flip, Path.unlink], ids=["flipped", "gone"])
@pytest.mark.sampled(3)
def test_verify_finds_any_file(root: Path, file: Path, harm: Callable[[Path], None]) -> None:
    """Exactly the artifact that it belongs to, with the file's name; a look changes nothing."""
    harm(root / file)
    before = content(root)
    (found,) = (one for one in verify.every(root) if one.damaged)
    assert found.folder == (root / file).parent
    assert file.name in found.damaged[0]
    assert content(root) == before


def test_the_command_counts_and_fails(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 0 where all is sound, 1 where anything is damaged, which is told; 0 for other versions."""
    assert main(["verify"]) == 0
    assert f"{len(FILES):,} files of" in capsys.readouterr().err
    card = json.loads((root / ID / cards.CARD).read_bytes()) | {"format": 9}
    (root / "later-0123456789").mkdir()
    (root / "later-0123456789" / cards.CARD).write_text(json.dumps(card))
    assert main(["verify"]) == 0
    assert "of format 9" in capsys.readouterr().out
    flip(root / ID / "test.parquet")
    flip(root / ID / "weights.safetensors")
    assert main(["verify", "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["damaged"] == 1
    assert {row["what"].split()[0] for row in json.loads(said.out)["rows"] if row["damaged"]} == {
        "test.parquet",
        "weights.safetensors",
    }
    assert "damaged: 1 of" in said.err


# ---------------------------------------------------------------- restore


@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name[:24]}/{path.name}")
@pytest.mark.parametrize("read", [True, False], ids=["set aside", "where it lies"])
@pytest.mark.sampled(3)
def test_a_backup_restores_any_file(root: Path, file: Path, read: bool) -> None:
    """The store is as it was to the last byte, results of a model that was set aside among them."""
    before = content(root)
    flip(root / file)
    if read:
        use(root, file)
    made = restore.restore(root, [STORE])
    assert made
    assert {one.outcome for one in made} == {"back"}
    assert stored(root) == before


def test_a_model_loses_no_results_to_a_damaged_table(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its weights are whole: the table of its test images is made again from them, and its results come back."""
    results = {one.id for one in store.all_results(ID, root, *TASKS)}
    weights = (root / ID / "weights.safetensors").read_bytes()
    flip(root / ID / "test.parquet")
    use(root, Path(ID, "test.parquet"))
    assert ID not in {model.id for model in store.models(root)}
    assert main(["restore"]) == 0
    capsys.readouterr()
    again = store.find(LINEAR, root)
    assert again is not None
    assert (again.folder / "weights.safetensors").read_bytes() == weights
    assert {one.id for one in store.all_results(ID, root, *TASKS)} == results
    before = store.Artifact(STORE / ID, cards.read_card(STORE / ID)).table("test")
    table = again.table("test")
    assert table.columns.tolist() == before.columns.tolist()
    assert (table["pred"] == before["pred"]).mean() >= 0.99  # images between two classes may change sides by rounding
    assert again.card["metrics"] == json.loads((STORE / ID / cards.CARD).read_bytes())["metrics"]
    assert main(["verify"]) == 0


def test_parts_come_from_several_places(root: Path, tmp_path: Path) -> None:
    """A file from one copy, another from a second, none of them whole."""
    before = content(root)
    backups = [tmp_path / "one", tmp_path / "two"]
    for backup, lacks in zip(backups, ("weights.safetensors", "test.parquet"), strict=True):
        shutil.copytree(STORE, backup)
        flip(backup / ID / lacks)
    for file in ("weights.safetensors", "test.parquet"):
        (root / ID / file).unlink()
    assert [one.outcome for one in restore.restore(root, backups[:1])] == ["lost"]
    assert {one.outcome for one in restore.restore(root, backups)} == {"back"}
    assert stored(root) == before


def test_what_is_lost_is_told_and_kept(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No copy of the weights: the model stays aside with its results, and exit status 1 says so."""
    flip(root / ID / "weights.safetensors")
    use(root, Path(ID, "weights.safetensors"))
    before = content(root)
    assert main(["restore"]) == 1
    said = capsys.readouterr()
    assert "no copy of weights.safetensors has the SHA-256 in its card" in said.out
    assert "nothing was deleted" in said.err
    assert content(root) == before


def test_results_on_other_weights_stay_aside(root: Path) -> None:
    """A model that was made again with other weights is not given the results on those before."""
    result = next(iter(store.all_results(ID, root, "attack")))
    whole = store.find(LINEAR, root)
    assert whole is not None
    card = {name: value for name, value in whole.card.items() if name not in cards.WRITTEN_BY_STORE}
    arrays = {name: value + 1 for name, value in whole.arrays("weights").items()}
    flip(result.folder / "images.parquet")
    use(root, (result.folder / "images.parquet").relative_to(root))
    flip(root / ID / "weights.safetensors")
    use(root, Path(ID, "weights.safetensors"))
    store.write(LINEAR, root, card=card, arrays={"weights": arrays}, tables={"test": whole_table()})
    made = restore.restore(root, [STORE])
    assert {one.outcome for one in made} == {"aside"}
    assert store.all_results(ID, root, *TASKS) == []


def test_what_was_replaced_is_not_put_back(root: Path) -> None:
    """An artifact that stepped aside though it is whole stays there."""
    for artifact in (store.open_model(ID, root), *store.all_results(LINEAR.artifact_name(), root, "sweep")):
        if artifact.folder.exists():
            damage.step_aside(artifact.folder, root, "it was made on other images")
    before = content(root)
    assert restore.restore(root, [STORE]) == []
    assert content(root) == before


def whole_table() -> Any:
    """The table of the model's test images."""
    return store.Artifact(STORE / ID, cards.read_card(STORE / ID)).table("test")


def test_nothing_to_restore_is_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a folder that is none is refused."""
    assert main(["restore"]) == 0
    assert "nothing is set aside or damaged" in capsys.readouterr().err
    assert main(["restore", "--backup", str(root / "nowhere")]) == 2


def test_only_what_is_derived_is_made_again(root: Path) -> None:
    """Where the table is whole, or the model has none, nothing is."""
    card = cards.read_card(root / ID)
    assert remade.rebuild(card, {remade.TABLE: b""}) == {}
    assert remade.rebuild({**card, "files": {}}, {}) == {}


# ---------------------------------------------------------------- migrate


def as_format_zero(root: Path) -> dict[str, str]:
    """Make every artifact one of an invented format 0, in which learning rates had another name; new id → old id."""
    names: dict[str, str] = {}

    def old(folder: Path) -> None:
        card = json.loads((folder / cards.CARD).read_bytes())
        spec = migrate._renamed(card["spec"], names)
        if "lr" in spec:
            spec["rate"] = spec.pop("lr")
        card |= {"format": 0, "spec": spec}
        card["key"] = cards.json_hash({"format": 0, "spec": TASKS[card["task"]].__name__, **spec})
        card["sha256"] = cards.card_hash(card)
        (folder / cards.CARD).write_text(json.dumps(card))
        name = f"{folder.name.rpartition('-')[0]}-{card['key'][:10]}"
        names[folder.name] = name
        folder.rename(folder.with_name(name))

    for model in cards.artifact_folders(root):
        old(model)
    for model in cards.artifact_folders(root):
        for result in damage.results_in(model):
            old(result)
    return names


def rate_to_lr(card: dict[str, Any]) -> dict[str, Any]:
    """The step from that format to the first."""
    spec = dict(card["spec"])
    if "rate" in spec:
        spec["lr"] = spec.pop("rate")
    return {**card, "spec": spec, "format": 1}


def test_artifacts_of_an_earlier_format_are_rewritten(root: Path) -> None:
    """Every one has the id that its request has today, results name the new ids; the old ones stay."""
    before = {name: data for name, data in content(root).items() if not name.endswith(cards.CARD)}
    names = as_format_zero(root)
    assert store.models(root) == []
    untouched = content(root)
    planned = migrate.plan(root, {0: rate_to_lr})
    assert content(root) == untouched
    assert {change.folder.name: change.name for change in planned} == {old: new for new, old in names.items()}
    migrate.migrate(root, {0: rate_to_lr})
    assert {name: data for name, data in stored(root).items() if not name.endswith(cards.CARD)} == before
    for spec in SPECS.values():
        if task_name(spec) != "compare":
            found = store.find(spec, root)
            assert found is not None
            assert found.spec() == spec
    assert not any(one.damaged or one.unreadable for one in verify.every(root))
    aside = [path for path in (root / store.SET_ASIDE).rglob(cards.CARD)]
    assert len(aside) == len(names)
    assert restore.restore(root, [STORE]) == [], "what was rewritten is not put back"
    assert migrate.plan(root, {0: rate_to_lr}) == []


def test_what_cannot_be_rewritten_is_left(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a step, with one that makes nothing readable, or of a damaged card: a reason, and nothing changes."""
    assert main(["migrate", "--dry-run"]) == main(["migrate"]) == 0
    assert "nothing to migrate" in capsys.readouterr().err
    as_format_zero(root)
    before = content(root)
    for steps, says in (
        ({}, "no way from format 0 to 1"),
        ({0: lambda card: {**card, "spec": {**card["spec"], "left": 1}}}, "left"),
        ({0: lambda card: {**card, "task": "distil"}}, "distil"),
    ):
        monkeypatch.setattr(migrate, "STEPS", steps)
        for command in (["migrate", "--dry-run"], ["migrate"]):
            assert main(command) == 1
            assert says in capsys.readouterr().out
            assert content(root) == before
    assert FORMAT == 1
