"""``lookm eval own``: how much a user's own prompts lose, with or without right answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from lookm_cpp.compression import Compression
from lookm_cpp.evaluation.arms import Arm, full_cache
from lookm_cpp.evaluation.fidelity import MEASURED_TOKENS, fidelity
from lookm_cpp.evaluation.lab import Lab, Setup, looks_at_window
from lookm_cpp.evaluation.own_prompts import OwnPrompt
from lookm_cpp.evaluation.records import Record, Records
from lookm_cpp.evaluation.statistics import Interval, mean_of
from lookm_cpp.evaluation.suite import model_digest


@dataclass(frozen=True)
class OwnRun:
    """A run: what is asked, and of which model.

    Attributes:
        setup: The model.
        arms: The ways of holding a prompt that are compared with the full cache.
        prompts: The prompts.
        max_tokens: Maximum number of tokens in an answer.
        given: Fields of ``Compression`` for all methods.
    """

    setup: Setup
    arms: Sequence[Arm]
    prompts: Sequence[OwnPrompt]
    max_tokens: int
    given: Mapping[str, Any] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """What records must share to be comparable; prompts count with their images."""
        digest = hashlib.sha256()
        for prompt in self.prompts:
            told = (prompt.line, prompt.prompt, prompt.contexts, prompt.answer)
            digest.update(repr(told).encode())
            for image in prompt.images:
                digest.update(hashlib.sha256(image.read_bytes()).digest())
        return {
            "suite": "own",
            "model": model_digest(self.setup),
            "prompts": digest.hexdigest()[:16],
            "max_tokens": self.max_tokens,
            **self.given,
        }


def run_own(run: OwnRun, records: Records, progress: Callable[[int, int], None]) -> None:
    """Ask everything that has no record yet; ``progress(done, total)`` counts prompts."""
    done = {(record["line"], record["arm"]) for record in records.all}
    # arms that look at the same window, which takes a reading of its own, one after the other
    arms = sorted(run.arms, key=lambda arm: (looks_at_window(arm.compression), arm.name))
    with Lab(run.setup, run.max_tokens) as lab:
        for n, prompt in enumerate(run.prompts, 1):
            left = [arm for arm in arms if (prompt.line, arm.key) not in done]
            if left:
                try:
                    _ask(lab, prompt, left, records)
                except ValueError as error:
                    raise ValueError(f"{prompt.place}: {error}") from error
            progress(n, len(run.prompts))


def _ask(lab: Lab, prompt: OwnPrompt, arms: Sequence[Arm], records: Records) -> None:
    lab.prompt(prompt.prompt, [str(image) for image in prompt.images], contexts=prompt.contexts)
    (full,) = lab.trial(Compression())
    along = full.tokens[:MEASURED_TOKENS]
    rows = [*lab.distributions(Compression(), along)]
    for arm in arms:
        (trial,) = lab.trial(arm.compression, seed=prompt.line)
        others = lab.distributions(arm.compression, along, seed=prompt.line)
        close = fidelity(zip(rows, others, strict=True))
        records.add(
            [
                {
                    "line": prompt.line,
                    "arm": arm.key,
                    "answer": trial.answer,
                    "same_answer": trial.answer == full.answer,
                    "right": prompt.is_right(trial.answer),
                    "fidelity": close and close.as_dict(),
                    "prompt_cells": trial.prompt_cells,
                    "kept_cells": trial.kept_cells,
                    "kv_bytes": trial.kv_bytes,
                    "attention_held": trial.attention_held,
                }
            ]
        )


@dataclass(frozen=True)
class OwnRow:
    """What one arm did.

    Attributes:
        method: Name of the arm.
        ratio: The ``kv_ratio`` that was asked for; ``None`` for the full cache.
        prompts: Number of prompts.
        measured: Of these, prompts whose full answer is not empty, so that it can be read along.
        kl_divergence: Mean over these of the mean KL divergence along the answer, in nats, and its
            95 % interval; ``None`` if there are none.
        top1_agreement: Mean over these of the top-1 agreement along the answer.
        same_answer: Fraction of the answers that equal the full cache's, character by character.
        with_answer: Number of prompts whose right answer is known.
        right: Fraction of these that were answered right; ``None`` if there are none.
        kept_share: Kept cells divided by all cells, over all prompts.
        kv_bytes: Mean bytes of the kept cells.
    """

    method: str
    ratio: float | None
    prompts: int
    measured: int
    kl_divergence: Interval | None
    top1_agreement: float | None
    same_answer: float
    with_answer: int
    right: float | None
    kept_share: float
    kv_bytes: float

    def as_dict(self) -> dict[str, Any]:
        """The row as a dict, ready for JSON."""
        return asdict(self)


def rows_of(run: OwnRun, records: Sequence[Record]) -> list[OwnRow]:
    """A row for each arm; there must be records of every prompt."""
    by_arm: dict[str, list[Record]] = {}
    for record in records:
        by_arm.setdefault(record["arm"], []).append(record)
    return [_row(arm, by_arm[arm.key]) for arm in run.arms]


def _row(arm: Arm, found: Sequence[Record]) -> OwnRow:
    measured = [record["fidelity"] for record in found if record["fidelity"]]
    right = [record["right"] for record in found if record["right"] is not None]
    divergences = np.array([one["kl_divergence"] for one in measured])
    kept, cells = (sum(record[name] for record in found) for name in ("kept_cells", "prompt_cells"))
    return OwnRow(
        arm.name,
        arm.budget,
        len(found),
        len(measured),
        mean_of(divergences) if measured else None,
        fmean(one["top1_agreement"] for one in measured) if measured else None,
        fmean(record["same_answer"] for record in found),
        len(right),
        fmean(right) if right else None,
        kept / cells,
        fmean(record["kv_bytes"] for record in found),
    )


def with_full_cache(arms: Sequence[Arm]) -> list[Arm]:
    """The full cache, which all others are compared with, and then the others."""
    full = full_cache()
    return [full, *(arm for arm in arms if arm.key != full.key)]
