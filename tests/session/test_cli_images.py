"""Several images after one ``-i``, and what ``lookm`` reads from standard input."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lookm_cpp.cli import main
from lookm_cpp.cli.image_words import one_flag_each
from lookm_cpp.embedded import DEMO

QUESTION = "Image 1:<image> Image 2:<image> What is in image 1?"
ANSWER = "Image 1 shows an owl."
ASK = ["ask", "-m", "embedded"]
IMAGES = ["pic08.png", "pic03.png"]

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DEMO)
    monkeypatch.setenv("TERM", "dumb")


@pytest.fixture(autouse=True)
def stdin(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """Standard input: no terminal, and empty until a test writes to it."""
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))
    return content


@pytest.mark.parametrize(
    "words",
    [
        [QUESTION, "-i", *IMAGES],
        ["-i", *IMAGES, QUESTION],
        ["-i", *IMAGES, "--", QUESTION],
        ["-i", IMAGES[0], "--image", IMAGES[1], QUESTION],
        [f"--image={IMAGES[0]}", IMAGES[1], QUESTION],
        ["-i", IMAGES[0], QUESTION, "-i", IMAGES[1]],
        ["-i", *IMAGES, "-n", "20", QUESTION],
        ["-n", "20", "-i", *IMAGES, QUESTION, "--temp", "0"],
    ],
)
def test_where_images_and_question_stand(words: list[str], capfd: Capture) -> None:
    assert main([*ASK, *words]) == 0
    assert capfd.readouterr().out == ANSWER + "\n"


@pytest.mark.parametrize(
    "question", ["What? " * 1000, "a\0b", "Is it the same as owl.png", "Who is in a.png?"]
)
def test_a_question_that_is_no_path(question: str) -> None:
    words = ["-i", IMAGES[0], IMAGES[1], question]
    assert one_flag_each(words, ["-i"]) == ["-i", IMAGES[0], "-i", IMAGES[1], question]


@pytest.mark.parametrize("words", [["-i", *IMAGES], ["-i", *IMAGES, "-"], ["-", "-i", *IMAGES]])
def test_a_question_on_standard_input(words: list[str], stdin: io.BytesIO, capfd: Capture) -> None:
    stdin.write(f"\ufeff{QUESTION}\r\n".encode())
    stdin.seek(0)
    assert main([*ASK, *words, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["question"], found["answer"]) == (QUESTION, ANSWER)


@pytest.mark.parametrize("words", [["-i", "-", IMAGES[1]], ["-i", "-", "-i", IMAGES[1]]])
def test_an_image_on_standard_input(words: list[str], stdin: io.BytesIO, capfd: Capture) -> None:
    stdin.write(Path(IMAGES[0]).read_bytes())
    stdin.seek(0)
    assert main([*ASK, *words, QUESTION]) == 0
    assert capfd.readouterr().out == ANSWER + "\n"


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        (b"?", ["-", "-i", "-"], "question and image would be read from standard input"),
        (b"?", ["-i", "-"], "question and image would be read from standard input"),
        (b"?", ["?", "-i", "-", "-"], "several images would be read from standard input"),
        (b"", ["-i", *IMAGES], "question on standard input is empty, expected a text"),
        (b"\n", ["-"], "question on standard input is empty, expected a text"),
        (b"\xff", ["-"], "question on standard input is not UTF-8 at byte 0, expected a text"),
        (b"", ["?", "-i", "-"], "image 1 (0 bytes) is empty"),
        (b"?", ["?", "-i", "-"], "image 1 (1 bytes) is not a readable image"),
        (b"?", ["-i", IMAGES[0], "missing.png"], "image 2 'missing.png' does not exist"),
        (b"", ["-i", IMAGES[0], "Really?", "one", "-n", "1"], "image 2 'Really?' does not exist"),
    ],
)
def test_bad_input_is_one_line(
    content: bytes, words: list[str], message: str, stdin: io.BytesIO, capfd: Capture
) -> None:
    stdin.write(content)
    stdin.seek(0)
    assert main([*ASK, *words]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("lookm: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_terminal_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert main([*ASK, "-i", *IMAGES]) == 2
    assert "there is no question" in capfd.readouterr().err


FLAGS = ["-m", "-n", "-i", "--image"]
WORDS = st.sampled_from([*FLAGS, "--json", "--", "-", "a.png", "b.png", "What?", "one two"])


@given(st.lists(WORDS, max_size=12))
def test_no_word_is_lost(words: list[str]) -> None:
    found = one_flag_each(words, FLAGS)
    assert [w for w in found if w not in ("-i", "--image")] == [
        w for w in words if w not in ("-i", "--image")
    ]
    assert one_flag_each(found, FLAGS) == found, "a command line of this form stays as it is"
