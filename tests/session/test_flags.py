"""Commands that open a model take the same flags, by llama.cpp's names as well."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from lookm_cpp.cli import main
from lookm_cpp.cli.flags import ANSWER, COMPRESSION, OPENING, SEED, Flag
from lookm_cpp.compression import CompressionOverrides
from lookm_cpp.embedded import DEMO
from lookm_cpp.options import LlavaOptions, Sampling

OWL = str(DEMO / "pic08.png")


def _help(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([*command.split(), "-h"]) == 0
    return re.sub(r"\s+", " ", capsys.readouterr().out)


def _names(flags: tuple[Flag, ...]) -> set[str]:
    return {flag.option for flag in flags}


def test_each_option_of_the_library_is_a_flag() -> None:
    assert _names(COMPRESSION) == set(CompressionOverrides.__annotations__)
    # a command asks one prompt: little of it comes again
    aside = {"prefix_memory", "prefix_type", "image_cache"}
    assert _names((*COMPRESSION, *OPENING, SEED)) == set(LlavaOptions.__annotations__) - {
        "compression",
        *aside,
    }
    # for programs, which read the answer
    programs = {"typical_p", "mirostat_mode", "mirostat_tau", "mirostat_eta", "logit_bias"}
    programs |= {"grammar", "json_schema"}
    assert _names(ANSWER) | {"seed"} == set(Sampling.__annotations__) - programs | {"max_tokens"}


@pytest.mark.parametrize("command", ["ask", "plan", "explain"])
def test_each_command_has_them(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = _help(command, capsys)
    for flag in (*COMPRESSION, *OPENING):
        for name in flag.names[0].split("/"):
            assert re.search(rf"{name}\b", shown), name
    assert "-c, --n-ctx, --ctx-size" in shown


def test_the_demo_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--visual-quota", "2"]) == 2
    assert capsys.readouterr().err.startswith("lookm: visual_quota: 2")
    assert main(["demo", "-c", "256"]) == 2
    assert "do not fit into n_ctx 256" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "eval tiny",
        "eval passkey",
        "eval milebench",
        "eval code",
        "eval pictures",
        "eval conversations",
    ],
)
def test_evaluations_have_all_but_what_they_vary(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    varied = {"type_k", "type_v", "kept_type_k", "kept_type_v", "method"}
    ratios = {"kv_ratio", "important_ratio", "recent_ratio"}
    ratios |= {"ratio_floor", "ratio_ceiling", "quality"}  # of auto
    ratios |= {"image_ratio", "image_cells", "pruner"}  # prompts are read whole
    caps = {"kv_cells", "kv_memory"}
    shown = _help(command, capsys)
    for flag in (*COMPRESSION, *OPENING):
        for name in flag.names[0].split("/"):
            found = re.search(rf" {name}[ ,]", shown)
            assert bool(found) == (flag.option not in varied | ratios | caps), name


def _asked(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    command = ["ask", "-m", "embedded", "-i", OWL, "Image 1:<image> What is in image 1?", "--json"]
    assert main([*command, *flags]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_names_of_llama_cpp(capsys: pytest.CaptureFixture[str]) -> None:
    ours = (
        "--n-ctx",
        "512",
        "--max-tokens",
        "3",
        "--type-k",
        "q8_0",
        "--temperature",
        "0",
        "--threads",
        "1",
    )
    theirs = (
        "-c",
        "512",
        "-n",
        "3",
        "-ctk",
        "q8_0",
        "--temp",
        "0",
        "-t",
        "1",
        "-b",
        "64",
        "-ub",
        "64",
        "-ngl",
        "0",
    )
    a, b = _asked(capsys, *ours), _asked(capsys, *theirs)
    assert a["finish_reason"] == b["finish_reason"] == "length"
    assert a["answer"] == b["answer"] == "Image 1 shows"
    used = a["stats"]["kv_bytes_used_before"]
    assert used == b["stats"]["kv_bytes_used_before"]
    full = _asked(capsys)
    assert used < full["stats"]["kv_bytes_used_before"], "K in q8_0"
    assert full["answer"] == "Image 1 shows an owl."


def test_flags_of_the_sampler(capsys: pytest.CaptureFixture[str]) -> None:
    """One token to choose from is greedy at any temperature."""
    assert _asked(capsys, "--temp", "5", "--top-k", "1")["answer"] == "Image 1 shows an owl."
    assert main(["ask", "-m", "embedded", "hi", "--top-p", "2"]) == 2
    assert capsys.readouterr().err.startswith("lookm: top_p: 2")


def test_plan_counts_what_a_compression_keeps(capsys: pytest.CaptureFixture[str]) -> None:
    def kept(*flags: str) -> int:
        assert main(["plan", "-m", "embedded", "--images", "8", "--json", *flags]) == 0
        n: int = json.loads(capsys.readouterr().out)["kept_cells"]
        return n

    n = kept("--kv-ratio", "0.2")
    assert kept("--important-ratio", "0.3", "--recent-ratio", "0.1") == pytest.approx(2 * n, abs=2)
    assert kept("--kv-ratio", "0.01", "--text-overflow", "keep") > kept("--kv-ratio", "0.01")
