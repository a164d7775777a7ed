"""Conversations held with every arm.

Every arm gets the same user turns; what the assistant said before is the arm's own. A turn is
compressed after it has been read, together with what is left of earlier turns, and then answered.
The first token of an answer comes from the reading of its turn: that turn whole, and earlier turns
as they were compressed before. With arms that keep all, a turn is compressed together with earlier
turns as they were read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import fmean

from lookm_cpp.conversation import Chat
from lookm_cpp.evaluation.arms import Arm
from lookm_cpp.evaluation.conversation_prompts import Conversation
from lookm_cpp.evaluation.records import Record, Records
from lookm_cpp.evaluation.suite import SuiteRun
from lookm_cpp.full_conversation import FullChat
from lookm_cpp.llava import Llava
from lookm_cpp.options import LlavaOptions
from lookm_cpp.stats import Stats

PLACE = "turns"
"""Where a conversation is compressed, as records and tables name it."""


def run_conversations(
    run: SuiteRun,
    conversations: Sequence[Conversation],
    records: Records,
    progress: Callable[[int, int], None],
) -> None:
    """Hold all conversations that have no record yet; ``progress(done, total)`` counts them."""
    done = {(record["arm"], record["context"]) for record in records.all}
    caches = list(dict.fromkeys(arm.cache for arm in run.arms))
    total, n = len(caches) * len(conversations), 0
    for cache in caches:
        with _open(run, cache) as llm:
            for conversation in conversations:
                for arm in run.arms:
                    if arm.cache == cache and (arm.key, conversation.number) not in done:
                        how = asdict(arm.compression)
                        chat = llm.chat(keep="all", **how) if arm.keeps_all else llm.chat(**how)
                        records.add(_held(chat, arm, conversation, run.max_tokens))
                n += 1
                progress(n, total)


def _open(run: SuiteRun, cache: str) -> Llava:
    options: LlavaOptions = {**run.setup.options, "type_k": cache, "type_v": cache, "seed": 0}
    return Llava(run.setup.model, mmproj=run.setup.mmproj or False, **options)


def _held(
    chat: Chat | FullChat, arm: Arm, conversation: Conversation, max_tokens: int
) -> list[Record]:
    """A record for each task: its mean score, and the cache after its last turn."""
    scores: dict[str, list[float]] = {}
    answers: dict[str, list[str]] = {}
    stats: dict[str, Stats] = {}
    for turn in conversation.turns:
        task = turn.question.task
        answer = chat.ask(
            turn.text,
            turn.images,
            context=turn.context or None,
            max_tokens=max_tokens,
        )
        scores.setdefault(task, []).append(turn.question.score(answer))
        answers.setdefault(task, []).append(answer)
        stats[task] = chat.stats
    return [
        {
            "place": PLACE,
            "arm": arm.key,
            "context": conversation.number,
            "task": task,
            "score": fmean(scores[task]),
            "prompt_cells": stats[task].prompt_cells,
            "kept_cells": stats[task].kept_cells,
            "kv_bytes": stats[task].kv_bytes_used_after,
            "attention_held": stats[task].attention_held,
            "answer": " | ".join(answers[task]),
        }
        for task in scores
    ]
