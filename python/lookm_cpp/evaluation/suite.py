"""Questions asked of every arm, with one or both places of compression."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from lookm_cpp.evaluation.arms import Arm
from lookm_cpp.evaluation.lab import Ask, Lab, Setup, looks_at_window
from lookm_cpp.evaluation.records import Record, Records

PLACES = ("after", "before")


def places_of(word: str) -> tuple[str, ...]:
    """The places that ``--place`` names.

    Raises:
        ValueError: The word is not a place.
    """
    if word not in (*PLACES, "both"):
        raise ValueError(f"--place is {word!r}, expected after, before or both")
    return PLACES if word == "both" else (word,)


@dataclass(frozen=True)
class Question:
    """A question at the end of a context.

    Attributes:
        task: Its kind; a context has at most one question of each kind.
        text: The question, beginning with the space that separates it from the context.
        answer: The right answer, word for word.
        begins: What the answer is made to begin with. It is read after the compression, so that no
            token of the answer comes from the full cache's logits.
        max_tokens: Limit of the answer; ``None`` for that of the run.
    """

    task: str
    text: str
    answer: str
    begins: str = ""
    max_tokens: int | None = None

    def score(self, answer: str) -> float:
        """1 for the right answer, word for word, otherwise 0."""
        return float(answer == self.answer)


@dataclass(frozen=True)
class Context:
    """The part of a prompt before the question.

    Attributes:
        number: Contexts of the same number are drawn together when intervals are computed.
        text: The user's turn before the question; each ``<image>`` stands for the next image.
        images: The images.
        evictable: Texts at the very beginning that may be evicted like images.
        questions: Questions about the context.
    """

    number: int
    text: str
    images: tuple[Image.Image, ...]
    evictable: tuple[str, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class SuiteRun:
    """A run: what is asked, and of which model.

    Attributes:
        name: Name of the suite.
        setup: The model.
        arms: The ways of holding a prompt that are compared.
        places: ``after`` the whole prompt, or ``before`` the question.
        contexts: The contexts, in order.
        seed: Random seed of the contexts.
        max_tokens: Maximum number of tokens of question and answer together.
        given: Fields of ``Compression`` for all methods.
    """

    name: str
    setup: Setup
    arms: Sequence[Arm]
    places: Sequence[str]
    contexts: Sequence[Context]
    seed: int
    max_tokens: int
    given: Mapping[str, Any] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """What records must share to be comparable."""
        return {
            "suite": self.name,
            "model": model_digest(self.setup),
            "seed": self.seed,
            **self.given,
        }


_HASHED = 16 << 20


def model_digest(setup: Setup) -> str:
    """A hash of the model's files and its chat template.

    Of a large file, the beginning and the size are hashed.
    """
    digest = hashlib.sha256()
    for file in (setup.model, setup.mmproj):
        if file:
            with file.open("rb") as stream:
                digest.update(hashlib.sha256(stream.read(_HASHED)).digest())
            digest.update(
                b"" if file.stat().st_size <= _HASHED else str(file.stat().st_size).encode()
            )
    digest.update(setup.chat_template.encode())
    return digest.hexdigest()[:16]


def run_suite(run: SuiteRun, records: Records, progress: Callable[[int, int], None]) -> None:
    """Ask everything that has no record yet; ``progress(done, total)`` counts contexts."""
    done = {_key(record) for record in records.all}
    contexts = run.contexts
    caches = list(dict.fromkeys(arm.cache for arm in run.arms))
    total, n = len(caches) * len(run.places) * len(contexts), 0
    for cache in caches:
        arms = sorted(
            (arm for arm in run.arms if arm.cache == cache),
            key=lambda arm: looks_at_window(arm.compression),
        )
        setup = replace(run.setup, cache=cache)
        with Lab(setup, run.max_tokens) as lab:
            # Contexts are the outer loop, so all arms of an interrupted run have the same ones.
            for context in contexts:
                for place in run.places:
                    for asked in _asked_at_once(context, place):
                        left = [
                            arm for arm in arms if not _keys(context, place, arm, asked) <= done
                        ]
                        new = _ask(lab, context, place, asked, left)
                        records.add(record for record in new if _key(record) not in done)
                    n += 1
                    progress(n, total)


def _key(record: Record) -> tuple[str, str, int, str]:
    return record["place"], record["arm"], record["context"], record["task"]


def _keys(
    context: Context, place: str, arm: Arm, asked: Sequence[Question]
) -> set[tuple[str, str, int, str]]:
    return {(place, arm.key, context.number, question.task) for question in asked}


def _asked_at_once(context: Context, place: str) -> Iterator[tuple[Question, ...]]:
    """The questions that share one compressed cache.

    If it is compressed before the question, one cache serves all questions; otherwise, each has its
    own.
    """
    if place == "before":
        yield context.questions
    else:
        yield from ((question,) for question in context.questions)


def _ask(
    lab: Lab, context: Context, place: str, asked: Sequence[Question], arms: Sequence[Arm]
) -> list[Record]:
    before = place == "before"
    lab.prompt(
        context.text,
        context.images,
        question="" if before else asked[0].text,
        contexts=context.evictable,
        before_question=before,
    )
    asks = [
        Ask(question.text if before else "", question.begins, question.max_tokens)
        for question in asked
    ]
    found: list[Record] = []
    for arm in arms:
        trials = lab.trial(arm.compression, asks, seed=context.number)
        found += [
            {
                "place": place,
                "arm": arm.key,
                "context": context.number,
                "task": question.task,
                "score": question.score(trial.answer),
                "prompt_cells": trial.prompt_cells,
                "kept_cells": trial.kept_cells,
                "kv_bytes": trial.kv_bytes,
                "attention_held": trial.attention_held,
                "answer": trial.answer,
            }
            for question, trial in zip(asked, trials, strict=True)
        ]
    return found
