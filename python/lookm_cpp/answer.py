"""From a session's token bytes to the text that a user sees."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from lookm_cpp.brief import brief
from lookm_cpp.chat_types import FinishReason, TokenLogProb
from lookm_cpp.log_probs import last_token
from lookm_cpp.sizes import index

if TYPE_CHECKING:
    from lookm_cpp import _core


def stop_strings(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """``stop`` as llama-cpp-python takes it: ``None``, one string, or several.

    Raises:
        ValueError: One of them is not a string or is empty.
    """
    if stop is not None and not isinstance(stop, Iterable):
        raise ValueError(f"stop is {brief(stop)}, expected a string or several")
    strings = (stop,) if isinstance(stop, str) else tuple(stop or ())
    for string in strings:
        if not isinstance(string, str) or not string:
            raise ValueError(f"stop has {brief(string)}, expected strings that are not empty")
    return strings


def answer_cells(max_tokens: int | None, n_ctx: int) -> int:
    """Number of cells to reserve for an answer; 0 if only the context limits it.

    Raises:
        ValueError: ``max_tokens`` is not a whole number.

    >>> answer_cells(64, 4096), answer_cells(None, 4096), answer_cells(10000, 4096)
    (64, 0, 4096)
    """
    return 0 if max_tokens is None else min(max(0, index("max_tokens", max_tokens)), n_ctx)


class TextStream:
    """Holds text back while it may be part of a character or of a stop string.

    >>> stream = TextStream(["END"])
    >>> [stream.feed(piece) for piece in (b"to\\xc3", b"\\xa9 E", b"N", b"T E", b"NDless")]
    ['to', 'é ', '', 'ENT ', '']
    >>> stream.stopped
    True
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self.stopped = False
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = stop
        self._held = ""

    def feed(self, piece: bytes) -> str:
        """Take the bytes of a token, and return the text that is certain now."""
        self._held += self._decoder.decode(piece)
        ends = [at for string in self._stop if (at := self._held.find(string)) >= 0]
        if ends:
            self.stopped = True
            text, self._held = self._held[: min(ends)], ""
            return text
        cut = len(self._held) - self._begun_stop()
        text, self._held = self._held[:cut], self._held[cut:]
        return text

    def flush(self) -> str:
        """The text still held back, at the end; bytes of an incomplete character are dropped."""
        text, self._held = self._held, ""
        return text

    def _begun_stop(self) -> int:
        """Length of the longest end of the held text that a stop string begins with."""
        begun = (
            n
            for string in self._stop
            for n in range(1, len(string))
            if self._held.endswith(string[:n])
        )
        return max(begun, default=0)


class Answer:
    """One answer while it is generated: an iterator over its text, in pieces that are not empty.

    Attributes:
        tokens: The tokens so far.
        finish_reason: Why it ended; valid once the iterator is exhausted.

    Args:
        session: The session, in which an answer has been started.
        stop: Strings that end the answer.
        max_tokens: Maximum number of tokens; ``None`` or a number below 1 for those that fit.
        watch: Called after each choice of a token but the first, also after that of the end.
        n_top: Number of alternatives to each token for ``new_log_probs``; ``None`` for neither.
    """

    def __init__(
        self,
        session: _core.Session,
        stop: Sequence[str],
        max_tokens: int | None,
        watch: Callable[[], None] | None = None,
        n_top: int | None = None,
    ) -> None:
        self.tokens: list[int] = []
        self.finish_reason: FinishReason = "stop"
        self._session = session
        # Under a cap there is always a free cell, so something else must end the answer.
        self._limit = max_tokens if max_tokens is not None and max_tokens > 0 else session.n_ctx
        self._stream = TextStream(stop)
        self._ended = False
        self._watch = watch
        self._n_top = n_top
        self._log_probs: list[TokenLogProb] = []

    @property
    def n_tokens(self) -> int:
        """Number of tokens so far."""
        return len(self.tokens)

    def new_log_probs(self) -> list[TokenLogProb] | None:
        """Of the tokens since the last call; ``None`` if they were not asked for."""
        if self._n_top is None:
            return None
        found, self._log_probs = self._log_probs, []
        return found

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while not self._ended:
            if text := self._step():
                return text
        raise StopIteration

    def _step(self) -> str:
        if self.n_tokens == self._limit or not self._session.can_continue:
            self.finish_reason = "length"
            piece = None
        else:
            piece = self._session.next()
            if self._watch and self.tokens:
                self._watch()
        if piece is None:
            self._ended = True
            return self._stream.flush()
        token = self._session.token
        assert token is not None, "next() has just given it"
        self.tokens.append(token)
        if self._n_top is not None:
            self._log_probs.append(last_token(self._session, self._n_top))
        text = self._stream.feed(piece)
        self._ended = self._stream.stopped
        return text
