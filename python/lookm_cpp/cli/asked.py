"""What ``lookm ask`` and ``lookm explain`` ask: words of the command line, or standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from lookm_cpp.files import text_of
from lookm_cpp.images import ImageLike
from lookm_cpp.regular_files import PIPE_BYTES

Question = Annotated[
    str | None,
    typer.Argument(
        metavar="QUESTION",
        help="Each <image> in it stands for the next image; without any <image>, the images come "
        "first. Without a question, or for -, it is read from standard input.",
        show_default=False,
    ),
]
Images = Annotated[
    list[str] | None,
    typer.Option(
        "--image",
        "-i",
        metavar="FILE...",
        help="All words up to the next flag are images. If the question is not given elsewhere, it "
        "is the last of these words that is not the name of a file; -- ends the images. For -, an "
        "image is read from standard input.",
    ),
]
ContextFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--context-file",
        metavar="FILE",
        help="A UTF-8 text that comes first and may be evicted like images; may be repeated.",
    ),
]
STDIN = "-"


def question_and_images(
    question: str | None, images: Sequence[str] | None
) -> tuple[str, list[ImageLike]]:
    """Both as the library takes them; one of them may come from standard input.

    Raises:
        ValueError: Both are to come from there, or there is no question.
    """
    names = list(images or ())
    asks_stdin = question in (None, STDIN)
    if asks_stdin + names.count(STDIN) > 1:
        what = "question and image" if asks_stdin else "several images"
        raise ValueError(f"{what} would be read from standard input, expected only one of them")
    if question is None and sys.stdin.isatty():
        raise ValueError("there is no question, expected it as an argument or on standard input")
    text = _question() if question is None or asks_stdin else question
    return text, [_stdin() if name == STDIN else name for name in names]


def _question() -> str:
    text = text_of(_stdin(), "question on standard input", "a text").rstrip("\r\n")
    if not text:
        raise ValueError("question on standard input is empty, expected a text")
    return text


def _stdin() -> bytes:
    data = sys.stdin.buffer.read(PIPE_BYTES + 1)
    if len(data) > PIPE_BYTES:
        raise ValueError(f"standard input has more than {PIPE_BYTES} bytes, expected fewer")
    return data
