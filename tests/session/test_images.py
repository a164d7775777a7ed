"""Images in every form: what is taken, what is refused, and what is never started or decoded."""

from __future__ import annotations

import base64
import io
import os
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from lookm_cpp import Llava, images, plan, regular_files
from lookm_cpp.cli import main
from lookm_cpp.embedded import DEMO, MMPROJ, MODEL
from lookm_cpp.images import FORMATS, MAX_PIXELS, MOST_PIXELS, Picture, image_list, load_image
from PIL import Image

OWL = DEMO / "pic08.png"
QUESTION = "Image 1:<image> What is in image 1?"
ANSWER = "Image 1 shows an owl."
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture(scope="module")
def llm() -> Iterator[Llava]:
    with Llava.embedded() as opened:
        yield opened


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``gs`` on the path that leaves a file behind when it is started."""
    left = tmp_path / "started"
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {left}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return left


def _eps_ways(folder: Path) -> dict[str, Any]:
    file, disguised = folder / "a.eps", folder / "a.png"
    file.write_bytes(EPS)
    disguised.write_bytes(EPS)
    text = base64.b64encode(EPS).decode()
    return {
        "path": file,
        "str": str(disguised),
        "uri": f"file://{file}",
        "data": f"data:image/png;base64,{text}",
        "base64": text,
        "bytes": EPS,
        "bytearray": bytearray(EPS),
        "memoryview": memoryview(EPS),
        "file": io.BytesIO(EPS),
        "pil": Image.open(io.BytesIO(EPS)),
    }


def test_no_image_starts_a_program(llm: Llava, ghostscript: Path, tmp_path: Path) -> None:
    """Pillow has Ghostscript draw an EPS."""
    for way, image in _eps_ways(tmp_path).items():
        with pytest.raises((ValueError, FileNotFoundError), match=r"image 1 .* expected"):
            llm.ask(QUESTION, [image])
        message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": image}}]}
        with pytest.raises((ValueError, FileNotFoundError), match=r"image 1 .* expected"):
            llm.create_chat_completion([message])
        with pytest.raises((ValueError, FileNotFoundError), match=r"image 1 .* expected"):
            llm.chat().ask(QUESTION, image)
        with pytest.raises((ValueError, FileNotFoundError), match=r"image 1 .* expected"):
            llm.explain(QUESTION, image)
        assert not ghostscript.exists(), way
    assert main(["ask", "-m", "embedded", "-i", str(tmp_path / "a.png"), QUESTION]) == 2
    assert not ghostscript.exists()
    with pytest.raises((OSError, subprocess.SubprocessError)):
        Image.open(io.BytesIO(EPS)).load()
    assert ghostscript.exists(), "or the test could not fail"


PROGRAMS_FORBIDDEN = """
import sys
from lookm_cpp.images import load_image
def forbid(event, arguments):
    begun = ("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn")
    if event.startswith(begun):
        raise AssertionError(event)
sys.addaudithook(forbid)
for name in sys.argv[1:]:
    print(name, load_image(name, "it").shape)
"""


def test_formats_need_nothing_but_pillow(tmp_path: Path) -> None:
    names = []
    for name in FORMATS:
        more: Any = (
            {"save_all": True, "append_images": [Image.new("RGB", (9, 7))]} if name == "MPO" else {}
        )
        if name in Image.SAVE or name in Image.SAVE_ALL:
            Image.linear_gradient("L").convert("RGB").save(tmp_path / name, name, **more)
            names.append(str(tmp_path / name))
            with Image.open(tmp_path / name) as opened:
                assert opened.format == name
    assert len(names) >= len(FORMATS) - 1, "an older Pillow knows no AVIF"
    child = subprocess.run(
        [sys.executable, "-c", PROGRAMS_FORBIDDEN, *names],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert child.stdout.count("(256, 256, 3)") == len(names)


def _png_header(width: int, height: int) -> bytes:
    """A PNG without pixels: whoever decodes it finds it cut."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b""))


