"""Frames of videos and pages of PDF files: the right ones, at the right times, and clear errors."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from lookm_cpp import Llava, read_pdf, read_video
from lookm_cpp.cli import main
from PIL import Image

RATE = 10
SECONDS = 30
Capture = pytest.CaptureFixture[str]


def _grey(second: int) -> int:
    return 20 + 7 * second


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("video") / "clip.mp4")


def _write(path: Path) -> Path:
    """Each second has a grey of its own."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for i in range(RATE * SECONDS):
            image = np.full((180, 320, 3), _grey(i // RATE), np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pages of 2 x 1 inches, each of a colour of its own."""
    path = tmp_path_factory.mktemp("pdf") / "paper.pdf"
    first, *others = (Image.new("RGB", (144, 72), c) for c in ("red", "lime", "blue"))
    first.save(path, save_all=True, append_images=others, resolution=72)
    return path


def _centre(file: bytes) -> tuple[int, ...]:
    image = Image.open(io.BytesIO(file)).convert("RGB")
    found = image.getpixel((image.width // 2, image.height // 2))
    assert isinstance(found, tuple)
    return found


@pytest.mark.parametrize(
    ("how", "times"),
    [
        ({}, [*range(SECONDS)]),
        ({"fps": 0.5}, [*range(0, SECONDS, 2)]),
        ({"fps": 0.1}, [0, 10, 20]),  # far enough apart to seek
        ({"frames": 3}, [5, 15, 25]),
        ({"frames": 1}, [15]),
    ],
)
def test_frames(clip: Path, how: Any, times: list[int]) -> None:
    found = read_video(clip, **how)
    lines = found.text.splitlines()
    assert lines == [f"0:{second:02}: <image>" for second in times]
    greys = [_centre(image)[0] for image in found.images]
    assert greys == pytest.approx([_grey(second) for second in times], abs=3)
    assert found.size == (320, 180)


@pytest.mark.parametrize(("n", "frames", "expected"), [(1, 5, 1), (3, 2, 2), (10, 200, 10)])
def test_frames_of_a_short_video(tmp_path: Path, n: int, frames: int, expected: int) -> None:
    """No frame comes twice, and the last one counts for all times after it."""
    path = tmp_path / "short.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(n):
            image = np.full((64, 64, 3), 20 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    found = read_video(path, frames=frames)
    greys = [_centre(image)[0] for image in found.images]
    assert len(greys) == expected
    assert greys == sorted({*greys})
    assert greys[-1] == pytest.approx(20 * (n - 1), abs=3)


@pytest.mark.parametrize("container", ["mkv", "avi", "ts"])
def test_other_containers(tmp_path: Path, container: str) -> None:
    """Frames are far enough apart to seek."""
    found = read_video(_write(tmp_path / f"clip.{container}"), frames=3)
    greys = [_centre(image)[0] for image in found.images]
    assert greys == pytest.approx([_grey(second) for second in (5, 15, 25)], abs=4)


def test_long_frames_are_scaled_down(clip: Path) -> None:
    assert read_video(clip, frames=1, max_side=32).size == (32, 18)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"fps": 0}, "fps is 0, expected 1e-05 to 1000"),
        ({"fps": 1e-320}, "expected 1e-05 to 1000"),
        ({"fps": float("nan")}, "expected 1e-05 to 1000"),
        ({"fps": "x"}, "fps is 'x', expected a number"),
        ({"fps": 1000}, "which makes 30000 frames"),
        ({"frames": 0}, "frames is 0, expected 1 to"),
        ({"frames": 2, "fps": 1}, "expected one of them"),
        ({"max_side": 0}, "max_side is 0"),
    ],
)
def test_wrong_arguments_of_a_video(clip: Path, how: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_video(clip, **how)


def test_what_is_no_video(tmp_path: Path, clip: Path, paper: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"video '.*none.mp4' does not exist"):
        read_video(tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="is a directory, expected a video file"):
        read_video(tmp_path)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[:1000])
    for file in (paper, Path(__file__), cut):
        with pytest.raises(ValueError, match=r"^video .* expected a video file"):
            read_video(file)


@pytest.mark.parametrize(("pages", "colours"), [(None, "rgb"), ([3, 1], "br"), ([2], "g")])
def test_pages(paper: Path, pages: Any, colours: str) -> None:
    found = read_pdf(paper, pages=pages, dpi=50)
    assert found.text == "".join(f"Page {n}: <image>\n" for n in pages or (1, 2, 3))
    named = {"100": "r", "010": "g", "001": "b"}
    seen = ["".join("01"[value > 128] for value in _centre(image)) for image in found.images]
    assert "".join(named[colour] for colour in seen) == colours
    assert found.size == (100, 50)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"pages": [4]}, "pages has 4, expected 1 to 3"),
        ({"pages": []}, "pages is empty"),
        ({"pages": 5}, "pages is 5, expected a list"),
        ({"pages": ["1"]}, "pages is '1', expected a whole number"),
        ({"dpi": 0}, "dpi is 0, expected 1 to"),
        ({"dpi": "x"}, "dpi is 'x'"),
    ],
)
def test_wrong_arguments_of_a_pdf(paper: Path, how: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_pdf(paper, **how)


def test_what_is_no_pdf(tmp_path: Path, clip: Path, paper: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"pdf '.*none.pdf' does not exist"):
        read_pdf(tmp_path / "none.pdf")
    cut = tmp_path / "cut.pdf"
    cut.write_bytes(paper.read_bytes()[:200])
    for file in (clip, cut):
        with pytest.raises(ValueError, match=r"^pdf .* expected a PDF file"):
            read_pdf(file)


def test_a_model_reads_them(llm: Llava, clip: Path, paper: Path) -> None:
    film, pages = read_video(clip, frames=4), read_pdf(paper)
    answer = llm.ask(f"{film.text}{pages.text}What is in image 2?", [*film.images, *pages.images])
    assert answer.stats.image_cells == 7 * 64


def test_commands_take_them(clip: Path, paper: Path, tmp_path: Path, capfd: Capture) -> None:
    media = ["--video", str(clip), "--frames", "2", "--pdf", str(paper), "--pages", "2-3"]
    assert main(["ask", "-m", "embedded", "What is it?", *media, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["stats"]["image_cells"] == 4 * 64
    assert main(["plan", "-m", "embedded", *media, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["images"] == 4
    page = str(tmp_path / "kept.html")
    assert main(["explain", "-m", "embedded", "What is it?", *media, "-o", page]) == 0
    capfd.readouterr()
    talk = subprocess.run(
        [sys.executable, "-m", "lookm_cpp", "chat", "-m", "embedded"],
        input=f"/video {clip} 0.1\n/pdf {paper} 1\nWhat is it?\n/stats\n/pdf {clip}\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "256 image)" in talk.stderr
    assert "3 images before the next question" in talk.stderr
    assert "expected a PDF file" in talk.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--fps", "2"], "--fps is given without --video"),
        (["--pages", "1"], "--pages is given without --pdf"),
        (["--pdf", "x.pdf", "--pages", "a"], "--pages is 'a', expected numbers"),
        (["--pdf", "x.pdf"], "'x.pdf' does not exist"),
        (["--pdf", "x.pdf", "--pages", "9" * 5000], "--pages is '999"),
        (["--video", "x.mp4", "--fps", "1e-320"], "does not exist"),
    ],
)
def test_wrong_flags(flags: list[str], said: str, capfd: Capture) -> None:
    assert main(["ask", "-m", "embedded", "What is it?", *flags]) == 2
    assert said in capfd.readouterr().err
    assert main(["plan", "-m", "embedded"]) == 2
    assert "--images" in capfd.readouterr().err
