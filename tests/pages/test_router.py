"""The router: every page by its address, the sidebar, and what must not happen at import."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ui.app import routes

if TYPE_CHECKING:
    from tests.pages.conftest import Lab


def test_import_leaves_torch_unloaded() -> None:
    """Neither the dashboard nor any module of `ui` imports torch: the first page must paint at once."""
    modules = [
        "dashboard",
        *sorted(
            ".".join(path.relative_to(routes.PROJECT).with_suffix("").parts).removesuffix(".__init__")
            for path in (routes.PROJECT / "ui").rglob("*.py")
        ),
    ]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=routes.PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", list(routes.ROUTES))
def test_page_opens_with_an_empty_store(lab: Lab, page: str) -> None:
    """Every page has the heading that its route says, and something to do when nothing was ever trained."""
    app = lab.open(page)
    assert app.title[0].value == (routes.ROUTES[page].heading or routes.ROUTES[page].title)
    assert app.button or app.get("page_link")


def test_page_without_the_router_hands_over_to_it(lab: Lab) -> None:
    """A page that is run alone, as a cold deep link runs it, ends up with the sidebar beside it."""
    app = lab.open("train")
    assert any("Device" in caption.value for caption in app.sidebar.caption)


def test_sidebar_shows_live_jobs_only(lab: Lab) -> None:
    """A card for each live job, with a way to cancel; none for ended ones."""
    from core import specs

    running = lab.job(specs.TrainSpec(), "running")
    failed = lab.job(specs.TrainSpec(seed=1), "failed")
    app = lab.open("models")
    keys = [button.key for button in app.sidebar.button]
    assert f"sidebar_cancel_{running}" in keys
    assert f"sidebar_cancel_{failed}" not in keys


def test_sidebar_names_the_engine_of_the_environment(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where jobs run in shards; nothing where they run in one process."""
    assert not any("Engine" in caption.value for caption in lab.open("models").sidebar.caption)
    monkeypatch.setenv("ADVERSARIAL_LAB_ENGINE", "local:3")
    assert any("**Engine** 3 processes here" in caption.value for caption in lab.open("models").sidebar.caption)
