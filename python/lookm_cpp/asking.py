"""``lookm ask``: one question, with one cache or with two."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from lookm_cpp import embedded
from lookm_cpp.chat import question_messages
from lookm_cpp.console import print_json, prompt_progress, side_by_side, stats_line, stats_rows
from lookm_cpp.images import ImageLike
from lookm_cpp.llava import Llava
from lookm_cpp.stats import Stats

if TYPE_CHECKING:
    from lookm_cpp.options import ChatOptions


@dataclass(frozen=True)
class Run:
    """An answer and what it took."""

    answer: str
    finish_reason: str | None
    stats: Stats

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "answer": self.answer,
            "finish_reason": self.finish_reason,
            "stats": self.stats.as_dict(),
        }


@dataclass(frozen=True)
class Question:
    """What is asked, and about what."""

    text: str
    images: Sequence[ImageLike] = ()
    contexts: Sequence[str] = ()
    system: str | None = None


def open_model(
    model: str, mmproj: str | Literal[False] | None, options: Mapping[str, Any]
) -> Llava:
    """The model of a command line, with the library's options."""
    if model == embedded.NAME:
        return Llava.embedded(**options)
    return Llava(model, mmproj=mmproj, **options)


def run(llm: Llava, question: Question, options: ChatOptions, *, echo: bool = False) -> Run:
    """Ask, with progress on stderr; ``echo`` writes the answer to stdout as it comes."""
    with prompt_progress() as progress:
        shown: ChatOptions = {**options, "progress": progress}
        messages = question_messages(
            question.text, question.images, question.contexts, question.system
        )
        chunks = llm.create_chat_completion(messages, stream=True, **shown)
    answer = ""
    reason: str | None = None
    for chunk in chunks:
        choice = chunk["choices"][0]
        reason = choice["finish_reason"]
        longer = (answer + choice["delta"].get("content", "")).lstrip()
        if echo:
            sys.stdout.write(longer[len(answer) :])
            sys.stdout.flush()
        answer = longer
    if echo:
        sys.stdout.write("\n")
    return Run(answer.rstrip(), reason, llm.stats)


def ask_once(llm: Llava, question: Question, options: ChatOptions, *, as_json: bool) -> None:
    """Answer on stdout, a line about it on stderr; or both as JSON."""
    result = run(llm, question, options, echo=not as_json)
    if as_json:
        print_json({"model": llm.model_name, "question": question.text, **result.as_dict()})
    else:
        sys.stderr.write(f"[{stats_line(result.stats)}]\n")


def ask_twice(llm: Llava, question: Question, options: ChatOptions, *, as_json: bool) -> None:
    """The same question with the full and with the compressed cache, side by side."""
    full = run(llm, question, {**options, "kv_ratio": 1.0})
    small = run(llm, question, options)
    if as_json:
        runs = {"full": full.as_dict(), "compressed": small.as_dict()}
        print_json({"model": llm.model_name, "question": question.text, **runs})
        return
    rows = [["answer", full.answer, small.answer], *stats_rows((full.stats, small.stats))]
    if small.stats.note:
        rows.append(["note", full.stats.note, small.stats.note])
    Console(highlight=False).print(
        side_by_side(("full cache", f"compressed by {small.stats.method}"), rows)
    )
