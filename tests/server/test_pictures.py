"""Pictures in the server: one at full size at a time, none too large, none cut, else as
llama-server has them.
"""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lookm_cpp.images import MAX_PIXELS
from lookm_cpp.serve import server_path
from PIL import Image
from session.test_images import _png_header as png_header
from zoo.pairs import PAIRS, write_pair

from server.servers import SANITIZED, Server, content, refused, running


def encoded(picture: Image.Image, name: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, name, **options)
    return out.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )


def asked(*pictures: bytes) -> list[dict[str, Any]]:
    """One message about them all."""
    parts: list[dict[str, Any]] = []
    for picture in pictures:
        parts.append({"type": "text", "text": "Image:"})
        uri = "data:image/any;base64," + base64.b64encode(picture).decode()
        parts.append({"type": "image_url", "image_url": {"url": uri}})
    return [{"role": "user", "content": [*parts, {"type": "text", "text": " What?"}]}]


def status(server: Server, *pictures: bytes) -> tuple[int, str]:
    response = server.http.post(
        "/v1/chat/completions",
        json={"messages": asked(*pictures), "max_tokens": 2, "temperature": 0},
    )
    return response.status_code, response.json().get("error", {}).get("message", "")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[Server]:
    """llama-server as it is."""
    with running(folder, "-c", "2048", "-np", "1") as started:
        yield started


@pytest.mark.parametrize("name", ["llava-1.6", "qwen2-vl", "hunyuan-vl", "smolvlm", "pixtral"])
def test_one_by_one_they_are_the_same(name: str, tmp_path: Path) -> None:
    """As llama-server prepares them all at once: tokens, and what the model makes of them."""
    files = write_pair(name, tmp_path)
    pictures = [encoded(noise(*size, seed)) for seed, size in enumerate(PAIRS[name].images * 2)]
    flags = ("-m", str(files.model), "--mmproj", str(files.mmproj), "-c", "1024", "-np", "1")
    found = []
    for more in ((), ("--kv-on-request",)):
        with running(tmp_path, *flags, *more) as server:
            options: Any = {"max_tokens": 24, "temperature": 0, "logprobs": True, "top_logprobs": 3}
            answers = [
                server.post("/v1/chat/completions", messages=asked(*pictures), **options)
                for _ in range(2)
            ]
            found.append(
                [(content(one), one["usage"]["prompt_tokens"], one["choices"]) for one in answers]
            )
            # the second time the pictures are known by their hashes
            assert (
                answers[1]["timings"]["prompt_n"] < answers[0]["timings"]["prompt_n"]
                or name == "hunyuan-vl"
            )
    assert [one[:2] for one in found[0]] == [one[:2] for one in found[1]]
    for ours, theirs in zip(found[1], found[0], strict=True):
        for a, b in zip(
            ours[2][0]["logprobs"]["content"], theirs[2][0]["logprobs"]["content"], strict=True
        ):
            assert a["token"] == b["token"]
            assert a["logprob"] == pytest.approx(b["logprob"], abs=1e-3)


def _peak(server: Server) -> int:
    found = re.search(
        r"^VmHWM:\s*(\d+) kB$", Path(f"/proc/{server.process.pid}/status").read_text(), re.MULTILINE
    )
    assert found is not None
    return int(found[1]) >> 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.skipif(SANITIZED, reason="a sanitizer takes memory too")
def test_one_is_decoded_at_a_time(folder: Path) -> None:
    """All twelve would take 275 MiB in RGB alone; one takes three of 23 MiB."""
    large = encoded(Image.linear_gradient("L").resize((4000, 2000)).convert("RGB"), "JPEG")
    with running(folder, "--kv-ratio", "0.5", "-c", "2048", "-np", "1") as server:
        status(server, encoded(noise(64, 64)))
        before = _peak(server)
        assert status(server, *[large] * 12)[0] == 200
        assert _peak(server) - before < 110


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/completion", "/v1/chat/completions/input_tokens"]
)
def test_too_many_pixels(server: Server, plain: Server, path: str) -> None:
    marker = "<__media__>"
    enormous = png_header(8193, 8192)
    bodies: dict[str, Any] = {
        "/completion": {
            "prompt": {
                "prompt_string": marker,
                "multimodal_data": [base64.b64encode(enormous).decode()],
            },
            "n_predict": 1,
        }
    }
    body = bodies.get(path, {"messages": asked(encoded(noise(8, 8)), enormous), "max_tokens": 1})
    response = server.http.post(path, json=body)
    assert response.status_code == 400, response.text
    expected = f"image: 8193 x 8192 pixels, expected at most {MAX_PIXELS} (--image-max-pixels)"
    assert expected in response.json()["error"]["message"]
    assert "--image-max-pixels" not in plain.http.post(path, json=body).text, (
        "llama-server has no limit"
    )