def test_too_many_pixels_are_refused_undecoded(
    llm: Llava, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "large.png"
    file.write_bytes(_png_header(13_377, 13_377))
    expected = rf"large\.png' has 13377 x 13377 pixels, expected at most {MAX_PIXELS} pixels"
    expected += r" \(max_pixels\)"
    with pytest.raises(ValueError, match=expected):
        llm.ask(QUESTION, [file])
    with pytest.raises(ValueError, match="has 13377 x 13377 pixels"):
        llm.ask(QUESTION, [file.read_bytes()])
    with pytest.raises(ValueError, match="has 13377 x 13377 pixels"):
        llm.ask(QUESTION, [Image.new("1", (13_377, 13_377))])
    with pytest.raises(ValueError, match="is damaged"):
        Picture(_png_header(8192, 8192), "it").pixels()
    with pytest.raises(ValueError, match="has 8193 x 8192 pixels"):
        Picture(_png_header(8193, 8192), "it")
    assert main(["ask", "-m", "embedded", "-i", str(file), QUESTION]) == 2
    assert "has 13377 x 13377 pixels" in capfd.readouterr().err


def test_the_limit_is_an_option(capfd: pytest.CaptureFixture[str]) -> None:
    """The owl has 64 x 64 pixels."""
    with Llava.embedded(max_pixels=64 * 64) as llm:
        assert llm.ask(QUESTION, OWL) == ANSWER
        assert llm.chat().ask(QUESTION, OWL) == ANSWER
    with Llava.embedded(max_pixels=64 * 64 - 1) as llm:
        asks: list[Callable[..., Any]] = [llm.ask, llm.chat().ask, llm.explain]
        for image in (OWL, _rgb(OWL)):
            for ask in asks:
                with pytest.raises(
                    ValueError, match="has 64 x 64 pixels, expected at most 4095 pixels"
                ):
                    ask(QUESTION, image)
    ask_owl = ["-m", "embedded", "-i", str(OWL), QUESTION, "--max-pixels", "4095"]
    plan_owl = ["-m", "embedded", "--images", "1", "--image-size", "64x64", "--max-pixels", "4095"]
    for command in (["ask", *ask_owl], ["explain", *ask_owl], ["plan", *plan_owl]):
        assert main(command) == 2
        assert "4095 pixels" in capfd.readouterr().err
    assert main(["ask", *ask_owl[:-1], "4096"]) == 0
    for wrong in (0, -1, MOST_PIXELS + 1):
        with pytest.raises(ValueError, match=f"max_pixels is {wrong}, expected 1 to {MOST_PIXELS}"):
            Llava.embedded(max_pixels=wrong)
    with pytest.raises(ValueError, match=r"max_pixels is 1\.5, expected a whole number"):
        plan(MODEL, mmproj=MMPROJ, images=1, max_pixels=1.5)  # type: ignore[arg-type]


def _whole(picture: Image.Image, orientation: int) -> npt.NDArray[np.uint8]:
    """The same in one piece: turned by NumPy, put on white by arithmetic."""
    if picture.mode.startswith("I"):
        grey = np.asarray(picture, dtype=np.float64) / 257
        rgb = np.repeat(grey[:, :, None], 3, axis=2)
    else:
        rgba = np.asarray(picture.convert("RGBA"), dtype=np.float64)
        alpha = rgba[:, :, 3:] / 255
        rgb = rgba[:, :, :3] * alpha + 255 * (1 - alpha)
    turns: dict[int, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: a.transpose(1, 0, 2)[::-1],
    }
    return np.rint(turns[orientation](rgb)).astype(np.uint8)


def _noise(mode: str) -> Image.Image:
    """More pixels than are converted at once."""
    rng = np.random.default_rng(3)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 1 << 16, (700, 900), dtype=np.uint16))
    channels = len(Image.getmodebands(mode) * "x")
    array = rng.integers(
        0, 256, (700, 900, channels) if channels > 1 else (700, 900), dtype=np.uint8
    )
    if mode == "P":
        made = Image.fromarray(array)
        made.putpalette(list(rng.integers(0, 256, 768)))
        made.info["transparency"] = 17
        return made
    return (
        Image.fromarray(array).convert(mode)
        if mode in ("1", "CMYK", "LA")
        else Image.fromarray(array, None)
    )


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_strips_are_the_whole(mode: str) -> None:
    picture = _noise("L" if mode == "1" else mode)
    picture = picture.convert(mode) if mode == "1" else picture
    before = picture.tobytes()
    np.testing.assert_allclose(load_image(picture, "it").astype(int), _whole(picture, 1), atol=1)
    assert picture.tobytes() == before


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(name: str, orientation: int, tmp_path: Path) -> None:
    ramp = np.zeros((40, 56, 3), dtype=np.uint8)
    ramp[:, :, 0] = 4 * np.arange(56)
    ramp[:, :, 1] = 6 * np.arange(40)[:, None]
    exif = Image.Exif()
    exif[0x0112] = orientation
    more: Any = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(
        name, {}
    )
    Image.fromarray(ramp).save(tmp_path / name, name, exif=exif, **more)
    expected = _whole(Image.fromarray(ramp), orientation).astype(int)
    for image in (tmp_path / name, Image.open(io.BytesIO((tmp_path / name).read_bytes()))):
        found = load_image(image, name)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=12 if name == "JPEG" else 0)


