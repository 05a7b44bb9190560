"""The dashboard as a person uses it, in a real browser, from an empty store."""

from __future__ import annotations

import re
from pathlib import Path

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
def test_train_on_digits_and_export_a_table(page: Page, tmp_path: Path) -> None:
    """From nothing: train in the browser, visit every page, run a comparison, take its table away."""
    page.goto("/train")
    shown(page, "train")
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.get_by_text(re.compile("A model with these settings is saved"))).to_be_visible()

    for path in ("generator_attack", "sparse_attack", "epsilon_sweep", "overview"):
        page.goto(f"/{path}")
        shown(page, path)

    page.goto("/model_comparison?model_comparison_n=100")
    shown(page, "model_comparison")
    page.get_by_role("button", name=re.compile("^Run")).first.click()
    button = page.get_by_role("button", name="Markdown", exact=True)
    expect(button).to_be_visible()
    with page.expect_download() as caught:
        button.click()
    text = Path(caught.value.path()).read_text(encoding="utf-8")
    assert text.count("| digits-lenet-standard-") >= 2
    assert "Clopper" in text
    assert "seed 0" in text


@pytest.mark.slow
def test_job_outlives_page_and_browser(page: Page, server: str) -> None:
    """A running training is in the sidebar of every page, survives a reload, and is cancelled from there."""
    page.goto("/train?train_epochs=1000")
    page.get_by_role("button", name="Train", exact=True).click()
    sidebar = page.get_by_test_id("stSidebar")
    expect(sidebar.get_by_role("button", name="Cancel")).to_be_visible()
    page.get_by_role("link", name="Epsilon sweep").first.click()
    expect(sidebar.get_by_role("button", name="Cancel")).to_be_visible()
    page.reload()
    expect(sidebar.get_by_role("button", name="Cancel")).to_be_visible()
    sidebar.get_by_role("button", name="Cancel").click()
    expect(sidebar.get_by_role("button", name="Cancel")).to_have_count(0)
    page.goto("/train?train_epochs=1000")
    expect(page.get_by_text(re.compile("ancelled")).first).to_be_visible()


@pytest.mark.slow
def test_the_end_of_a_run_is_announced_and_brought_into_view(page: Page) -> None:
    """On the page that shows the answer, in a window too low for it, and as a link on every other page."""
    page.set_viewport_size({"width": 1280, "height": 420})
    page.goto("/train?train_network=mlp&train_dataset=digits&train_epochs=3")
    shown(page, "train")
    page.get_by_role("button", name=re.compile("^Train ")).click()
    expect(page.get_by_test_id("stToast").filter(has_text="Done: Train mlp")).to_be_visible()
    answer = page.locator(".st-key-train_answer, [data-testid=stMain] [data-testid=stPlotlyChart]").first
    expect(answer).to_be_in_viewport()

    page.goto("/train?train_network=mlp&train_dataset=digits&train_epochs=400")
    page.get_by_role("button", name=re.compile("^Train ")).click()
    sidebar = page.get_by_test_id("stSidebar")
    expect(sidebar.get_by_role("button", name="Cancel")).to_be_visible()
    page.get_by_role("link", name="Epsilon sweep").first.click()
    shown(page, "epsilon_sweep")
    link = sidebar.get_by_role("link", name=re.compile("^Done: Train mlp"))
    expect(link).to_be_visible()
    link.click()
    shown(page, "train")
    expect(link).to_have_count(0)


@pytest.mark.slow
def test_back_and_forward_find_each_page_as_it_was_left(page: Page) -> None:
    """One step for each page that was gone to, with all that was set there, also what was set by the keyboard."""
    page.goto("/train")
    shown(page, "train")
    epochs = page.get_by_role("spinbutton", name=re.compile("^Epochs")).first
    epochs.fill("7")
    epochs.press("Enter")
    expect(page).to_have_url(re.compile("train_epochs=7"))
    for name, path in (("Linear models", "linear_models"), ("Universal perturbation", "universal")):
        page.get_by_role("link", name=name).first.click()
        shown(page, path)
    page.go_back()
    shown(page, "linear_models")
    page.go_back()
    shown(page, "train")
    expect(page).to_have_url(re.compile("train_epochs=7"))
    expect(page.get_by_role("spinbutton", name=re.compile("^Epochs")).first).to_have_value("7")
    page.go_forward()
    shown(page, "linear_models")
    page.go_forward()
    shown(page, "universal")