def test_webp_has_pixels_too(server: Server) -> None:
    """llama-server decodes it by ffmpeg, which is not started for one that is too large."""
    canvas = b"VP8X" + (10).to_bytes(4, "little") + bytes(4) + (9999).to_bytes(3, "little") * 2
    sizes = {"VP8X": b"RIFF" + (22).to_bytes(4, "little") + b"WEBP" + canvas}
    for name, lossless in (("VP8 ", False), ("VP8L", True)):
        whole = bytearray(encoded(noise(16, 16), "WEBP", lossless=lossless, quality=80))
        assert whole[12:16] == name.encode()
        if lossless:
            whole[21:25] = (9999 | 9999 << 14).to_bytes(4, "little")
        else:
            whole[26:30] = (9999).to_bytes(2, "little") * 2
        sizes[name] = bytes(whole)
    for name, file in sizes.items():
        side = 9999 if name == "VP8 " else 10000
        assert status(server, file) == (
            400,
            f"image: {side} x {side} pixels, expected at most {MAX_PIXELS} (--image-max-pixels)",
        ), name
    small = encoded(noise(16, 16), "WEBP")
    assert "pixels" not in status(server, small)[1]


def test_the_limit_is_a_flag(folder: Path) -> None:
    for flags in (("--kv-ratio", "0.5"), ()):
        with running(
            folder, "-c", "512", "-np", "1", "--image-max-pixels", "4096", *flags
        ) as server:
            assert status(server, encoded(noise(64, 64)))[0] == 200
            assert status(server, encoded(noise(64, 65)))[0] == 400
            if flags:
                assert server.http.get("/props").json()["lookm"]["image_max_pixels"] == 4096
    for value in ("0", "-1", "many"):
        code, said = refused("--image-max-pixels", value)
        assert code == 2
        assert said.splitlines()[-1].startswith("lookm-server: --image-max-pixels: ")
    help_text = subprocess.run(
        [server_path(), "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert f"(default: {MAX_PIXELS} if prompts may be compressed, otherwise no limit)" in help_text


def _thumbnailed() -> bytes:
    """A JPEG with another one, which has an end of its own, in its header."""
    exif = Image.Exif()
    exif[0x010E] = encoded(noise(8, 8), "JPEG").decode("latin-1")
    return encoded(noise(200, 150), "JPEG", exif=exif)


JPEGS = {
    "baseline": encoded(noise(200, 150), "JPEG"),
    "progressive": encoded(noise(200, 150), "JPEG", progressive=True),
    "grey": encoded(noise(200, 150).convert("L"), "JPEG"),
    "thumbnail": _thumbnailed(),
    "two pictures": encoded(noise(200, 150), "MPO", save_all=True, append_images=[noise(40, 30)]),
    "restarts": encoded(noise(200, 150), "JPEG", restart_marker_blocks=4),
    "white": encoded(Image.new("RGB", (200, 150), "white"), "JPEG"),
}


@pytest.mark.parametrize("name", JPEGS)
def test_a_cut_jpeg_is_refused(server: Server, name: str) -> None:
    """llama-server's decoder makes up what is missing."""
    whole = JPEGS[name]
    assert status(server, whole)[0] == 200
    assert status(server, whole + b"more")[0] == 200, "what comes after the end does not matter"
    first = whole.index(b"\xff\xda")
    second = whole.index(b"\xff\xd8\xff", first) if name == "two pictures" else len(whole)
    for n in (first + 20, (first + second) // 2, second - 3, second - 1):
        code, message = status(server, whole[:n])
        if n < second - 2 or name != "two pictures":
            assert code == 400, n
            assert "cut off" in message or "Failed to load" in message


def test_a_cut_png(server: Server) -> None:
    """llama-server refuses it."""
    whole = encoded(noise(64, 64))
    assert status(server, whole)[0] == 200
    assert status(server, whole[: len(whole) // 2])[0] == 400


def test_the_table_of_formats(server: Server) -> None:
    """As docs/images.md has it."""
    for name in ("PNG", "JPEG", "GIF", "BMP", "PPM", "TGA"):
        assert status(server, encoded(noise(16, 16), name))[0] == 200
    if shutil.which("ffmpeg") is None:
        for name in ("WEBP", "TIFF", "AVIF", "JPEG2000"):
            if name in Image.SAVE:
                assert status(server, encoded(noise(16, 16), name))[0] == 400
    exif = Image.Exif()
    exif[0x0112] = 6
    answers = [
        server.post(
            "/v1/chat/completions",
            messages=asked(encoded(noise(64, 64), "JPEG", **options)),
            max_tokens=8,
            temperature=0,
            cache_prompt=False,
            logprobs=True,
        )["choices"][0]["logprobs"]["content"]
        for options in ({}, {"exif": exif})
    ]
    assert answers[0] == answers[1], "it does not know how the camera was held"


def test_what_is_no_picture(server: Server) -> None:
    for file in (
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"hello",
        b"RIFF\x10\0\0\0WEBPVP8 ",
        encoded(noise(8, 8), "TIFF"),
    ):
        code, message = status(server, file)
        assert code == 400, message
    assert status(server, encoded(noise(8, 8)))[0] == 200
