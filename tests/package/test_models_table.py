"""docs/models.md against the pinned llama.cpp and the tests that it names."""

from __future__ import annotations

import re

import pytest
from zoo.pairs import PAIRS, REFUSED

from package.test_build import BUILD, ROOT

TABLE = [
    line
    for line in (ROOT / "docs" / "models.md").read_text().splitlines()
    if line.startswith("| `")
]
SOUND = {
    *(
        "gemma3na",
        "gemma4a",
        "gemma4ua",
        "ultravox",
        "qwen2a",
        "qwen3a",
        "glma",
        "voxtral",
        "meralion",
        "musicflamingo",
    ),
    *("dots3note_a", "lfm2a", "granite_speech", "mimo_audio", "parakeet"),
    *("qwen3tts_spkenc", "qwen3tts_gen", "pockettts_spkenc", "pockettts_gen"),
}
"""Projectors that make no image cells."""


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_each_projector_of_the_pinned_llama_cpp_has_a_row() -> None:
    sources = [*BUILD.glob("_llama_cpp/*/tools/mtmd/clip-impl.h")]
    if not sources:
        pytest.skip("built on a llama.cpp checkout elsewhere")
    names = set(re.findall(r"\{ PROJECTOR_TYPE_\w+, *\"([^\"]+)\"\s*\}", sources[0].read_text()))
    assert len(names) > 50
    rows = {name for line in TABLE for name in re.findall(r"`([^`]+)`", _cells(line)[0])}
    assert rows == names - SOUND


def test_each_tested_state_names_its_test_and_each_test_its_row() -> None:
    shown = {}
    for line in TABLE:
        _, _, state, tests = _cells(line)
        for name in re.findall(r"zoo `([^`]+)`", tests):
            shown[name] = state
        assert bool(tests) == ("expected" not in state)
    assert set(shown) == set(PAIRS) | set(REFUSED)
    for name, pair in PAIRS.items():
        assert shown[name] == ("supported" if pair.n_layer is None else "partly")
    assert {shown[name] for name in REFUSED} == {"refused"}
