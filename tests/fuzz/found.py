"""Inputs that went wrong once, kept as files for a test to try again."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fuzz.campaign import Fault
from fuzz.minimise import minimised
from fuzz.outcomes import Outcome
from fuzz.target import Place, Target
from fuzz.targets import TARGETS
from fuzz.things import Plain, from_json, to_json

FOLDER = Path(__file__).parent / "found"


@dataclass(frozen=True)
class Found:
    """Inputs of a class, to be taken in this order, and how it went wrong."""

    target: Target
    inputs: list[Plain]
    about: dict[str, str | int]
    """Seed, number, kind and where: for readers."""

    @classmethod
    def read(cls, path: Path) -> Found:
        found = json.loads(path.read_text())
        return cls(TARGETS[found["class"]], from_json(json.dumps(found["inputs"])), found["about"])

    def write(self, folder: Path = FOLDER) -> Path:
        folder.mkdir(exist_ok=True)
        inputs = json.loads(to_json(self.inputs))
        text = json.dumps(
            {"class": self.target.name, "about": self.about, "inputs": inputs}, indent=1
        )
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        path = folder / f"{self.target.name.lower().replace(' ', '-')}-{digest}.json"
        path.write_text(text + "\n")
        return path


def replayed(place: Place, inputs: list[Plain]) -> Outcome:
    """The first thing that goes wrong, or what became of the question after the last."""
    for given in inputs:
        outcome = place.take(given)
        if not outcome.right:
            return outcome
    return place.question()


class Trials:
    """Whether inputs go wrong in the same way as before."""

    def __init__(self, fault: Fault, folder: Path) -> None:
        self._fault = fault
        self._folder = folder

    def fails(self, inputs: Plain) -> bool:
        """In a new place."""
        with self._fault.target.open(self._folder) as place:
            return self.fails_in(place, inputs)

    def fails_in(self, place: Place, inputs: Plain) -> bool:
        """After whatever was tried in that place."""
        try:
            return isinstance(inputs, list) and replayed(place, inputs).same_fault(
                self._fault.outcome
            )
        except (KeyError, TypeError, ValueError):  # too little is left to be an input
            return False

    def least(self) -> list[Plain] | None:
        """Few and small inputs that do; ``None`` where not even all of them do."""
        last = self._fault.inputs[-1:]
        if self.fails(last):
            with self._fault.target.open(
                self._folder
            ) as place:  # to start one for each trial takes long
                less: list[Plain] = minimised(last, lambda inputs: self.fails_in(place, inputs))
            return less if self.fails(less) else last
        if self.fails(self._fault.inputs):
            least: list[Plain] = minimised(self._fault.inputs, self.fails)
            return least
        return None


def kept(fault: Fault, folder: Path = FOLDER) -> Path | None:
    """Make the fault small, and keep it; ``None`` where it does not come again.

    Where the last input alone does not go wrong again, those before it belong to it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Trials(fault, Path(scratch)).least()
    if inputs is None:
        return None
    about: dict[str, str | int] = {
        "seed": fault.seed,
        "number": fault.number,
        "kind": fault.outcome.kind.value,
        "where": fault.outcome.where,
    }
    return Found(fault.target, inputs, about).write(folder)


def all_found(folder: Path = FOLDER) -> list[Path]:
    return sorted(folder.glob("*.json"))
