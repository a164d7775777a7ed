"""``lookm explain`` as it is typed, and what docs/explain.md shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lookm_cpp.cli import main
from lookm_cpp.embedded import DEMO
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
