"""The page in a real browser: offline, by keyboard, light and dark; and the pictures."""

from __future__ import annotations

import base64
import json
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lookm_cpp import Llava
from lookm_cpp.embedded import DemoPrompt, demo_prompts
from lookm_cpp.explaining import Explanation
from lookm_cpp.explaining.colours import DARK, LIGHT, css
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome here"
)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]

METHODS = ("text_prior_pivot_merge", "h2o")


@pytest.fixture(scope="module")
def prompt() -> DemoPrompt:
    return next(one for one in demo_prompts() if len(one.images) == 4)


@pytest.fixture(scope="module")
def found(prompt: DemoPrompt) -> Explanation:
    with Llava.embedded() as llm:
        return llm.explain(prompt.content, prompt.images, methods=METHODS, kv_ratio=0.4)


@pytest.fixture(scope="module")
def file(found: Explanation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    found.save(path)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, file: Path) -> Iterator[Any]:
    """Open, drawn, and with no word of complaint nor any request but for the file itself."""
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on(
        "request",
        lambda request: said.extend(
            [] if request.url.startswith(("file:", "data:")) else [request.url]
        ),
    )
    opened.goto(file.as_uri())
    opened.wait_for_selector("html[data-ready]", state="attached")
    yield opened
    assert said == []
    opened.close()


def _packed(file: Path) -> dict[str, Any]:
    text = file.read_text(encoding="utf-8")
    match = re.search(r'<script id="data" type="text/plain">([^<]*)</script>', text)
    assert match
    data: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(match[1])))
    return data


def test_the_page_holds_the_counts(file: Path, found: Explanation) -> None:
    data = _packed(file)
    for method, one in zip(data["methods"], found.methods, strict=True):
        assert [layer["kept"] for layer in method["layers"]] == [
            layer.times_kept().tolist() for layer in one.layers
        ]
        evicted = np.flatnonzero(one.times_kept() < one.n_pairs)
        assert {merge[0] for merge in method["merges"]} == (
            set(evicted.tolist()) if "merge" in one.method else set()
        )
        for cell in evicted[:20].tolist():
            mine = [merge for merge in method["merges"] if merge[0] == cell]
            assert mine == one.merges()[one.merges()[:, 0] == cell][:3].tolist()


def test_no_address_and_no_markup_of_the_users(found: Explanation, tmp_path: Path) -> None:
    with Llava.embedded() as llm:
        nasty = llm.explain(
            "</script><img src=x onerror=alert(1)>$data",
            methods=["h2o"],
            context="<b>bold</b> & co. ",
        )
    text = nasty.html()
    assert "<img" not in text
    assert "<b>" not in text
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}, "a namespace, which nobody loads"


@needs_browser
def test_the_page_draws_images_cells_tokens_and_answers(page: Any, found: Explanation) -> None:
    assert page.locator("figure").count() == 4
    assert page.locator("figure rect:not(.padding)").count() == 256
    assert page.locator("#tokens span").count() == found.stats.text_cells
    assert page.locator("#full-answer").text_content() == found.answer
    assert page.locator("#answer").text_content() == found.methods[0].answer
    share = found.methods[0].share_kept()
    shown = page.locator("figcaption span:last-child").all_text_contents()
    for number, piece in enumerate(found.pieces):
        mean = share[piece.first : piece.first + piece.n_cells].mean()
        assert int(shown[number].split()[0].removeprefix("<")) == pytest.approx(100 * mean, abs=1)
    fills = page.locator("figure rect:not(.padding)").evaluate_all(
        "all => all.map(one => one.style.fill)"
    )
    cells = found.piece >= 0
    assert [fill == "rgb(255, 255, 255)" for fill in fills] == (share[cells] == 0).tolist()
    assert {_rgb(LIGHT.scale[-1])} >= {
        f for f, s in zip(fills, share[cells], strict=True) if s == 1
    }


def _rgb(colour: tuple[int, int, int]) -> str:
    return "rgb({}, {}, {})".format(*colour)


