"""A prompt's beginning that is read once, and asked about as often as one likes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lookm_cpp.brief import brief
from lookm_cpp.options import greedy_unless

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lookm_cpp.chat_types import ChatCompletion
    from lookm_cpp.llava import Llava
    from lookm_cpp.options import ChatOptions

Message = Mapping[str, Any]


class Prefix:
    """The beginning of a prompt, as ``Llava.read`` has read it.

    Each question is answered as if beginning and question were one prompt. Only the question is
    read: it is scored, and the cells are compressed for it, on a copy. The full cells stay in host
    memory, within the ``prefix_memory`` of the ``Llava``. If they had to make room for others, the
    next question reads the beginning again.

    A prefix does not hold the images' pixels: an image given as a file is opened for each question,
    and read anew if it shows something else by then.

    Attributes:
        cells: Number of cells that are kept.
    """

    def __init__(self, llm: Llava, messages: Sequence[Message], cells: int) -> None:
        self._llm = llm
        self._messages = [*messages]
        self.cells = cells

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.cells} cells>"

    def ask(self, question: str, **options: Unpack[ChatOptions]) -> str:
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
        return completion["choices"][0]["message"]["content"].strip()

    def stream(self, question: str, **options: Unpack[ChatOptions]) -> Iterator[str]:
        """As ``ask``, but yields the answer piece by piece."""
        options["temperature"] = greedy_unless(options.get("temperature"))
        chunks = self._llm.create_chat_completion(self._asked(question), stream=True, **options)
        pieces = (chunk["choices"][0]["delta"].get("content") for chunk in chunks)
        return (piece for piece in pieces if piece)

    def create_chat_completion(
        self, messages: Sequence[Message], **options: Unpack[ChatOptions]
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

    def _asked(self, question: str) -> list[Message]:
        if not isinstance(question, str):
            raise ValueError(f"question is {brief(question)}, expected a string")
        before = _parts(self._messages[-1])[-1].get("text", "")
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


def _joined(before: Sequence[Any], after: Sequence[Any]) -> list[Any]:
    """Both, with what meets in the middle as one text: templates may put something between two."""
    if not (before and after and _is_plain(before[-1]) and _is_plain(after[0])):
        return [*before, *after]
    text = {"type": "text", "text": before[-1]["text"] + after[0]["text"]}
    return [*before[:-1], text, *after[1:]]


def _is_plain(part: Any) -> bool:
    return isinstance(part, Mapping) and {*part} == {"type", "text"} and part["type"] == "text"


def _parts(message: Message) -> Sequence[Any]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
