"""The package: its wheel holds everything that runs and nothing else, and what is installed works from anywhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
TABLE = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(name: str) -> list[str]:
    """The packages that a requirements file names, without comments and without the files it includes."""
    lines = (line.split("#")[0].strip() for line in (PROJECT / name).read_text(encoding="utf-8").splitlines())
    return sorted(line for line in lines if line and not line.startswith("-r"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    subprocess.run([*command, "-w", str(folder), str(PROJECT)], check=True, cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel was unpacked into; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def test_requirements_agree() -> None:
    """`pip install .` and `pip install -r requirements.txt` install the same, and so for the extras."""
    assert requirements("requirements.txt") == sorted(TABLE["dependencies"])
    for extra in ("onnx", "timm", "auth", "ray"):
        assert requirements(f"requirements-{extra}.txt") == sorted(TABLE["optional-dependencies"][extra])
    assert requirements("requirements-dev.txt") == sorted(TABLE["optional-dependencies"]["dev"])


def test_wheel_holds_what_runs_and_nothing_else(wheel: Path) -> None:
    """Every module, the dashboard's files and the bundled models; no tests, no data, no models of the user."""
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {str(path.relative_to(PROJECT)) for top in ("core", "ui", "pages") for path in (PROJECT / top).rglob("*.py")}
    assert code <= names
    models = {path.relative_to(PROJECT / "saved_models" / "reference") for path in bundled_files()}
    assert {f"core/bundled_models/{name.as_posix()}" for name in models} <= names
    assert {"dashboard.py", ".streamlit/config.toml", "ui/assets/icon.png"} <= names
    tops = {name.split("/")[0] for name in names}
    info = next(top for top in tops if top.endswith(".dist-info"))
    assert tops == {"core", "ui", "pages", "dashboard.py", ".streamlit", info}
    assert not any("__pycache__" in name or "/." in name for name in names)
    entry = zipfile.ZipFile(wheel).read(f"{info}/entry_points.txt").decode()
    assert re.search(r"adversarial-lab = core\.__main__:main", entry)


def bundled_files() -> list[Path]:
    """The files of the bundled models in this clone."""
    folder = PROJECT / "saved_models" / "reference"
    return [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] != ".tmp"]


def run(installed: Path, folder: Path, *command: str) -> str:
    """What a command prints in `folder`, with the installed package alone and a user's folders below `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ADVERSARIAL_LAB")}
    user = {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "share"), "PYTHONPATH": str(installed)}
    done = subprocess.run(
        command, cwd=folder, env={**kept, **user}, check=True, capture_output=True, text=True, encoding="utf-8"
    )
    return done.stdout


def test_commands_run_from_anywhere(installed: Path, tmp_path: Path) -> None:
    """The console command lists the bundled models from a folder that has nothing to do with the project."""
    code = "import sys; from core.__main__ import main; sys.argv[0] = 'adversarial-lab'; sys.exit(main())"
    printed = run(installed, tmp_path, sys.executable, "-c", code, "models")
    count = len(list((PROJECT / "saved_models" / "reference").glob("*/card.json")))
    assert count > 0
    assert len(printed.splitlines()) == 2 + count  # a line a model, below the head of the table
    assert not list(tmp_path.rglob("*.safetensors"))  # listing writes nothing


CHECKS = """
from core import __main__, paths
from core.data import folder
from core.storage import store
from ui.app import routes

assert not paths.in_clone() and routes.ICON.is_file()
assert (paths.BESIDE / "dashboard.py").is_file()
assert all((routes.PROJECT / "pages" / f"{name}.py").is_file() for name in routes.ROUTES)
print(store.default_root(), folder.data_root(), paths.BESIDE, sep="\\n")
print(__main__.main(["reference", "digits-pgd", "--make"]))
"""


def test_an_installed_package_finds_its_files_and_writes_elsewhere(installed: Path, tmp_path: Path) -> None:
    """The pages are found; store and data are the user's; bundled models are not replaced (status 2)."""
    root, data, beside, status = run(installed, tmp_path, sys.executable, "-c", CHECKS).split("\n")[:4]
    assert [Path(root).name, Path(data).name] == ["saved_models", "data"]
    assert Path(beside) == installed.resolve()
    assert not Path(root).is_relative_to(beside)
    assert not Path(data).is_relative_to(beside)
    assert status == "2"


@pytest.mark.slow
def test_an_attack_is_imported_from_anywhere(installed: Path, tmp_path: Path) -> None:
    """As the README has it; importing PyTorch anew takes seconds."""
    code = "from core.attacks import pgd; print(pgd.__module__)"
    assert run(installed, tmp_path, sys.executable, "-c", code) == "core.attacks.fixed_budget.pgd\n"
