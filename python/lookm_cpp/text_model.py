"""What a model does with text that no chat template has made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from lookm_cpp.brief import brief
from lookm_cpp.completion_form import CompletionForm
from lookm_cpp.files import check_text
from lookm_cpp.images import Images
from lookm_cpp.open_model import OpenModel
from lookm_cpp.reply import TextReply
from lookm_cpp.request import Request
from lookm_cpp.sizes import whole
from lookm_cpp.words import flag

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lookm_cpp.chat_types import TextCompletion
    from lookm_cpp.options import ChatOptions, TextCompletionOptions, TextOptions

TEXT_TOKENS = 16
TEXT_TEMPERATURE = 0.8
"""llama-cpp-python's defaults for a text."""


class TextModel(OpenModel):
    """Continues texts, and counts tokens."""

    @overload
    def create_completion(
        self,
        prompt: str,
        images: Images = (),
        *,
        stream: Literal[False] = False,
        **options: Unpack[TextCompletionOptions],
    ) -> TextCompletion: ...
    @overload
    def create_completion(
        self,
        prompt: str,
        images: Images = (),
        *,
        stream: Literal[True],
        **options: Unpack[TextCompletionOptions],
    ) -> Iterator[TextCompletion]: ...
    def create_completion(
        self,
        prompt: str,
        images: Images = (),
        *,
        stream: bool = False,
        **options: Unpack[TextCompletionOptions],
    ) -> TextCompletion | Iterator[TextCompletion]:
        """Continue a text as it is, without a chat template.

        A prompt without images is compressed as a whole, as far as its method lets text go.

        Args:
            prompt: The text. With images, each ``<image>`` in it stands for one.
            images: As in ``ask``.
            stream: Return an iterator over pieces of the text.
            **options: The options of ``create_chat_completion`` that do not concern messages, with
                llama-cpp-python's defaults: ``max_tokens`` 16, ``temperature`` 0.8. ``echo=True``
                puts the prompt before the text. ``logprobs`` is a number here: that of the
                alternatives, up to 20, to give beside the log-probability of each token.

        Returns:
            A dict of the form ``TextCompletion``, or an iterator of them.

        Raises:
            ValueError: As in ``create_chat_completion``.

        >>> with Llava.embedded() as llm:
        ...     made = llm.create_completion("Image 1 shows", temperature=0, max_tokens=4)
        ...     made["usage"]["completion_tokens"]
        4
        """
        self._check_open()
        given: dict[str, Any] = {"max_tokens": TEXT_TOKENS, **options}
        if given.get("temperature") is None:
            given["temperature"] = TEXT_TEMPERATURE
        echo = flag("echo", given.pop("echo", None) or False)
        n_top = given.pop("logprobs", None)
        if n_top is not None:
            given |= {"logprobs": True, "top_logprobs": n_top}
        form = CompletionForm.taken_from(given)
        request = Request.of_text(
            self._session,
            prompt,
            images,
            cast("TextOptions", given),
            compression=self._compression,
            seed=self._seed,
            max_pixels=self._max_pixels,
        )
        reply = TextReply(self._name, prompt if echo else "")
        return (
            self._completer.stream(request, form, reply)
            if flag("stream", stream)
            else self._completer.whole(request, form, reply)
        )

    __call__ = create_completion

    def tokenize(self, text: bytes | str, add_bos: bool = True, special: bool = False) -> list[int]:
        """The tokens of a text.

        Args:
            text: Text, or its bytes in UTF-8.
            add_bos: Put the token in front that begins a prompt, if the model has one.
            special: Read names of control tokens in the text as those tokens.

        Raises:
            ValueError: It is not a text.
        """
        self._check_open()
        if isinstance(text, bytes):
            try:
                text = text.decode()
            except UnicodeDecodeError as error:
                raise ValueError(f"text: {error}, expected bytes in UTF-8") from None
        if not isinstance(text, str):
            raise ValueError(f"text is {brief(text)}, expected text or its bytes")
        check_text(text, "text")
        begin = self._session.begin_token if flag("add_bos", add_bos) else None
        tokens = self._session.tokens_of(text, flag("special", special))
        return tokens if begin is None else [begin, *tokens]

    def detokenize(self, tokens: Sequence[int], special: bool = False) -> bytes:
        """The text of tokens in UTF-8, which may be cut within a character.

        Args:
            tokens: The tokens.
            special: Write control tokens by their names; else they have no text.

        Raises:
            ValueError: The model does not have one of them.
        """
        self._check_open()
        if not isinstance(tokens, Sequence):
            raise ValueError(f"tokens is {brief(tokens)}, expected a list of numbers")
        given = [whole("tokens", token) for token in tokens]
        return self._session.text_of(given, flag("special", special))

    def n_tokens_of(
        self, messages: Sequence[Mapping[str, Any]], **options: Unpack[ChatOptions]
    ) -> int:
        """Number of cells that messages would take, images included; nothing is read.

        Args:
            messages: As in ``create_chat_completion``.
            **options: As there, as far as they change the prompt.

        Raises:
            ValueError: As there.
        """
        self._check_open()
        request = self._request(messages, options)
        with self._turns.hold():
            self._check_open()
            return request.n_cells(self._session)

    def _request(self, messages: Sequence[Mapping[str, Any]], options: Any) -> Request:
        return Request.of(
            self._session,
            messages,
            options,
            compression=self._compression,
            seed=self._seed,
            max_pixels=self._max_pixels,
        )
