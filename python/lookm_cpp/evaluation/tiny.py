"""``lookm eval tiny``: the run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lookm_cpp.evaluation.arms import Arm
from lookm_cpp.evaluation.lab import Lab, Setup, looks_at_window
from lookm_cpp.evaluation.pictures import load_pictures
from lookm_cpp.evaluation.records import Record, Records
from lookm_cpp.evaluation.tiny_prompts import TinyContext, TinyQuestion, make_context

PLACES = ("after", "before")
_MAX_TOKENS = 160  # a question and the longest right answer take 90


@dataclass(frozen=True)
class TinyRun:
    """What is asked, and with what.

    Attributes:
        setup: The model.
        arms: What is compared.
        places: ``after`` the whole prompt, or ``before`` the question.
        n_contexts: Contexts of 4, 8 and 16 pictures by turns, with five or six questions each.
        seed: Of the contexts; the same contexts in the same order for every number of them.
    """

    setup: Setup
    arms: Sequence[Arm]
    places: Sequence[str]
    n_contexts: int
    seed: int

    def contexts(self) -> list[TinyContext]:
        """All of them."""
        pool = load_pictures()
        return [make_context(pool, number, self.seed) for number in range(self.n_contexts)]

    def identity(self) -> dict[str, str | int]:
        """What records must have in common to be compared."""
        files = [file for file in (self.setup.model, self.setup.mmproj) if file]
        digest = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files))
        return {"suite": "tiny", "model": digest.hexdigest()[:16], "seed": self.seed}


def run_tiny(run: TinyRun, records: Records, progress: Callable[[int, int], None]) -> None:
    """Ask everything that the records do not hold yet; ``progress(done, total)`` counts contexts."""
    done = {_key(record) for record in records.all}
    contexts = run.contexts()
    caches = list(dict.fromkeys(arm.cache for arm in run.arms))
    total, n = len(caches) * len(run.places) * len(contexts), 0
    for cache in caches:
        arms = sorted((arm for arm in run.arms if arm.cache == cache), key=lambda arm: looks_at_window(arm.compression))
        setup = Setup(**{**vars(run.setup), "cache": cache})
        with Lab(setup, _MAX_TOKENS) as lab:
            # contexts come first, so that a run cut short has asked the same of every arm
            for context in contexts:
                for place in run.places:
                    for asked in _asked_at_once(context, place):
                        left = [arm for arm in arms if not _keys(context, place, arm, asked) <= done]
                        new = _ask(lab, context, place, asked, left)
                        records.add(record for record in new if _key(record) not in done)
                    n += 1
                    progress(n, total)


def _key(record: Record) -> tuple[str, str, int, str]:
    return record["place"], record["arm"], record["context"], record["task"]


def _keys(context: TinyContext, place: str, arm: Arm, asked: Sequence[TinyQuestion]) -> set[tuple[str, str, int, str]]:
    return {(place, arm.key, context.number, question.task) for question in asked}


def _asked_at_once(context: TinyContext, place: str) -> Iterator[tuple[TinyQuestion, ...]]:
    """Compressed before the question, one cache serves all; after it, each question has its own."""
    if place == "before":
        yield context.questions
    else:
        yield from ((question,) for question in context.questions)


def _ask(
    lab: Lab, context: TinyContext, place: str, asked: Sequence[TinyQuestion], arms: Sequence[Arm]
) -> list[Record]:
    before = place == "before"
    images = [picture.image for picture in context.pictures]
    lab.prompt(context.text, images, question="" if before else asked[0].text, before_question=before)
    texts = [question.text for question in asked] if before else [""]
    found: list[Record] = []
    for arm in arms:
        trials = lab.trial(arm.compression, texts, seed=context.number)
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
                "answer": trial.answer,
            }
            for question, trial in zip(asked, trials, strict=True)
        ]
    return found
