"""Packs one context and many questions into a batch; each question sees only the context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from tokenizers import Tokenizer

from .grammar import Context, Question
from .tokenizer import BEGIN, END

PICTURE = -1
"""Stands for one token of a picture; the pictures' embeddings are filled in in order."""
IGNORED = -100
# Lengths are rounded up, so that few different shapes occur.
_ROUND = 64
_PADDING_SEGMENT = -1


@dataclass(frozen=True)
class Span:
    """Where in its row a question's answer is predicted: positions begin <= t < end."""

    question: Question
    begin: int
    end: int


@dataclass(frozen=True)
class Batch:
    """`ids`, `positions`, `targets` [B, T]; `mask` bool [B, 1, T, T], true = may attend.

    `pictures` is [B * pictures]. `targets` at t is the token after t inside answers and IGNORED
    elsewhere. `spans` are listed by row.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    mask: torch.Tensor
    pictures: torch.Tensor
    spans: list[list[Span]]


@dataclass
class _Row:
    ids: list[int]
    segments: list[int]
    positions: list[int]
    targets: list[int]
    spans: list[Span]


class Packer:
    """Turns contexts and questions into batches."""

    def __init__(self, tokenizer: Tokenizer, picture_tokens: int) -> None:
        self.begin, self.end = tokenizer.token_to_id(BEGIN), tokenizer.token_to_id(END)
        self.picture_tokens = picture_tokens
        self.encode = lru_cache(maxsize=100_000)(lambda text: tuple(tokenizer.encode(text).ids))

    def context_ids(self, leads: Sequence[str]) -> list[int]:
        """<s>, then every lead with its picture's places behind it."""
        ids = [self.begin]
        for lead in leads:
            ids += [*self.encode(lead), *[PICTURE] * self.picture_tokens]
        return ids

    def batch(self, contexts: Sequence[Context], questions: Sequence[Sequence[Question]]) -> Batch:
        """Packs the questions of every context behind it."""
        rows = [
            self._row(context, asked) for context, asked in zip(contexts, questions, strict=True)
        ]
        longest = max(len(row.ids) for row in rows)
        length = -(-longest // _ROUND) * _ROUND

        def padded(lists: list[list[int]], value: int) -> torch.Tensor:
            return torch.tensor([values + [value] * (length - len(values)) for values in lists])

        segments = padded([row.segments for row in rows], _PADDING_SEGMENT)
        same = segments[:, :, None] == segments[:, None, :]
        in_context = (segments == 0)[:, None, :]
        return Batch(
            ids=padded([row.ids for row in rows], self.end),
            positions=padded([row.positions for row in rows], 0),
            targets=padded([row.targets for row in rows], IGNORED),
            mask=((same | in_context) & torch.ones(length, length, dtype=torch.bool).tril())[
                :, None
            ],
            pictures=torch.tensor([number for context in contexts for number in context.pictures]),
            spans=[row.spans for row in rows],
        )

    def _row(self, context: Context, questions: Sequence[Question]) -> _Row:
        """A context (segment 0) and its questions (from 1), whose positions start at its end."""
        ids = self.context_ids(context.leads)
        start = len(ids)
        row = _Row(ids, [0] * start, list(range(start)), [IGNORED] * start, [])
        for segment, question in enumerate(questions, start=1):
            asked, answered = (
                self.encode(question.prompt),
                (*self.encode(question.answer), self.end),
            )
            first = len(row.ids) + len(asked) - 1
            row.spans.append(Span(question, first, first + len(answered)))
            row.ids += [*asked, *answered]
            row.segments += [segment] * (len(asked) + len(answered))
            row.positions += range(start, start + len(asked) + len(answered))
            row.targets += [*[IGNORED] * (len(asked) - 1), *answered, IGNORED]
        return row


def right_answers(predicted: torch.Tensor, batch: Batch) -> list[tuple[Question, bool]]:
    """Whether each answer is predicted whole, `predicted` [B, T] being the likeliest next tokens.

    Under teacher forcing that is the same as getting the answer by greedy decoding.
    """
    hit = (predicted == batch.targets).tolist()
    return [
        (span.question, all(hit[row][span.begin : span.end]))
        for row, spans in enumerate(batch.spans)
        for span in spans
    ]