def _rgb(image: Path) -> npt.NDArray[np.uint8]:
    with Image.open(image) as opened:
        return np.asarray(opened.convert("RGB"))


def _forms() -> dict[str, Any]:
    data, rgb = OWL.read_bytes(), _rgb(OWL)
    return {
        "path": OWL,
        "str": str(OWL),
        "file uri": OWL.as_uri(),
        "file uri, one slash": f"file:{OWL}",
        "bytes": data,
        "bytearray": bytearray(data),
        "memoryview": memoryview(data),
        "memoryview of halves": memoryview(data + b"\0" * (len(data) % 2)).cast("H"),
        "BytesIO": io.BytesIO(data),
        "base64": base64.b64encode(data).decode(),
        "url": {"url": str(OWL)},
        "PIL": Image.fromarray(rgb),
        "RGB": rgb,
        "RGBA": np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]),
        "strided": np.repeat(rgb, 2, axis=1)[:, ::2],
    }


@pytest.mark.parametrize("form", _forms())
def test_an_image_in_every_form_is_the_same_image(llm: Llava, form: str) -> None:
    image = _forms()[form]
    np.testing.assert_array_equal(load_image(image, form), _rgb(OWL))
    assert llm.ask(QUESTION, image) == ANSWER
    assert llm.ask(QUESTION, [image]) == ANSWER
    part = {"type": "image_url", "image_url": image}
    message = {"role": "user", "content": [{"type": "text", "text": "Image 1:"}, part]}
    message["content"].append({"type": "text", "text": " What is in image 1?"})  # type: ignore[attr-defined]
    found: Any = llm.create_chat_completion([message], temperature=0)
    assert found["choices"][0]["message"]["content"].strip() == ANSWER


def test_an_open_file_is_read_from_its_beginning_each_time(llm: Llava) -> None:
    with OWL.open("rb") as file:
        file.read(10)
        assert llm.ask(QUESTION, file) == ANSWER
        assert llm.ask(QUESTION, [file]) == ANSWER, "it can be read again"


