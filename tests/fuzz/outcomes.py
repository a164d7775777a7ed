"""What became of an input."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from enum import Enum


class Kind(str, Enum):
    """``taken`` and ``refused`` are right; whatever else is a fault."""

    TAKEN = "taken"
    REFUSED = "refused"
    WRONG_ERROR = "wrong error"
    DEATH = "death"
    HANG = "hang"
    WRONG_ANSWER = "wrong answer after it"


RIGHT = (Kind.TAKEN, Kind.REFUSED)

_SIGNATURE = re.compile(r"incompatible (function|constructor) arguments|Unable to cast Python")
_BARE = re.compile(
    r"^$|^(?:std|unordered_map|map|vector|basic_string)::|^(?:stoi|stof|stoul)$|^bad_"
    r"|json\.exception|^GGML_ASSERT|^'[\w-]+' codec can't|^'\w*'$"
    r"|object (?:has no attribute|is not (?:subscriptable|iterable))"
)
"""Messages that were made for programmers."""


@dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes:
        kind: Taken, refused, or how it went wrong.
        where: What tells one fault from another: the exception and where it was raised, a signal.
        detail: The message.
    """

    kind: Kind
    where: str = ""
    detail: str = ""

    @property
    def right(self) -> bool:
        return self.kind in RIGHT

    def same_fault(self, other: Outcome) -> bool:
        return (self.kind, self.where) == (other.kind, other.where)


def of_error(error: BaseException, documented: tuple[type[Exception], ...] = ()) -> Outcome:
    """Refused, if it is an error that callers are told to expect, with words that say something.

    >>> of_error(ValueError("n_ctx is -1, expected 0 or more")).kind.value
    'refused'
    >>> of_error(KeyError("turns")).kind.value, of_error(ValueError("")).kind.value
    ('wrong error', 'wrong error')
    """
    text = str(error)
    expected = type(error) in (ValueError, MemoryError) or isinstance(error, documented)
    if isinstance(error, TypeError):  # Python's own say nothing of what was expected
        expected &= "expected" in text
    if (
        expected
        and not _SIGNATURE.search(text)
        and (isinstance(error, MemoryError) or not _BARE.search(text))
    ):
        return Outcome(Kind.REFUSED, type(error).__name__, text)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "lookm_cpp" in frame.filename] or frames
    place = f" in {ours[-1].filename.rpartition('/')[2]}: {ours[-1].name}" if ours else ""
    shown = "".join(traceback.format_exception(error))[-4000:]
    return Outcome(Kind.WRONG_ERROR, f"{type(error).__name__}{place}", shown)
