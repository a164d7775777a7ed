"""What goes wrong is seen, told from what went before it, made small, and tried again."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fuzz.campaign import Budget, Fault, campaign, table
from fuzz.found import Found, kept, replayed
from fuzz.minimise import minimised
from fuzz.outcomes import Kind, Outcome, of_error
from fuzz.target import Library, LibraryTarget, Place
from fuzz.targets import SHARES, TARGETS
from fuzz.things import MAKERS, Plain, Thing, from_json, real, to_json
from fuzz.values import any_value

WORDS = ("good", "kill", "refuse", "key", "good", "wait", "signature", "spoil", "good", "good")


class _Ward(Library):
    """Goes wrong on demand."""

    def __init__(self) -> None:
        self.answer = "right"
        self.is_armed = False

    def take(self, given: Any) -> None:
        word = given["word"]
        if word == "kill":
            os.kill(os.getpid(), signal.SIGSEGV)
        if word == "wait":
            time.sleep(60)
        if word == "spoil":
            self.answer = "wrong"
        if word == "arm":
            self.is_armed = True
        if word == "key" or (word == "fire" and self.is_armed):
            raise RuntimeError("the key")
        if word == "signature":
            raise TypeError("f(): incompatible function arguments, expected")
        if word == "refuse":
            raise ValueError("word is refuse, expected another")

    def question(self) -> str:
        return self.answer


class _Patient(LibraryTarget):
    name = "patient"
    seconds = 2.0
    batch = 4

    def make(self, rng: random.Random) -> Plain:
        raise NotImplementedError

    def input(self, seed: int, i: int) -> Plain:
        return _said(WORDS[i])

    @contextmanager
    def library(self, folder: Path) -> Iterator[Library]:
        yield _Ward()


class _Room(Place):
    """Where a ward is without a process of its own."""

    def __init__(self) -> None:
        self._ward = _Ward()

    def take(self, given: Plain) -> Outcome:
        try:
            self._ward.take(given)
        except RuntimeError as error:
            return of_error(error)
        return Outcome(Kind.TAKEN)

    def question(self) -> Outcome:
        if self._ward.answer == "right":
            return Outcome(Kind.TAKEN)
        return Outcome(Kind.WRONG_ANSWER, "answer")

    def close(self) -> None:
        pass


class _Indoors(_Patient):
    name = "indoors"

    def place(self, folder: Path) -> Place:
        return _Room()


WHERE = {
    Kind.DEATH: "SIGSEGV",
    Kind.WRONG_ERROR: "RuntimeError in test_harness.py: take",
    Kind.WRONG_ANSWER: "answer",
}


def _said(word: str) -> Plain:
    return {"word": word, "beside": ["x" * 100, {"y": b"z"}]}


def test_each_fault_is_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    faults: list[Fault] = []
    counts = campaign(_Patient(), 0, Budget(len(WORDS)), tmp_path, faults.append)
    assert counts.inputs == len(WORDS)
    assert counts.kinds == {
        Kind.TAKEN: 5,
        Kind.REFUSED: 1,
        Kind.WRONG_ERROR: 2,
        Kind.DEATH: 1,
        Kind.HANG: 1,
        Kind.WRONG_ANSWER: 1,
    }
    assert [(fault.number, fault.outcome.kind) for fault in faults] == [
        (1, Kind.DEATH),
        (3, Kind.WRONG_ERROR),
        (5, Kind.HANG),
        (6, Kind.WRONG_ERROR),
        (7, Kind.WRONG_ANSWER),
    ]
    assert faults[0].outcome.where == "SIGSEGV"
    assert [given["word"] for given in faults[-1].inputs] == list(WORDS[4:8])
    assert table([counts]).splitlines()[2] == "| patient | 10 | 5 | 1 | 2 | 1 | 1 | 1 |"


def test_a_campaign_goes_on_where_another_ended(tmp_path: Path) -> None:
    counts = campaign(_Patient(), 0, Budget(2, first=8), tmp_path)
    assert counts.kinds == {Kind.TAKEN: 2}


@pytest.mark.parametrize(
    ("target", "words", "kind", "least"),
    [
        (_Patient(), ["good", "kill"], Kind.DEATH, ["kill"]),
        (_Indoors(), ["good", "arm", "good", "fire"], Kind.WRONG_ERROR, ["arm", "fire"]),
        (_Indoors(), ["good", "spoil", "good"], Kind.WRONG_ANSWER, ["spoil"]),
        (_Indoors(), ["good", "fire"], Kind.WRONG_ERROR, None),
    ],
    ids=["death", "of two", "answer", "not again"],
)
def test_what_is_kept_is_little_and_goes_wrong_again(
    target: _Patient,
    words: list[str],
    kind: Kind,
    least: list[str] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = [_said(word) for word in words]
    outcome = Outcome(kind, WHERE[kind])
    monkeypatch.setitem(TARGETS, target.name, target)
    path = kept(Fault(target, 5, 3, inputs, outcome), tmp_path)
    if least is None:
        assert path is None
        return
    assert path is not None
    found = Found.read(path)
    assert found.inputs == [{"word": word} for word in least]
    assert json.loads(path.read_text())["about"]["seed"] == 5
    with target.open(tmp_path) as place:
        assert replayed(place, found.inputs).same_fault(outcome)


def test_what_can_be_made_again() -> None:
    for target in TARGETS.values():
        first, again = ([to_json(target.input(3, i)) for i in range(3)] for _ in range(2))
        assert first == again
        assert len({to_json(target.input(seed, 0)) for seed in range(8)}) > 1
    assert sum(SHARES.values()) == 100


def test_every_kind_of_value_is_drawn_and_survives_json() -> None:
    rng = random.Random(0)
    drawn = [any_value(rng) for _ in range(3000)]
    assert {value.name for value in drawn if isinstance(value, Thing)} == set(MAKERS) - {
        "closed picture"
    }
    for value in drawn:
        assert to_json(from_json(to_json(value))) == to_json(value)
        real(value)


def test_an_input_is_reduced_to_what_fails() -> None:
    big = {
        "a": [1, 2, {"b": "--needle--"}, 4],
        "c": b"x" * 1000,
        "d": Thing("tuple", ["needle", "hay"]),
    }
    assert minimised(big, lambda value: "needle" in to_json(value)) == {
        "d": Thing("tuple", ["needle"])
    }


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("n_ctx is -1, expected 0 or more"), Kind.REFUSED),
        (MemoryError(), Kind.REFUSED),
        (FileNotFoundError("a.png does not exist, expected an image"), Kind.REFUSED),
        (TypeError("image 1 is of type int, expected a path"), Kind.REFUSED),
        (TypeError("'int' object is not iterable"), Kind.WRONG_ERROR),
        (TypeError("f(): incompatible function arguments."), Kind.WRONG_ERROR),
        (ValueError(""), Kind.WRONG_ERROR),
        (ValueError("std::exception"), Kind.WRONG_ERROR),
        (ValueError("vector::_M_range_check"), Kind.WRONG_ERROR),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), Kind.WRONG_ERROR),
        (RecursionError("too deep"), Kind.WRONG_ERROR),
        (OSError("x"), Kind.WRONG_ERROR),
    ],
    ids=repr,
)
def test_an_error_is_a_refusal_only_if_its_message_helps(error: Exception, kind: Kind) -> None:
    assert of_error(error, (FileNotFoundError, TypeError)).kind is kind
