"""The dashboard as a person uses it, in a real browser, from an empty store."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from ui.app.routes import ROUTES

pytestmark = pytest.mark.browser
expect.set_options(timeout=300_000)  # milliseconds at most: a wait ends when its condition holds


def shown(page: Page, path: str) -> None:
    """The page under this address is there whole: its title, a heading, the router's sidebar, no exception."""
    expect(page).to_have_title(f"{ROUTES[path].title} · Adversarial Lab")
    heading = ROUTES[path].heading or ROUTES[path].title
    expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Epsilon sweep").first).to_be_visible()
    assert page.get_by_test_id("stException").count() == 0


@pytest.mark.sampled(4)
@pytest.mark.parametrize("path", ROUTES)
def test_every_page_has_its_address(shared_page: Page, path: str) -> None:
    """As a reload or a bookmark asks for it."""
    shared_page.goto(f"/{path}")
    shown(shared_page, path)


@pytest.mark.slow
@pytest.mark.parametrize("path", ROUTES)
def test_cold_deep_link(page: Page, path: str) -> None:
    """The first address asked of a fresh server may be any page (INTERFACE trap 1)."""
    page.goto(f"/{path}")
    shown(page, path)


@pytest.mark.slow
def test_train_on_digits(page: Page) -> None:
    """From nothing: train in the browser, then visit the pages that use the model."""
    page.goto("/train?train_dataset=digits")
    shown(page, "train")
    page.get_by_role("button", name=re.compile("Train LeNet")).click()
    expect(page.get_by_role("button", name=re.compile("Open the trained model"))).to_be_visible()

    for path in ("generator_attack", "sparse_attack", "epsilon_sweep", "models"):
        page.goto(f"/{path}")
        shown(page, path)


@pytest.mark.slow
def test_job_outlives_page_and_browser(page: Page, server: str) -> None:
    """A running training is in the sidebar of every page, survives a reload, and is cancelled from there."""
    page.goto("/train?train_dataset=digits&train_epochs=1000")
    page.get_by_role("button", name=re.compile("Train LeNet")).click()
    sidebar = page.get_by_test_id("stSidebar")
    expect(sidebar.get_by_role("button", name="Cancel")).to_be_visible()
    page.get_by_role("link", name="Epsilon sweep").first.click()
    expect(sidebar.get_by_role("button", name="Cancel")).to_be_visible()
    page.reload()
    expect(sidebar.get_by_role("button", name="Cancel")).to_be_visible()
    sidebar.get_by_role("button", name="Cancel").click()
    expect(sidebar.get_by_role("button", name="Cancel")).to_have_count(0)
    page.goto("/train?train_dataset=digits&train_epochs=1000")
    expect(page.get_by_text(re.compile("ancelled")).first).to_be_visible()
