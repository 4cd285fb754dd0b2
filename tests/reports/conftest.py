"""A browser on reports: nothing may be said on its console or fetched from elsewhere."""

import shutil

import pytest


@pytest.fixture
def open_page():
    """(path, colour scheme) -> the page on a narrow screen; at the end what it said or fetched fails the test."""
    sync_api = pytest.importorskip("playwright.sync_api")
    program = next((p for p in map(shutil.which, ("chromium", "google-chrome", "chromium-browser")) if p), None)
    if program is None:
        pytest.skip("no browser on this machine")
    said: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])

        def opened(path, scheme):
            tab = browser.new_page(viewport={"width": 380, "height": 800}, color_scheme=scheme)
            tab.on("console", lambda message: said.append(message.text))
            tab.on("pageerror", lambda error: said.append(str(error)))
            tab.on("request", lambda request: request.url[:5] in ("file:", "data:") or said.append(request.url))
            tab.goto(path.as_uri())
            return tab

        yield opened
        browser.close()
    assert said == []
