"""The text of an answer, with what belongs to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lookm_cpp.chat_types import ChatCompletion, FinishReason
from lookm_cpp.stats import Stats

if TYPE_CHECKING:
    from typing_extensions import Self


class AnswerText(str):
    """What ``ask`` returns: a ``str`` without white space around it.

    Attributes:
        stats: Statistics of its prompt and of itself; later prompts do not change them.
        finish_reason: ``"stop"`` if the model ended the answer, or a stop string came; ``"length"``
            if a limit ended it.
    """

    stats: Stats
    finish_reason: FinishReason

    @classmethod
    def of(cls, text: str, stats: Stats, finish_reason: FinishReason) -> Self:
        """Make one."""
        made = cls(text.strip())
        made.stats, made.finish_reason = stats, finish_reason
        return made

    @classmethod
    def of_completion(cls, completion: ChatCompletion) -> Self:
        """The content of the only answer."""
        (choice,), stats = completion["choices"], Stats.of_dict(completion["stats"])
        return cls.of(choice["message"]["content"], stats, choice["finish_reason"])
