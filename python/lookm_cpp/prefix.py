"""A prompt's beginning that is read once, and asked about as often as one likes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lookm_cpp.answer_text import AnswerText
from lookm_cpp.brief import brief
from lookm_cpp.messages import with_own_images
from lookm_cpp.options import greedy_unless
from lookm_cpp.state_header import PrefixHeader
from lookm_cpp.statefile import PREFIX, read_state, write_state
from lookm_cpp.stats import Stats

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lookm_cpp.chat_types import ChatCompletion
    from lookm_cpp.llava import Llava
    from lookm_cpp.options import ChatOptions, CompletionOptions
    from lookm_cpp.place import Place
    from lookm_cpp.request import Request

Message = Mapping[str, Any]


class Prefix:
    """The beginning of a prompt, as ``Llava.read`` has read it.

    Each question is answered as if beginning and question were one prompt. Only the question is
    read: it is scored, and the cells are compressed for it, on a copy. The full cells stay in host
    memory, within the ``prefix_memory`` of the ``Llava``. If they had to make room for others, the
    next question reads the beginning again.

    A prefix does not hold the images' pixels: an image given as a file is opened for each question,
    and read anew if it shows something else by then. A saved one has the images' files in it.

    Attributes:
        stats: Statistics of the reading.
    """

    def __init__(
        self,
        llm: Llava,
        place: Place,
        request: Request,
        messages: Sequence[Message],
        stats: Stats,
    ) -> None:
        self._llm = llm
        self._place = place
        self._request = request
        self._messages = [*messages]
        self.stats = stats

    @property
    def cells(self) -> int:
        """Number of cells that are kept."""
        return self.stats.prompt_cells

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.cells} cells>"

    def ask(self, question: str, **options: Unpack[ChatOptions]) -> AnswerText:
        """Answer a question about what was read, greedily by default.

        A space is put between the two, unless one of them has white space there. White space around
        the answer is removed.

        Args:
            question: Text without images.
            **options: As in ``Llava.ask``.

        Raises:
            ValueError: The question is not a string, or as in ``Llava.create_chat_completion``.
        """
        options["temperature"] = greedy_unless(options.get("temperature"))
        completion = self._llm.create_chat_completion(self._asked(question), **options)
        return AnswerText.of_completion(completion)

    def stream(self, question: str, **options: Unpack[ChatOptions]) -> Iterator[str]:
        """As ``ask``, but yields the answer piece by piece."""
        options["temperature"] = greedy_unless(options.get("temperature"))
        chunks = self._llm.create_chat_completion(self._asked(question), stream=True, **options)
        pieces = (chunk["choices"][0]["delta"].get("content") for chunk in chunks)
        return (piece for piece in pieces if piece)

    def create_chat_completion(
        self, messages: Sequence[Message], **options: Unpack[CompletionOptions]
    ) -> ChatCompletion:
        """Answer messages that follow what was read.

        If the first of them is the user's, its content continues the turn that was read. It can
        have no other key then.

        Args:
            messages: As in ``Llava.create_chat_completion``, images included.
            **options: As there, without ``stream``.

        Raises:
            ValueError: ``messages`` is empty, or as there.
        """
        return self._llm.create_chat_completion(self._followed_by(messages), **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the cells, and the messages with their images, for ``Llava.load_prefix``.

        If this fails, the old file stays as it was. If the cells had to make room for others, they
        are read again.

        Raises:
            ValueError: The path is empty, or names something other than a regular file.
            OSError: The file cannot be written.
        """
        place, request = self._place, self._request
        messages = with_own_images(self._messages, place.max_pixels)
        with place.turns.hold():
            state = request.state(place.session)
        header = PrefixHeader(
            **place.origin(prefix_type=_type_of(place)).as_dict(),
            messages=messages,
        )
        write_state(path, header.as_dict(), state, PREFIX)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        llm: Llava,
        place: Place,
        request_of: Callable[[Sequence[Message]], Request],
    ) -> Prefix:
        """Load a prefix from a file; see ``Llava.load_prefix``."""
        found, state = read_state(path, PREFIX)
        name = f"prefix file {os.fspath(path)!r}"
        header = PrefixHeader.of(found, name)
        here = place.origin(prefix_type=_type_of(place))
        header.check(here, name, place.model, place.projector)
        request = request_of(header.messages)
        with place.turns.hold():
            cells = place.session.restore_prefix(state)
        return cls(llm, place, request, header.messages, Stats(cells, reused_cells=cells))

    def _asked(self, question: str) -> list[Message]:
        if not isinstance(question, str):
            raise ValueError(f"question is {brief(question)}, expected a string")
        parts = _parts(self._messages[-1])
        before = parts[-1].get("text", "") if parts and isinstance(parts[-1], Mapping) else ""
        space = "" if before[-1:].isspace() or question[:1].isspace() else " "
        return self._followed_by([{"role": "user", "content": f"{space}{question}"}])

    def _followed_by(self, messages: Sequence[Message]) -> list[Message]:
        if not messages:
            raise ValueError("messages is empty, expected at least one")
        first, last = messages[0], self._messages[-1]
        if not isinstance(first, Mapping) or first.get("role") != last["role"]:
            return [*self._messages, *messages]
        if {*first} != {"role", "content"} or not isinstance(first["content"], str | list):
            raise ValueError(
                f"messages[0] is {brief(first)}, expected role and content alone in what continues "
                "the turn that was read"
            )
        joined = {**last, "content": _joined(_parts(last), _parts(first))}
        return [*self._messages[:-1], joined, *messages[1:]]


def _type_of(place: Place) -> str:
    return place.session.prefix_type or "that of the cache"


def _joined(before: Sequence[Any], after: Sequence[Any]) -> list[Any]:
    """Both, with what meets in the middle as one text: templates may put something between two."""
    if not (before and after and _is_plain(before[-1]) and _is_plain(after[0])):
        return [*before, *after]
    text = {"type": "text", "text": before[-1]["text"] + after[0]["text"]}
    return [*before[:-1], text, *after[1:]]


def _is_plain(part: Any) -> bool:
    return isinstance(part, Mapping) and {*part} == {"type", "text"} and part["type"] == "text"


def _parts(message: Message) -> Sequence[Any]:
    content = message.get("content") or ""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
