"""Chat templates in the server: none is an error where prompts are compressed, and a name is a
name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from zoo.pairs import Files, write_pair

from server.servers import refused, running

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """LLaVA-1.5 as its GGUF files are: without a template."""
    return write_pair("llava-1.5", tmp_path_factory.mktemp("llava"), chat_template=None)


def _flags(files: Files) -> tuple[str, ...]:
    return ("-m", str(files.model), "--mmproj", str(files.mmproj), "-c", "1024", "-np", "1")


@pytest.mark.parametrize(
    "flags", [("--kv-ratio", "0.5"), ("--kv-on-request",), ("--kv-cells", "512")]
)
def test_none_is_refused_at_the_start(llava: Files, flags: tuple[str, ...]) -> None:
    status, said = refused(*_flags(llava), *flags)
    assert status == 2
    last = said.splitlines()[-1]
    assert last.startswith(
        f'lookm-server: --model: "{llava.model}" has no chat template; '
        "expected one in --chat-template"
    )
    assert "vicuna for LLaVA-1.5" in last


def test_without_compression_it_is_llama_server(llava: Files, tmp_path: Path) -> None:
    with running(tmp_path, *_flags(llava)) as server:
        assert server.post("/apply-template", messages=MESSAGES)["prompt"].startswith(
            "<|im_start|>"
        )


@pytest.mark.parametrize("flags", [(), ("--kv-ratio", "0.5"), ("--kv-ratio", "0.5", "--no-jinja")])
def test_a_name_is_llama_cpps_template(
    llava: Files, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """llama-server would make the prompt "vicuna" of it."""
    with running(tmp_path, *_flags(llava), "--chat-template", "vicuna", *flags) as server:
        found: Any = server.post("/apply-template", messages=MESSAGES)
        assert found["prompt"] == "Be brief.\n\nUSER: Hi\nASSISTANT:"
        assert len(server.lines("--jinja is off: vicuna")) == (0 if "--no-jinja" in flags else 1)


def test_chatml_is_jinja(llava: Files, tmp_path: Path) -> None:
    with running(
        tmp_path, *_flags(llava), "--chat-template", "chatml", "--kv-ratio", "0.5"
    ) as server:
        assert server.post("/apply-template", messages=MESSAGES)["prompt"].startswith(
            "<|im_start|>system\nBe brief."
        )
        assert not server.lines("--jinja is off")