@needs_browser
def test_the_keyboard_reaches_everything_on_the_page(page: Any, found: Explanation) -> None:
    """Tab reaches method, layer, look, every image and the text; arrows move within each."""
    press = page.keyboard.press
    press("Tab")
    press("ArrowRight")
    assert page.locator("#method-name").text_content() == "h2o"
    assert page.locator("#answer").text_content() == found.methods[1].answer
    press("Tab")
    for layer in (1, 2):
        press("ArrowRight")
        assert page.locator("#layer-name").text_content() == f"layer {layer - 1} ({layer} of 6)"
    times = found.methods[1].layers[1].times_kept()
    press("Tab")
    press("ArrowRight")
    assert page.evaluate("document.activeElement.value") == "left"
    for image in range(4):
        press("Tab")
        assert page.evaluate("document.activeElement.id") == f"view-{image}"
    first = found.pieces[3].first
    for key, cell in (
        ("ArrowDown", 0),
        ("ArrowDown", 8),
        ("ArrowRight", 9),
        ("ArrowUp", 1),
        ("ArrowLeft", 0),
    ):
        press(key)
        told = page.locator("#detail").text_content()
        column, row = cell % 8 + 1, cell // 8 + 1
        assert told.startswith(f"Cell {first + cell}, image 4, column {column}, row {row}: ")
        assert f"kept by {times[first + cell]} of 2 heads" in told
    press("Escape")
    assert page.locator("#detail").text_content() == ""
    press("Tab")
    while page.evaluate("document.activeElement.id") != "tokens":
        press("Tab")
    press("ArrowRight")
    press("ArrowRight")
    assert page.locator("#detail").text_content().startswith("Cell 1, ")


@needs_browser
def test_lines_to_where_a_cell_was_merged(page: Any, found: Explanation) -> None:
    one = found.methods[0]
    cell = int(np.flatnonzero((one.times_kept() == 0) & (found.piece == 1))[0])
    x, y = found.place[cell].tolist()
    page.locator("#view-1 rect:not(.padding)").nth(y * 8 + x).hover()
    expected = one.merges()[one.merges()[:, 0] == cell][:3]
    told = page.locator("#detail").text_content()
    assert f"Cell {cell}, image 2, column {x + 1}, row {y + 1}: kept by 0 of 12 heads" in told
    assert ", ".join(f"{into} ({times} ×)" for _, into, times in expected) in told
    assert page.locator("#links path").count() == len(expected)
    page.locator("h1").hover()
    assert page.locator("#links path").count() == 0


@needs_browser
@pytest.mark.parametrize(("scheme", "theme"), [("light", LIGHT), ("dark", DARK)])
def test_the_page_follows_the_browsers_colours(
    browser: Any, file: Path, scheme: str, theme: Any
) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    value = page.evaluate(
        "getComputedStyle(document.documentElement).getPropertyValue('--page').trim()"
    )
    assert value == css(theme.page)
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == _rgb(
        theme.page
    )
    page.close()


@needs_browser
def test_the_page_fits_a_narrow_screen(browser: Any, file: Path) -> None:
    page = browser.new_page(viewport={"width": 380, "height": 800})
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    page.close()


@pytest.mark.parametrize("dark", [False, True])
def test_a_picture_has_the_colours_of_the_shares(
    found: Explanation, dark: bool, tmp_path: Path
) -> None:
    """On white pictures only shares are seen: evicted cells are pale grey, kept ones white."""
    theme = DARK if dark else LIGHT
    white = Explanation(
        **{**vars(found), "images": tuple(Image.new("RGB", (64, 64), "white") for _ in range(4))}
    )
    path = tmp_path / "picture.png"
    white.save(path, dark=dark)
    with Image.open(path) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
    full = tuple(round(0.05 * 255 + 0.95 * c) for c in theme.scale[-1])
    assert any(
        max(abs(a - b) for a, b in zip(full, colour, strict=True)) <= 4 for colour in colours
    )
    assert any(
        max(abs(a - b) for a, b in zip(theme.page, colour, strict=True)) <= 4 for colour in colours
    )


def test_a_picture_of_one_layer_differs(found: Explanation) -> None:
    a, b = found.picture(), found.picture(layer=2)
    assert a.size == b.size
    assert a.tobytes() != b.tobytes()
