"""``lookm explain`` as it is typed, and what docs/explain.md shows."""

from __future__ import annotations

import re
import webbrowser
from pathlib import Path

import numpy as np
import pytest
from lookm_cpp.cli import main
from lookm_cpp.cli.half_blocks import half_blocks
from lookm_cpp.embedded import DEMO
from lookm_cpp.explaining.colours import css
from PIL import Image

DOC = Path(__file__).parents[2] / "docs" / "explain.md"
ASK = ["explain", "-m", "embedded", "-i", str(DEMO / "pic03.png"), "-i", str(DEMO / "pic08.png")]
QUESTION = "Image 1:<image> Image 2:<image> What is in image 2?"


def test_a_page_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, picture = tmp_path / "report.html", tmp_path / "picture.png"
    words = [
        *ASK,
        QUESTION,
        "-o",
        str(page),
        "-o",
        str(picture),
        "--method",
        "h2o",
        "--method",
        "roco",
        "--dark",
    ]
    assert main(words) == 0
    told = capsys.readouterr()
    assert "owl" in told.out
    assert "h2o" in told.out
    assert "roco" in told.out
    assert str(page) in told.err.replace("\n", "")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    with Image.open(picture) as opened:
        assert opened.convert("RGB").getpixel((0, 0)) == pytest.approx((13, 17, 23), abs=4)


def test_a_page_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*ASK, QUESTION, "--method", "origin", "--max-tokens", "2"]) == 0
    assert (tmp_path / "report.html").exists()
    assert "keeps the" in capsys.readouterr().out, "why nothing was compressed"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "report.pdf"], "expected a name that ends in .html or .png"),
        (["-o", "no/such/folder/report.html"], "expected a folder that exists"),
        (["--method", "nonsense"], "method"),
        (["--method", "h2o", "--method", "h2o"], "expected a sequence of names, each once"),
        (["--kv-ratio", "1.5"], "kv_ratio"),
        (["--mmproj", "other.gguf"], "expected none, as the embedded model has its own"),
        (["-i", "missing.png"], "missing.png"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    question = "What?" if "-i" in words else QUESTION
    assert main([*ASK, question, *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("lookm: ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_doc_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(
        r"^```python\n(.*?)^```", DOC.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert blocks
    for block in blocks:
        exec(compile(block, str(DOC), "exec"), {})
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize("found", [True, False])
def test_the_page_opens_in_the_browser(
    found: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    opened: list[str] = []

    def open_page(uri: str) -> bool:
        opened.append(uri)
        return found

    monkeypatch.setattr(webbrowser, "open", open_page)
    monkeypatch.chdir(tmp_path)
    assert main([*ASK, QUESTION, "--open", "--method", "h2o", "--max-tokens", "2"]) == 0
    assert opened == [(tmp_path / "report.html").as_uri()]
    assert ("no browser was found" in capsys.readouterr().err) is not found


def test_half_blocks_are_pixels() -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (5, 3, 3), dtype=np.uint8)
    text = half_blocks(Image.fromarray(pixels))
    assert text.plain == "\n".join(["\u2580" * 3] * 3)
    below = [*pixels[1::2], pixels[4]]  # the last row stands for the one that is missing
    assert [str(span.style) for span in text.spans] == [
        f"{css(tuple(a))} on {css(tuple(b))}"
        for upper, lower in zip(pixels[::2].tolist(), below, strict=True)
        for a, b in zip(upper, lower.tolist(), strict=True)
    ]


@pytest.mark.parametrize(("term", "drawn"), [("xterm-256color", True), ("dumb", False)])
def test_what_was_kept_at_the_terminal(
    term: str,
    drawn: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("FORCE_COLOR" if drawn else "NO_COLOR", "1")
    assert main([*ASK, QUESTION, "--show", "--method", "h2o", "--max-tokens", "2"]) == 0
    out, err = capsys.readouterr()
    rows = [line for line in out.splitlines() if "\u2580" in line]
    assert len(rows) == (12 if drawn else 0)
    assert all(line.count("\u2580") == 2 * 24 for line in rows)
    assert ("no terminal with colours" in err) is not drawn
