"""The curriculum of stage 1: sizes of prompts, tasks and learning rate at each step."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable

from .config import Phase, Stage1
from .grammar import Question

# Share of the steps that take the largest size reached, before `_LONG` pictures; above it most
# steps stay at `_LONG`.
_AT_LARGEST = 0.5
_LONG = 8
_BEYOND_LONG = 0.2
# Weight of a step in the moving accuracies.
_NEW = 0.07
_TOKENS_PER_QUESTION = 24


class Curriculum:
    """Grows prompts when the gate task is learned, or when a phase says so at the latest."""

    def __init__(self, stage: Stage1) -> None:
        self.stage = stage
        self.largest = stage.sizes[0]
        self.accuracy: dict[str, float] = {}

    def phase(self, step: int) -> Phase:
        """The phase a step belongs to."""
        share = step / self.stage.steps
        return next(
            (phase for phase in self.stage.phases if share < phase.until), self.stage.phases[-1]
        )

    def rate_factor(self, step: int) -> float:
        """Warm-up, constant, linear decay."""
        left = 1 - step / self.stage.steps
        return min(1.0, (step + 1) / self.stage.warmup) * min(
            1.0, max(0.01, left / self.stage.decay)
        )

    def advance(self, step: int) -> str | None:
        """Grows the prompts if it is time to; says why."""
        sizes = self.stage.sizes
        forced = min(self.phase(step).min_pictures, sizes[-1])
        if forced > self.largest:
            self.largest, why = forced, "phase"
        elif (
            self.accuracy.get(self.stage.gate_task, 0.0) > self.stage.gate
            and self.largest < sizes[-1]
        ):
            self.largest, why = sizes[sizes.index(self.largest) + 1], "learned"
        else:
            return None
        self.accuracy = {}
        return why

    def draw_size(self, rng: random.Random) -> int:
        """Pictures in this step's prompts: often the most so far, else any size up to it."""
        chance = rng.random()
        if chance >= _AT_LARGEST:
            return rng.choice([size for size in self.stage.sizes if size <= self.largest])
        return self.largest if self.largest <= _LONG or chance < _BEYOND_LONG else _LONG

    def batch_shape(self, size: int, picture_tokens: int) -> tuple[int, int]:
        """Contexts in a step and questions for each, about `tokens` together."""
        questions = 10 + size // 2
        row = (picture_tokens + 3) * size + 20 + questions * _TOKENS_PER_QUESTION
        return max(2, round(self.stage.tokens / row)), questions

    def observe(self, size: int, answers: Iterable[tuple[Question, bool]]) -> None:
        """Moves the accuracies; small prompts tell nothing about the size being learned."""
        if size < 0.75 * min(self.largest, _LONG):
            return
        results = defaultdict(list)
        for question, right in answers:
            results[question.variant].append(right)
        for variant, rights in results.items():
            share = sum(rights) / len(rights)
            # The first observation counts half, so that one lucky step opens no gate.
            old = self.accuracy.get(variant)
            self.accuracy[variant] = share / 2 if old is None else old + _NEW * (share - old)

    def state(self) -> dict:
        """What was reached, for a checkpoint."""
        return {"largest": self.largest, "accuracy": dict(self.accuracy)}

    def load_state(self, state: dict) -> None:
        """Takes up what `state` returned."""
        self.largest, self.accuracy = state["largest"], dict(state["accuracy"])
