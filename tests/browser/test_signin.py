"""Signing in by OpenID Connect: nothing is shown before; jobs and notes are a person's own, in whatever session."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from core import access, specs
from core.exercises import notes
from tests.browser.conftest import free_port, served
from tests.pages.conftest import Lab

pytest.importorskip("authlib", reason="needs Authlib: pip install -r requirements-auth.txt")
pytestmark = pytest.mark.browser

if TYPE_CHECKING:
    from tests.browser.provider import Provider

ANN = "Ann *Smith* [here](http://evil.example)"
ANSWER = "because it is steep"
SECRETS = """[auth]
redirect_uri = "http://127.0.0.1:{port}/oauth2callback"
cookie_secret = "a long random text, of 32 letters"
client_id = "{client}"
client_secret = "{secret}"
server_metadata_url = "{issuer}/.well-known/openid-configuration"
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """Two people who can sign in."""
    from tests.browser.provider import provided

    with provided({"ann": ANN, "bob": "Bob"}) as made:
        yield made


@pytest.fixture
def address(tmp_path: Path, provider: Provider) -> Iterator[str]:
    """A public server whose secrets name the provider."""
    from tests.browser.provider import CLIENT, SECRET

    port = free_port()
    text = SECRETS.format(port=port, client=CLIENT, secret=SECRET, issuer=provider.issuer)
    (tmp_path / "secrets.toml").write_text(text)
    flags = ["--secrets.files", str(tmp_path / "secrets.toml")]
    with served(tmp_path, port=port, flags=flags, **{access.PUBLIC: "1"}) as made:
        yield made


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Callable[[str], Page]]:
    """Give what opens a page of the dashboard in a browser of its own."""
    pages: list[Page] = []

    def opened(path: str) -> Page:
        page = browser.new_context(base_url=address).new_page()
        page.set_default_timeout(120_000)
        pages.append(page)
        page.goto(path)
        return page

    yield opened
    for page in pages:
        page.context.close()


def signed_in(page: Page, person: str) -> Page:
    """The page after somebody has signed in on it."""
    page.get_by_role("button", name="Sign in").click()
    page.locator(f"#{person}").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    return page


def test_nobody_sees_a_page_before_signing_in(visit: Callable[[str], Page], address: str) -> None:
    """At any address, and with a cookie that somebody made up; signing out leads back there."""
    for path in ("/", "/train", "/models?models_tab=x", "/exercises"):
        page = visit(path)
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        assert page.get_by_role("heading").all_inner_texts() == ["Adversarial Lab"]
        assert page.locator("section[data-testid=stSidebar] a").count() == 0
    page.context.add_cookies([{"name": "_streamlit_user", "value": '{"is_logged_in": true}', "url": address}])
    page.goto("/train")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    signed_in(page, "ann")
    said = page.get_by_text("Signed in as").inner_text()
    assert said.replace("\u2060", "") == f"Signed in as {ANN}", "a name is no Markdown"
    page.goto("/train")
    expect(page.get_by_role("heading", name="Train")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{address}/")  # the cookie is gone with this answer, not before
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    page.goto("/train")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_jobs_and_notes_are_a_persons_own(visit: Callable[[str], Page], tmp_path: Path) -> None:
    """In another session, too; another person neither reads the notes nor stops the job, which everybody sees."""
    page = signed_in(visit("/"), "ann")
    box = first_answer(page)
    box.fill(ANSWER)
    box.press("Control+Enter")
    (kept,) = wait_for_files(page, tmp_path / "store" / notes.PEOPLE)
    assert list(json.loads(kept.read_text())["answers"].values()) == [ANSWER]
    assert "ann" not in kept.name
    lab = Lab(tmp_path / "store")
    job = lab.job(specs.TrainSpec(), "running", owner=kept.stem)
    try:
        for person, own in (("ann", True), ("bob", False)):
            page = signed_in(visit("/"), person)
            expect(first_answer(page)).to_have_value(ANSWER if own else "")
            expect(page.locator(f".st-key-sidebar_job_{job}")).to_be_visible()
            expect(page.locator(f".st-key-sidebar_cancel_{job}")).to_have_count(int(own))
    finally:
        for held in lab.held:
            held.release()


def first_answer(page: Page) -> Locator:
    """The box for the answer to the first item of the second exercise set."""
    page.goto("/exercises?exercises_tab=2+Jacobian")
    page.get_by_role("button", name="Discuss").first.click()
    return page.get_by_role("textbox", name="Your answer")


def wait_for_files(page: Page, folder: Path) -> list[Path]:
    """The files in a folder, as soon as there is one."""
    for _ in range(600):
        if found := list(folder.glob("*.json")):
            return found
        page.wait_for_timeout(100)
    raise AssertionError(f"no file in {folder.name}")
