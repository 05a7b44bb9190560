"""From page to page: the end of a run is announced, Back and Forward keep everything, a table is taken home."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_dashboard import shown

pytestmark = [pytest.mark.browser, pytest.mark.slow]
expect.set_options(timeout=300_000)  # milliseconds at most: a wait ends when its condition holds


CALM = """(long) => {
    const running = document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'running';
    if (running || !window.labCalm) window.labCalm = performance.now();
    return performance.now() - window.labCalm > long;
}"""


def calm(page: Page, long: int = 3000) -> None:
    """Wait until no script has run for so many milliseconds: the page has settled on what it opens with."""
    page.evaluate("delete window.labCalm")
    page.wait_for_function(CALM, arg=long, polling=100)


def test_the_end_of_a_run_is_announced_and_brought_into_view(bundled_page: Page) -> None:
    """A run that is started below the fold of a low window: a toast says that it is done, and its answer is in view."""
    page = bundled_page
    page.set_viewport_size({"width": 1280, "height": 420})
    page.goto("/train?train_network=mlp&train_dataset=digits&train_epochs=3")
    shown(page, "train")
    page.get_by_role("button", name=re.compile("^Train ")).click()
    expect(page.get_by_test_id("stToast").filter(has_text="Done: Train mlp")).to_be_visible()
    answer = page.locator(".st-key-train_answer, [data-testid=stMain] [data-testid=stPlotlyChart]").first
    expect(answer).to_be_in_viewport()


def test_the_end_of_a_run_is_a_link_on_every_other_page(bundled_page: Page) -> None:
    """Started, left, and found again by the link in the sidebar, which is gone then."""
    page = bundled_page
    page.goto("/train?train_network=mlp&train_dataset=digits&train_epochs=200&train_seed=3")
    shown(page, "train")
    page.get_by_role("button", name=re.compile("^Train ")).click()
    sidebar = page.get_by_test_id("stSidebar")
    expect(sidebar.get_by_role("button", name="Cancel")).to_be_visible()
    page.get_by_role("link", name="Linear models").first.click()
    shown(page, "linear_models")
    link = sidebar.get_by_role("link", name=re.compile("Done: Train mlp"))
    expect(link).to_be_visible()
    link.click()
    shown(page, "train")
    expect(link).to_have_count(0)


def test_back_and_forward_find_each_page_as_it_was_left(bundled_page: Page) -> None:
    """One step for each page that was gone to, with all that was set there."""
    page = bundled_page
    page.goto("/train")
    shown(page, "train")
    page.get_by_text("More settings").first.click()
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
    page.go_forward()
    shown(page, "linear_models")
    page.go_forward()
    shown(page, "universal")


def test_a_comparison_is_taken_home(bundled_page: Page, tmp_path: Path) -> None:
    """The table that the page opens with, downloaded and read by pandas with its defaults, has its models in it."""
    page = bundled_page
    page.goto("/model_comparison?model_comparison_tab=Export")
    shown(page, "model_comparison")
    button = page.get_by_test_id("stMain").get_by_role("button", name=re.compile(r"CSV")).first
    expect(button).to_be_visible()
    calm(page)
    with page.expect_download() as caught:
        button.click()
    file = tmp_path / caught.value.suggested_filename
    caught.value.save_as(file)
    table = pd.read_csv(io.BytesIO(file.read_bytes()))
    assert len(table) >= 2
    assert any("LeNet" in str(value) or "lenet" in str(value) for value in table.iloc[:, 0])
