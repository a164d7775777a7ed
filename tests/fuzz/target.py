"""A class of inputs: how one is made, and where it is taken."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar

from fuzz.outcomes import Outcome
from fuzz.things import Plain


class Place(ABC):
    """Where inputs are taken, one after the other."""

    @abstractmethod
    def take(self, given: Plain) -> Outcome:
        """Try an input."""

    @abstractmethod
    def question(self) -> Outcome:
        """Ask what has a known answer."""

    @abstractmethod
    def close(self) -> None:
        """End it."""


class Target(ABC):
    """A class of inputs."""

    name: ClassVar[str]
    batch: ClassVar[int] = 50
    """How many inputs are taken between questions with a known answer."""

    @abstractmethod
    def make(self, rng: random.Random) -> Plain:
        """An input, the same one for the same state of ``rng``."""

    @abstractmethod
    def place(self, folder: Path) -> Place:
        """A new place for inputs; files go into ``folder``."""

    def input(self, seed: int, i: int) -> Plain:
        """Input ``i`` of a campaign: by class, seed and number alone."""
        return self.make(random.Random(f"{self.name} {seed} {i}"))

    @contextmanager
    def open(self, folder: Path) -> Iterator[Place]:
        """A place that is closed at the end."""
        place = self.place(folder)
        try:
            yield place
        finally:
            place.close()


class Library(ABC):
    """What takes inputs within a child process."""

    documented: ClassVar[tuple[type[Exception], ...]] = ()
    """Errors that callers are told to expect, beside ``ValueError`` and ``MemoryError``."""

    @abstractmethod
    def take(self, given: Plain) -> None:
        """Hand an input to the library; it raises what the library raises."""

    @abstractmethod
    def question(self) -> str:
        """What it answers to a question; always the same."""


class LibraryTarget(Target):
    """A class whose inputs are taken in child processes."""

    seconds: ClassVar[float] = 60.0
    """After which an input hangs."""

    @abstractmethod
    def library(self, folder: Path) -> AbstractContextManager[Library]:
        """Called in the child."""

    def place(self, folder: Path) -> Place:
        from fuzz.child import Child  # noqa: PLC0415  (the child imports targets)

        return Child(self, folder)
