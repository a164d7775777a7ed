"""``--video`` and ``--pdf``: their frames and pages come before a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lookm_cpp.brief import brief
from lookm_cpp.cli.flags import Flag, flags_under
from lookm_cpp.image_series import ImageSeries
from lookm_cpp.images import ImageLike
from lookm_cpp.parsing import words
from lookm_cpp.pdf_pages import read_pdf
from lookm_cpp.video_frames import FPS, read_video

MOST_DIGITS = 9


def page_numbers(text: str | None) -> list[int] | None:
    """Pages as printers take them.

    Raises:
        ValueError: They are something else.

    >>> page_numbers("1-3,7")
    [1, 2, 3, 7]
    """
    if text is None:
        return None
    found: list[int] = []
    for word in words(text):
        first, dash, last = word.partition("-")
        is_short = len(word) <= 2 * MOST_DIGITS
        if not is_short or not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"--pages is {brief(text)}, expected numbers such as 1-3,7")
        found += range(int(first), min(int(last or first), int(first) + 100_000) + 1)
    return found


MEDIA = flags_under(
    "Videos and documents",
    Flag(
        "video",
        str,
        ("--video",),
        "A video: its frames come before the question, each with its time.",
        metavar="FILE",
    ),
    Flag(
        "fps",
        float,
        ("--fps",),
        "Frames for each second of the video.",
        otherwise=f"{FPS:g}",
    ),
    Flag(
        "frames",
        int,
        ("--frames",),
        "A number of frames in place of --fps, spread over the video.",
    ),
    Flag(
        "pdf",
        str,
        ("--pdf",),
        "A PDF document: its pages come before the question, each with its number.",
        metavar="FILE",
    ),
    Flag(
        "pages",
        str,
        ("--pages",),
        "Pages of the document, such as 1-3,7.",
        otherwise="all",
        metavar="N-N,...",
        read=page_numbers,
    ),
)
"""Flags of commands that ask about images."""


def series_of(media: Mapping[str, Any]) -> list[ImageSeries]:
    """The video and the document that are given.

    Raises:
        ValueError: There is a flag for what is not given, or one cannot be read.
    """
    video, pdf = media["video"], media["pdf"]
    for name, needed, given in (
        ("--fps", "--video", media["fps"] is not None and video is None),
        ("--frames", "--video", media["frames"] is not None and video is None),
        ("--pages", "--pdf", media["pages"] is not None and pdf is None),
    ):
        if given:
            raise ValueError(f"{name} is given without {needed}")
    found = []
    if video is not None:
        found.append(read_video(video, fps=media["fps"], frames=media["frames"]))
    if pdf is not None:
        found.append(read_pdf(pdf, pages=media["pages"]))
    return found


def with_series(
    question: str, images: Sequence[ImageLike], series: Sequence[ImageSeries]
) -> tuple[str, list[ImageLike]]:
    """A question and its images, with frames and pages before them."""
    asked, shown = question, [*images]
    for one in reversed(series):
        asked, shown = one.before(asked, shown)
    return asked, shown
