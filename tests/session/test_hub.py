"""Models of the hub: chosen by name, downloaded once, found again without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lookm_cpp import embedded
from lookm_cpp.hub import HubModel, model_file, parts_of, projector_file

from session.hub_server import TOKEN, hub

REPO = "someone/tiny-llava-GGUF"
PRIVATE = "someone/private-GGUF"
PICTURES = [str(embedded.DEMO / f"pic{n}.png") for n in ("03", "08")]
QUESTION = "Image 1:<image> Image 2:<image> What is in image 2?"
CLOSED = "http://127.0.0.1:9"
"""Nobody listens there."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    readme = tmp_path_factory.mktemp("hub") / "README.md"
    readme.write_text("# A model\n")
    model, mmproj = Path(embedded.MODEL), Path(embedded.MMPROJ)
    files = {
        "README.md": readme,
        "tiny-llava-Q8_0.gguf": model,
        "tiny-llava-Q2_K.gguf": readme,
        "mmproj-tiny-llava-Q8_0.gguf": readme,
        "mmproj-tiny-llava-f16.gguf": mmproj,
    }
    text = {"only-Q8_0.gguf": model}
    with hub({REPO: files, PRIVATE: files, "someone/text": text}, frozenset({PRIVATE})) as found:
        yield found


def _run(home: Path, endpoint: str, *arguments: str, **more: str) -> Any:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-m", "lookm_cpp", *arguments],
        env=environment | more,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _ask(home: Path, endpoint: str, name: str, *flags: str, **more: str) -> Any:
    return _run(home, endpoint, "ask", "-hf", name, QUESTION, "-i", *PICTURES, *flags, **more)


def test_a_model_is_downloaded_once(address: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, seen = address
    first = _ask(tmp_path, endpoint, REPO)
    assert (first.returncode, first.stdout) == (0, "Image 2 shows an owl.\n"), first.stderr
    got = [line for line in seen if line.startswith("GET") and "resolve" in line]
    assert sorted(Path(line).name for line in got) == [
        "mmproj-tiny-llava-f16.gguf",
        "tiny-llava-Q8_0.gguf",
    ]
    seen.clear()
    again = _ask(tmp_path, endpoint, REPO, "--json")
    assert json.loads(again.stdout)["answer"] == "Image 2 shows an owl."
    assert not [line for line in seen if line.startswith("GET") and "resolve" in line]

    for offline in ({}, {"HF_HUB_OFFLINE": "1"}):
        without = _ask(tmp_path, CLOSED, f"{REPO}:q8_0", **offline)
        assert without.stdout == "Image 2 shows an owl.\n", without.stderr

    listed = json.loads(_run(tmp_path, CLOSED, "models", "--json").stdout)
    assert [(one["model"], Path(one["file"]).name) for one in listed] == [
        (f"{REPO}:Q8_0", "tiny-llava-Q8_0.gguf")
    ]
    assert listed[0]["size_bytes"] == Path(embedded.MODEL).stat().st_size
    assert listed[0]["projectors"] == ["mmproj-tiny-llava-f16.gguf"]
    assert listed[0]["compression"] == "supported"
    table = _run(tmp_path, CLOSED, "models").stdout
    assert table.split()[-4:] == ["5.0", "MiB", "yes", "supported"], table
    assert f"{REPO}:Q8_0" in table


def test_from_pretrained_into_a_folder(address: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, _ = address
    code = (
        "from lookm_cpp import Llava\n"
        f"llm = Llava.from_pretrained({REPO!r}, '*Q8_0.gguf', local_dir={str(tmp_path / 'a')!r})\n"
        f"print(llm.ask({QUESTION!r}, {PICTURES!r}), llm.model_name)"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": endpoint}
    made = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert made.stdout.startswith("Image 2 shows an owl."), made.stderr
    assert (tmp_path / "a" / "tiny-llava-Q8_0.gguf").read_bytes() == Path(
        embedded.MODEL
    ).read_bytes()


def test_a_private_model_needs_a_token(address: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, _ = address
    without = _ask(tmp_path, endpoint, PRIVATE)
    assert without.returncode == 2
    assert "HF_TOKEN" in without.stderr.splitlines()[-1]
    assert _ask(tmp_path, endpoint, PRIVATE, HF_TOKEN=TOKEN).stdout == "Image 2 shows an owl.\n"


def test_commands_take_it(address: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, _ = address
    for arguments in (
        ("info", "-hf", REPO),
        ("plan", "-hf", REPO, "--images", "3", "--image-size", "64x64"),
        ("ask", "-hf", "someone/text", "--text-only", "-n", "2", "Hello"),
    ):
        made = _run(tmp_path, endpoint, *arguments)
        assert made.returncode == 0, made.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-hf", "someone/none"), "there is no someone/none on"),
        (("-hf", f"{REPO}:Q4_0"), "has no Q4_0, expected one of: tiny-llava-"),
        (("-hf", "tiny"), "expected owner/repo or owner/repo:quant"),
        (("-hf", REPO, "-m", "embedded"), "expected one of them"),
        ((), "--model or -hf is missing"),
        (("-hf", "someone/text"), "mmproj was not given"),
    ],
)
def test_what_is_not_there(
    address: tuple[str, list[str]], tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    made = _run(tmp_path, address[0], "ask", *arguments, "Hello")
    assert made.returncode == 2
    assert said in made.stderr.splitlines()[-1], made.stderr


def test_without_a_network_the_cache_is_named(tmp_path: Path) -> None:
    made = _ask(tmp_path, CLOSED, REPO)
    assert made.returncode == 2
    (line,) = made.stderr.splitlines()
    assert line.startswith(f"lookm: {CLOSED} cannot be reached")
    assert str(tmp_path / "hub") in line


FILES = [
    "README.md",
    "big-BF16-00001-of-00002.gguf",
    "big-BF16-00002-of-00002.gguf",
    "big-IQ4_XS.gguf",
    "big-Q4_K_M.gguf",
    "big-Q8_0.gguf",
    "mmproj-big-BF16.gguf",
    "mmproj-big-F32.gguf",
]


@pytest.mark.parametrize(
    ("quant", "filename", "expected"),
    [
        (None, None, "big-Q4_K_M.gguf"),
        ("q8_0", None, "big-Q8_0.gguf"),
        ("iq4_xs", None, "big-IQ4_XS.gguf"),
        ("BF16", None, "big-BF16-00001-of-00002.gguf"),
        (None, "*IQ4*", "big-IQ4_XS.gguf"),
    ],
)
def test_which_file(quant: str | None, filename: str | None, expected: str) -> None:
    assert model_file(FILES, HubModel("a/big", quant), filename) == expected


def test_which_projector() -> None:
    assert projector_file(FILES) == "mmproj-big-BF16.gguf"
    assert projector_file(FILES, "*F32*") == "mmproj-big-F32.gguf"
    assert projector_file(FILES, False) is None
    assert projector_file(["a.gguf"]) is None
    with pytest.raises(ValueError, match="mmproj is 'x', expected one of"):
        projector_file(FILES, "x")
    with pytest.raises(ValueError, match=r"filename is '\*', expected one of a/big's"):
        model_file(FILES, HubModel("a/big"), "*")
    with pytest.raises(ValueError, match="a/big has no GGUF file"):
        model_file(["README.md"], HubModel("a/big"))


def test_parts() -> None:
    assert parts_of("a-00001-of-00000.gguf", []) == ["a-00001-of-00000.gguf"]
    assert parts_of(FILES[1], FILES) == FILES[1:3]
    with pytest.raises(ValueError, match="is split, and big-BF16-00002"):
        parts_of(FILES[1], FILES[:2])
