"""A few hostile inputs of each class, the same ones every time; `make fuzz` tries more."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.campaign import Budget, campaign
from fuzz.found import Found, all_found, replayed
from fuzz.outcomes import Kind
from fuzz.targets import TARGETS

INPUTS = {
    "messages": 400,
    "options": 300,
    "pictures": 200,
    "HTTP bodies": 200,
    "raw bytes": 200,
    "state files": 100,
    "slot files": 60,
    "GGUF models": 12,
    "GGUF projectors": 12,
}


@pytest.mark.parametrize("name", INPUTS)
def test_no_hostile_input_crashes_hangs_or_gives_a_wrong_answer(name: str, tmp_path: Path) -> None:
    counts = campaign(TARGETS[name], 0, Budget(INPUTS[name]), tmp_path)
    assert [(fault.number, fault.outcome) for fault in counts.faults] == []
    assert counts.inputs == INPUTS[name]
    assert min(counts.kinds[kind] for kind in (Kind.TAKEN, Kind.REFUSED)) > 0


@pytest.mark.parametrize("path", all_found(), ids=lambda path: path.stem)
def test_inputs_that_once_failed_are_answered_rightly(path: Path, tmp_path: Path) -> None:
    found = Found.read(path)
    with found.target.open(tmp_path) as place:
        outcome = replayed(place, found.inputs)
    assert outcome.right, outcome
