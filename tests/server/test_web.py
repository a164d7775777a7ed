"""llama-server's own page in a browser: two pictures, a question, the right answer (``make
test-web``).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lookm_cpp.embedded import DEMO

from server.servers import Server, running

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
BROWSER_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SCREENSHOTS = os.environ.get("LOOKM_SCREENSHOTS")
SECONDS = 120

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: make test-web")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def page_server(folder: Path) -> Iterator[Server]:
    with running(folder, "--kv-ratio", "0.5", "-c", "4096") as server:
        if "text/html" not in server.http.get("/").headers.get("content-type", ""):
            pytest.skip("this build has no page: make web")
        yield server


@pytest.fixture
def page(page_server: Server) -> Iterator[Any]:
    """The page in a fresh browser, and what it says on its console: errors fail the test.

    But one, the page's own way to learn that llama-server was started without ``--tools``: it asks
    for them, and the the browser notes that the answer is 403.
    """
    troubles: list[str] = []

    def listen(said: Any) -> None:
        asks_for_tools = (
            said.location["url"] == f"{page_server.url}/tools" and "status of 403" in said.text
        )
        if said.type == "error" and not asks_for_tools:
            troubles.append(said.text)

    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=BROWSER_FLAGS)
        try:
            opened = browser.new_page(viewport={"width": 1100, "height": 900})
            opened.set_default_timeout(1000 * SECONDS)
            opened.on("console", listen)
            opened.on("pageerror", lambda error: troubles.append(str(error)))
            opened.goto(page_server.url)
            yield opened
            if SCREENSHOTS:
                opened.screenshot(path=str(Path(SCREENSHOTS) / "page.png"))
        finally:
            browser.close()
    assert troubles == []


def _ask(page: Any, question: str, pictures: list[str]) -> None:
    page.locator("input[type=file]").first.set_input_files([str(DEMO / name) for name in pictures])
    for name in pictures:
        page.get_by_alt_text(name).first.wait_for()
    page.get_by_placeholder("Type a message").fill(question)
    page.keyboard.press("Enter")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is in image 1?", "Image 1 shows an umbrella."),
        ("What is in image 2?", "Image 2 shows an owl."),
    ],
)
def test_two_pictures_and_a_question(
    page: Any, page_server: Server, question: str, answer: str
) -> None:
    before = page_server.metrics()["lookm:prompts_compressed_total"]
    _ask(page, question, ["pic03.png", "pic08.png"])
    page.get_by_text(answer).wait_for()
    assert page_server.metrics()["lookm:prompts_compressed_total"] == before + 1