def test_a_grey_array_becomes_three_equal_channels() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(load_image(grey, "it"), np.repeat(grey[:, :, None], 3, axis=2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            5,
            "image 1 '5' is of type int, expected a path, URI, base64 text, bytes, open file, "
            "PIL image or NumPy",
        ),
        ({"uri": "a.png"}, r"image_url is \{'uri': 'a.png'\}, expected a dict with 'url'"),
        (None, "image 1 'None' is of type NoneType, expected a path"),
        (
            np.zeros((4, 4, 3), np.float32),
            r"\(NumPy array\) has shape \(4, 4, 3\) of float32, expected uint8",
        ),
        (
            np.zeros((3, 4, 4), np.uint8).T[:, :, :2],
            r"shape \(4, 4, 2\) of uint8, expected uint8 \[height",
        ),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\) of uint8, expected"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"shape \(2, 4, 4, 3\) of uint8, expected"),
        (io.StringIO("text"), "returns str, expected a file opened in binary mode"),
        ("", "image 1 '' is an empty path, expected an image file"),
        ("a\0b.png", r"image 1 'a\\x00b.png' is not a file name, expected an image file"),
        ("a\ud800.png", r"image 1 'a\\ud800.png' is not a file name, expected an image file"),
        ("a\udcff.png", r"image 1 'a\\udcff.png' does not exist, expected an image file"),
        ("file:///nowhere/a.png", "image 1 'file:///nowhere/a.png' does not exist"),
        ("nowhere/owl", "image 1 'nowhere/owl' does not exist"),
        ("A" * 5000, "does not exist, expected an image file"),
        (str(DEMO), "is a directory, expected an image file"),
        ("/dev/zero", "image 1 '/dev/zero' is a device, expected an image file"),
        ("file://host/a.png", "is a network address"),
        (b"", r"image 1 \(0 bytes\) is empty"),
    ],
)
def test_what_is_no_image(llm: Llava, wrong: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        llm.ask(QUESTION, [wrong])
    assert llm.ask("Hello", max_tokens=1)


def test_no_list_of_images(llm: Llava) -> None:
    with pytest.raises(
        TypeError, match="images is 5 of type int, expected an image or several: a path"
    ):
        llm.ask(QUESTION, 5)  # type: ignore[arg-type]
    assert image_list(iter([OWL])) == [OWL]  # type: ignore[arg-type]


def test_a_picture_whose_file_is_closed(llm: Llava) -> None:
    with Image.open(OWL) as opened:
        pass
    with pytest.raises(
        ValueError, match=r"image 1 \(PIL image\) is damaged, expected a complete image: .+"
    ):
        llm.ask(QUESTION, opened)
    closed = OWL.open("rb")
    closed.close()
    with pytest.raises(ValueError, match="cannot be read, expected an open file"):
        llm.ask(QUESTION, closed)


PLAIN = base64.b64encode(OWL.read_bytes()).decode()


@pytest.mark.parametrize(
    "uri",
    [
        f"data:image/png;base64,{PLAIN}",
        "data:image/png;base64," + "\n".join(PLAIN[i : i + 76] for i in range(0, len(PLAIN), 76)),
        "data:image/png;base64," + "\r\n".join(PLAIN[i : i + 64] for i in range(0, len(PLAIN), 64)),
        f" data:image/png;base64,{PLAIN}",
        f"data:image/png;base64, {PLAIN}",
        f"data:image/png;base64,{PLAIN}\n",
        f"data:image/png;base64,{PLAIN.rstrip('=')}",
        f"data:image/png;base64,{PLAIN.replace('+', '-').replace('/', '_')}",
        f"data:image/png;base64,{PLAIN.replace('+', '%2B').replace('=', '%3D')}",
        f"DATA:image/png;BASE64,{PLAIN}",
        f"data:image/png; base64,{PLAIN}",
        f"data:image/png;charset=utf-8;base64,{PLAIN}",
        f"data:;base64,{PLAIN}",
        PLAIN,
        PLAIN.rstrip("=") + "\n",
    ],
)
def test_data_uris_as_clients_send_them(uri: str) -> None:
    np.testing.assert_array_equal(load_image(uri, "it"), _rgb(OWL))


@pytest.mark.parametrize(
    "uri", ["data:image/png;base64,@@@", "data:image/png;base64,A", "data:image/png;base64"]
)
def test_data_uris_that_are_none(uri: str) -> None:
    with pytest.raises(
        ValueError, match=r"image 1 'data:image/png;base64.* expected data:image/TYPE;base64,DATA"
    ):
        load_image(uri, "image 1")


def test_a_name_of_other_bytes(tmp_path: Path) -> None:
    """Files whose names are not UTF-8 are files."""
    name = os.fsdecode(os.fsencode(tmp_path) + b"/owl-\xff.png")
    Path(name).write_bytes(OWL.read_bytes())
    np.testing.assert_array_equal(load_image(name, "it"), _rgb(OWL))
    np.testing.assert_array_equal(load_image(Path(name), "it"), _rgb(OWL))


def test_a_silent_pipe_is_given_up_and_one_with_data_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One that nobody writes to is given up; the shell's ``<(command)`` is read."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(regular_files, "PIPE_SECONDS", 0.2)
    with pytest.raises(ValueError, match=r"pipe' is a pipe that was silent for 0\.2 seconds"):
        load_image(pipe, "image 1")
    for command in (["-i", str(pipe), QUESTION], ["--context-file", str(pipe), "What?"]):
        assert main(["ask", "-m", "embedded", *command]) == 2
        assert "is a pipe that was silent for 0.2 seconds" in capfd.readouterr().err
    monkeypatch.setattr(regular_files, "PIPE_SECONDS", 20)
    for data in (OWL.read_bytes(), b"no picture"):
        writer = threading.Thread(target=pipe.write_bytes, args=(data,))
        writer.start()
        if data == b"no picture":
            with pytest.raises(ValueError, match="is not a readable image"):
                load_image(str(pipe), "image 1")
        else:
            np.testing.assert_array_equal(load_image(str(pipe), "image 1"), _rgb(OWL))
        writer.join()
    monkeypatch.setattr(regular_files, "PIPE_BYTES", 10)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"x" * 11,))
    writer.start()
    with pytest.raises(ValueError, match="is a pipe with more than 10 bytes"):
        load_image(pipe, "image 1")
    writer.join()


@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "directory"])
def test_models_are_files(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "it"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    else:
        path.mkdir()
    opened: list[Callable[[], object]] = [
        lambda: Llava(path, mmproj=MMPROJ),
        lambda: Llava(MODEL, mmproj=path),
        lambda: plan(path, images=1, mmproj=MMPROJ),
        lambda: plan(MODEL, images=1, mmproj=path),
    ]
    for one in opened:
        with pytest.raises(ValueError, match=f"is a {kind}, expected a GGUF file"):
            one()


def test_a_file_that_changes(tmp_path: Path) -> None:
    """Between a look at its header and its pixels."""
    file = tmp_path / "owl.png"
    file.write_bytes(OWL.read_bytes())
    picture = images.Picture(file, "image 1")
    file.write_bytes(_png_header(13_377, 13_377))
    with pytest.raises(ValueError, match="has 13377 x 13377 pixels"):
        picture.pixels()
    file.unlink()
    with pytest.raises(ValueError, match="cannot be read, expected an image file: No such file"):
        picture.pixels()
