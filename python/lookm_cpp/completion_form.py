"""How the result of a completion looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lookm_cpp.brief import brief
from lookm_cpp.sizes import index
from lookm_cpp.words import flag

MOST_TOP = 20
"""As many alternatives of a token as OpenAI's API gives."""
MOST_ANSWERS = 128


@dataclass(frozen=True)
class CompletionForm:
    """What ``create_chat_completion`` is asked to return.

    Attributes:
        n: Number of answers.
        n_top: Number of alternatives to give for each token; ``None`` for no log-probabilities.
        usage: Whether a stream ends with the numbers of tokens.
    """

    n: int = 1
    n_top: int | None = None
    usage: bool = False

    @classmethod
    def taken_from(cls, given: dict[str, Any]) -> CompletionForm:
        """Take the arguments that concern the form from ``given``.

        Raises:
            ValueError: One of them is invalid.
        """
        n = given.pop("n", None)
        n = 1 if n is None else index("n", n)
        if not 1 <= n <= MOST_ANSWERS:
            raise ValueError(f"n is {n}, expected 1 to {MOST_ANSWERS}")
        top = given.pop("top_logprobs", None)
        wants = flag("logprobs", given.pop("logprobs", None) or False)
        if top is not None and not wants:
            raise ValueError(f"top_logprobs is {brief(top)}, expected logprobs=True beside it")
        if not 0 <= (0 if top is None else index("top_logprobs", top)) <= MOST_TOP:
            raise ValueError(f"top_logprobs is {top}, expected 0 to {MOST_TOP}")
        user = given.pop("user", None)
        if user is not None and not isinstance(user, str):
            raise ValueError(f"user is {brief(user)}, expected a string")
        return cls(n, int(top or 0) if wants else None, _usage(given.pop("stream_options", None)))


def _usage(stream_options: Mapping[str, Any] | None) -> bool:
    if stream_options is None:
        return False
    if not isinstance(stream_options, Mapping):
        raise ValueError(f"stream_options is {brief(stream_options)}, expected a dict")
    return flag("stream_options.include_usage", stream_options.get("include_usage") or False)
