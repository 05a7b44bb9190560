"""The architecture, checked: imports point down only, and what pages import at once is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]

# From the bottom up; a module may import from its own line and the lines above it in this list.
LAYERS: list[set[str]] = [
    {"core"},  # the package itself: its version
    {"core.specs", "core.progress", "core.files", "core.epsilon", "core.false_proof"},
    {"core.cards"},
    {"core.shipped"},
    {
        "core.data_folder",
        "core.folder_layout",
        "core.folder_state",
        "core.store",
        "core.events",
        "core.checkpoint",
        "core.mask_shapes",
        "core.enumeration",
        "core.toy",
    },
    {"core.folder_images", "core.trained_on"},
    {"core.data", "core.networks", "core.reference"},
    {"core.models", "core.attacks", "core.certification"},
    {"core.evaluation"},
    {"core.training"},
    {"core.figures"},
    {"core.figures_heat"},
    {"core.figures_linear", "core.figures_records", "core.figures_trust"},
    {"core.running"},
    {"core.reference_build"},
    {"core.jobs", "core.worker"},
    {"core.cli"},
    {"core.__main__"},
    {"ui"},
    {"pages", "dashboard"},
]


def _level(module: str) -> int:
    known = [(len(name), level) for level, names in enumerate(LAYERS) for name in names if _inside(module, name)]
    assert known, f"{module} has no layer: add it to LAYERS in {Path(__file__).name}"
    return max(known)[1]


def _inside(module: str, name: str) -> bool:
    return module == name or (name != "core" and module.startswith(name + "."))


def _modules() -> dict[str, Path]:
    files = [PROJECT / "dashboard.py", *(p for top in ("core", "ui", "pages") for p in (PROJECT / top).rglob("*.py"))]
    return {".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def _imports(path: Path, modules: dict[str, Path]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # `from core import store` imports a module, `from core.store import find` a name
            found |= {
                full if (full := f"{node.module}.{alias.name}") in modules else node.module for alias in node.names
            }
    return {name for name in found if name in modules}


MODULES = _modules()


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    """No module imports from a layer above its own, lazily or not (DESIGN: arrows point down only)."""
    up = {name for name in _imports(MODULES[module], MODULES) if _level(name) > _level(module)}
    assert not up, f"{module} imports {', '.join(sorted(up))} from above"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("core")])
def test_core_does_not_know_streamlit(module: str) -> None:
    """Nothing in core imports streamlit."""
    text = MODULES[module].read_text(encoding="utf-8")
    names = {alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for alias in node.names}
    assert not any(name.split(".")[0] == "streamlit" for name in names)


@pytest.mark.parametrize(
    "modules",
    [
        "core.__main__, core.jobs, core.figures, core.reference",
        "core.evaluation.comparison, core.evaluation.trust, core.evaluation.records, core.evaluation.paired",
        "ui",
    ],
)
def test_light_modules_leave_torch_unloaded(modules: str) -> None:
    """What pages and the command line import at once loads no torch: its import takes seconds."""
    code = f"import {modules}, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)
