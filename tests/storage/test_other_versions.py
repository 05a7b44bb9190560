"""One artifact of another version breaks no list, is left as it is, and is listed with the reason."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from core.__main__ import main
from core.specs import TASKS, ModelSpec, task_name
from core.storage import cards, left_out, readable, store
from tests import other_versions
from tests.fixtures.artifacts import LINEAR, SPECS, STORE


@pytest.fixture
def mixed(store_root: Path) -> dict[Path, str]:
    """The default store, of this version and three others; the folders of the others, and what is wrong with them."""
    shutil.copytree(STORE, store_root)
    model = store.open_model(LINEAR.artifact_name(), store_root)
    return other_versions.plant_all(model, store.results(model.id, store_root, "attack")[0])


def content(root: Path) -> dict[str, bytes]:
    """Every file that is stored."""
    paths = (path for path in root.rglob("*") if path.is_file() and ".locks" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def test_lists_go_on_without_them(mixed: dict[Path, str], store_root: Path) -> None:
    """Models and results of this version are listed as before, the others with their reasons; nothing is touched."""
    before = content(store_root)
    models = {model.id for model in store.models(store_root)}
    assert models == {spec.artifact_name() for spec in SPECS.values() if isinstance(spec, ModelSpec)}
    alone = {result.id for result in store.all_results(LINEAR.artifact_name(), STORE, *TASKS)}
    assert {result.id for result in store.all_results(LINEAR.artifact_name(), store_root, *TASKS)} == alone
    told = {one.name: one for one in left_out.unreadable(store_root)}
    assert set(told) == {folder.name for folder in mixed}
    for folder, says in mixed.items():
        one = told[folder.name]
        assert re.search(says, one.why), one
        assert "\n" not in one.sentence()
        assert one.made_by in other_versions.MODELS
        assert not one.damaged
    assert content(store_root) == before


def test_each_is_refused_in_one_sentence(mixed: dict[Path, str], store_root: Path) -> None:
    """Opened by its id, with the reason; it stays where it is."""
    for folder, says in mixed.items():
        if folder.parent == store_root:
            with pytest.raises(store.UnreadableArtifact, match=f"cannot be read by this version: .*{says}") as caught:
                store.open_model(folder.name, store_root)
            assert "\n" not in str(caught.value)
        assert folder.is_dir()


LISTS = (
    *(["models"], ["reference"], ["report"], ["bundle", "--list"]),
    *([name, flag, LINEAR.artifact_name()] for name, flag in (("curve", "--models"), ("trust", "--model"))),
)


@pytest.mark.parametrize("command", LISTS, ids=lambda command: command[0])
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
def test_commands_that_list(
    command: list[str],
    form: list[str],
    mixed: dict[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each says of this version's models what it says without the others."""
    monkeypatch.chdir(tmp_path)
    said = []
    for root in (STORE, Path(next(iter(mixed))).parent):
        shutil.copytree(root, tmp_path / "here", dirs_exist_ok=True)
        monkeypatch.setenv("ADVERSARIAL_LAB_STORE", str(tmp_path / "here"))
        assert main([*command, *form]) == 0
        said.append(capsys.readouterr())
    assert said[0].out == said[1].out
    if command == ["models"]:
        assert "cannot be read" not in said[0].err
        for folder, says in mixed.items():
            (line,) = (line for line in said[1].err.splitlines() if folder.name in line)
            assert re.search(says, line)


def test_what_lacks_something_is_made_again_when_it_is_asked_for(store_root: Path) -> None:
    """An artifact of a request of today whose card lacks what this version needs: set aside, its results brought on."""
    shutil.copytree(STORE, store_root)
    made, others = store.open_model(LINEAR.artifact_name(), store_root), store.all_results
    results = {one.id for one in others(made.id, store_root, *TASKS)}
    card = {name: value for name, value in made.card.items() if name != "metrics"}
    (made.folder / cards.CARD).write_text(json.dumps(card | {"sha256": cards.card_hash(card)}))
    with pytest.raises(store.UnreadableArtifact, match="metrics: expected a value"):
        store.find(LINEAR, store_root)
    assert made.folder.is_dir()
    own = {name: value for name, value in made.card.items() if name not in cards.WRITTEN_BY_STORE}
    weights, table = STORE / made.id / "weights.safetensors", store.Artifact(STORE / made.id, made.card).table("test")
    assert weights.is_file()
    arrays = store.Artifact(STORE / made.id, made.card).arrays("weights")
    again = store.write(LINEAR, store_root, card=own, arrays={"weights": arrays}, tables={"test": table})
    assert store.find(LINEAR, store_root) == again
    assert {one.id for one in others(made.id, store_root, *TASKS)} == results
    (aside,) = (store_root / store.SET_ASIDE).iterdir()
    assert "metrics" in (aside / "why.txt").read_text()


def test_every_task_says_what_it_needs() -> None:
    """A new task has an entry; what is bundled and what earlier code left has what is needed."""
    assert set(readable.NEEDS) == {name for name in TASKS if name != "compare"}
    for folder in [*STORE.glob("*/card.json"), *STORE.glob("*/results/*/card.json")]:
        assert readable.reason(cards.read_card(folder.parent)) == ""
    assert {task_name(spec) for spec in SPECS.values()} == set(TASKS)
