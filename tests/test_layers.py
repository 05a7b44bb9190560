"""The architecture, checked: imports point down, indexes name what is there, what pages import at once is light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]

ORDER: dict[str, list[str]] = {
    "": ["core", "ui", "pages dashboard"],
    "core": [
        *("checks epsilon escaping", "specs progress paths", "access", "data", "storage", "networks", "models kernels"),
        "attacks",
        *("certification", "linear", "evaluation", "training", "figures", "exercises", "jobs", "cli", "__main__"),
    ],
    "core.attacks": [
        "engine",
        "fixed_budget sparse black_box physical generator",
        "minimal",
        "universal",
        "run subject",
        "check",
    ],
    "core.evaluation": ["tables", "trust", "robust", "imported", "tasks live"],
    "ui": [
        *("text", "app", "show", "form"),
        "models generator sparse masks universal measure linear exercises playground",
    ],
}
"""What lies in a package, from the bottom up: a module imports from its own line's part and from the lines before."""


def _modules() -> dict[str, Path]:
    files = [PROJECT / "dashboard.py", *(p for top in ("core", "ui", "pages") for p in (PROJECT / top).rglob("*.py"))]
    return {".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def _imports(path: Path, modules: dict[str, Path]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # `from core.storage import store` imports a module, `from core.storage.store import find` a name
            found |= {
                full if (full := f"{node.module}.{alias.name}") in modules else node.module for alias in node.names
            }
    return {name for name in found if name in modules}


MODULES = _modules()
IMPORTS = {name: _imports(path, MODULES) for name, path in MODULES.items()}
PACKAGES = [name for name, path in MODULES.items() if path.name == "__init__.py"]


def _place(package: str, module: str) -> tuple[int, str]:
    part = (module.removeprefix(package + ".") if package else module).split(".")[0]
    for level, names in enumerate(ORDER[package]):
        if part in names.split():
            return level, part
    raise AssertionError(f"{module} has no place in {package or 'the project'}: add {part} to ORDER")


def _inside(package: str, module: str) -> bool:
    return not package or module.startswith(package + ".")


@pytest.mark.parametrize("package", ORDER)
def test_imports_point_down(package: str) -> None:
    """No module imports from a part above its own or beside it, lazily or not."""
    wrong = []
    for module in MODULES:
        for name in IMPORTS[module]:
            if _inside(package, module) and _inside(package, name):
                (above, part), (below, other) = _place(package, module), _place(package, name)
                if part != other and below >= above:
                    wrong.append(f"{module} imports {name}")
    assert not wrong, wrong


def test_there_is_no_circle() -> None:
    """Following imports never leads back, inside a package neither."""
    done: set[str] = set()
    circles: list[str] = []

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            circles.append(" → ".join([*path[path.index(module) :], module]))
        elif module not in done:
            for name in sorted(IMPORTS[module] - {module}):
                visit(name, [*path, module])
            done.add(module)

    for module in MODULES:
        visit(module, [])
    assert not circles, circles


@pytest.mark.parametrize("package", PACKAGES)
def test_an_index_names_exactly_what_is_there(package: str) -> None:
    """The docstring of a package lists its modules and folders: all of them, and no other."""
    text = ast.get_docstring(ast.parse(MODULES[package].read_text(encoding="utf-8"))) or ""
    named = set(re.findall(r"^ *(\w+) {2,}\S", text, flags=re.MULTILINE))
    there = {name.removeprefix(package + ".") for name in MODULES if _inside(package, name)}
    assert named == {name for name in there if "." not in name}


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("core")])
def test_core_does_not_know_streamlit(module: str) -> None:
    """Nothing in core imports streamlit."""
    text = MODULES[module].read_text(encoding="utf-8")
    names = {alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for alias in node.names}
    assert not any(name.split(".")[0] == "streamlit" for name in names)


LIGHT = [
    *(name for name in PACKAGES if name.startswith("core")),
    *("core.__main__", "core.jobs.queue", "core.storage.store", "core.models.reference", "core.figures.base"),
    *("core.evaluation.trust.examine", "core.evaluation.tables.records", "core.evaluation.tables.paired"),
    *("core.evaluation.tables.comparison", "ui"),
]


def test_light_modules_leave_torch_unloaded() -> None:
    """What pages and the command line import at once loads no torch, whose import takes seconds."""
    code = f"import sys\nfor name in {LIGHT}:\n    __import__(name)\n    assert 'torch' not in sys.modules, name"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_evaluation_leaves_the_compiler_unloaded() -> None:
    """PyTorch's, whose import takes a second or two of every job; counting what a network costs would load it."""
    code = """
import sys, torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from core.evaluation import evaluate
from core.networks.portions import arithmetic, memory
x, model = torch.rand(4, 1, 8, 8), nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
assert arithmetic(model, x) > 0 and memory(model.requires_grad_(False), x) > 0
evaluate(model, x, model(x).argmax(1), eps=0.1, effort="quick", trust=False)
print("torch._dynamo" in sys.modules and hasattr(TorchDispatchMode, "_should_skip_dynamo"))
"""
    made = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, capture_output=True, text=True)
    assert made.stdout.strip() == "False"


def test_a_title_waits_for_nothing() -> None:
    """The router draws every page's heading before it imports anything of the package, which takes half a second."""
    code = "import sys, streamlit, dashboard\nassert not [name for name in sys.modules if name.split('.')[0] == 'core']"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, stderr=subprocess.DEVNULL)


def test_the_first_picture_needs_no_pandas() -> None:
    """What the first page imports before it draws a picture; Streamlit alone loads none of it."""
    names = ["streamlit", "dashboard", "ui.playground.stage", "ui.playground.images", "ui.playground.steps"]
    heavy = {"pandas", "torch", "scipy", "sklearn"}
    code = f"import sys\nfor name in {names}:\n    __import__(name)\n    assert not {heavy} & set(sys.modules), name"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, stderr=subprocess.DEVNULL)
