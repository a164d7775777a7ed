"""One prompt, together with all options for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from lookm_cpp import _core
from lookm_cpp.answer import Answer, answer_cells, stop_strings
from lookm_cpp.compression import Compression, compression_of
from lookm_cpp.images import Images
from lookm_cpp.messages import TemplateInput, template_input, text_input
from lookm_cpp.options import RANDOM_SEED, Sampling, method_seed, sampling_of
from lookm_cpp.template_request import prompt_of
from lookm_cpp.words import flag

if TYPE_CHECKING:
    from lookm_cpp.options import CompletionOptions, Progress, TextOptions


Result = TypeVar("Result")


@dataclass(frozen=True)
class Request:
    """A request whose options have been checked before its prompt is read.

    Attributes:
        text: The prompt, with markers for images and contexts.
        prompt: The prompt as its chat template made it, which tells the form of the answer;
            ``None`` for a text that is not of a template.
        found: The messages, their images and contexts.
        compression: How the prompt is compressed.
        sampling: How the tokens of the answer are chosen.
        stops: Strings that end the answer.
        max_tokens: Maximum number of tokens in the answer; ``None`` for no limit.
        n_answer: Number of cells to reserve for the answer.
        progress: Called while the prompt is read.
        reuse: Go on from what an earlier prompt began with, and keep what this one begins with.
    """

    text: str
    prompt: _core.ChatPrompt | None
    found: TemplateInput
    compression: _core.Compression
    sampling: Sampling
    stops: tuple[str, ...]
    max_tokens: int | None
    n_answer: int
    progress: Progress | None
    reuse: bool

    @classmethod
    def of(
        cls,
        session: _core.Session,
        messages: Sequence[Mapping[str, Any]],
        options: CompletionOptions,
        *,
        compression: Compression,
        seed: int,
        max_pixels: int,
    ) -> Request:
        """Make a request from the arguments of ``create_chat_completion``.

        The last three arguments are the defaults of what ``options`` do not set.

        Raises:
            ValueError: An argument is invalid, or the messages cannot be used.
            TypeError: There is no option of that name.
        """
        given: dict[str, Any] = {**options}
        found = template_input(messages, session.media_marker, session.context_marker, max_pixels)
        prompt = prompt_of(session, found.messages, given)
        return cls._made(
            session, found, prompt.text, prompt, given, compression=compression, seed=seed
        )

    @classmethod
    def of_text(
        cls,
        session: _core.Session,
        text: str,
        images: Images,
        options: TextOptions,
        *,
        compression: Compression,
        seed: int,
        max_pixels: int,
    ) -> Request:
        """Make a request from the arguments of ``create_completion``.

        Raises:
            ValueError: As ``of`` does, or the numbers of placeholders and of images differ.
            TypeError: There is no option of that name.
        """
        marked, found = text_input(text, images, session.media_marker, max_pixels)
        return cls._made(
            session, found, marked, None, {**options}, compression=compression, seed=seed
        )

    @classmethod
    def _made(
        cls,
        session: _core.Session,
        found: TemplateInput,
        text: str,
        prompt: _core.ChatPrompt | None,
        given: dict[str, Any],
        *,
        compression: Compression,
        seed: int,
    ) -> Request:
        how = compression_of(compression, given)
        stops, max_tokens = stop_strings(given.pop("stop", None)), given.pop("max_tokens", None)
        progress = given.pop("progress", None)
        reuse = flag("reuse", given.pop("reuse", True))
        given["seed"] = seed if given.get("seed") is None else given["seed"]
        sampling = sampling_of(**given)
        session.check_sampling(prompt, **sampling)
        return cls(
            text=text,
            prompt=prompt,
            n_answer=answer_cells(max_tokens, session.n_ctx),
            found=found,
            compression=how.core(method_seed(sampling)),
            sampling=sampling,
            stops=(*stops, *(prompt.stops if prompt else ())),
            max_tokens=max_tokens,
            progress=progress,
            reuse=reuse,
        )

    def numbered(self, i: int) -> Request:
        """The request for answer ``i`` of several, which has a seed of its own."""
        seed = self.sampling["seed"]
        if i == 0 or seed == RANDOM_SEED:
            return self
        own: Sampling = {**self.sampling, "seed": (seed + i) % RANDOM_SEED}
        return replace(self, sampling=own)

    def begin(
        self, session: _core.Session, *, explain: bool = False, n_top: int | None = None
    ) -> Answer:
        """Read the prompt and begin its answer; the caller holds the session."""
        self.read(session, explain=explain)
        return self.answer(session, n_top=n_top)

    def read(self, session: _core.Session, *, explain: bool = False) -> None:
        """Read the prompt."""
        self._by(session.prefill, n_answer=self.n_answer, explain=explain, reuse=self.reuse)

    def keep(self, session: _core.Session) -> int:
        """Read what can be reused of the prompt, and keep it; the number of its cells."""
        return self._by(session.keep_prefix)

    def state(self, session: _core.Session) -> bytes:
        """What ``keep`` has kept, for another session; the caller holds this one."""
        return self._by(session.prefix_state)

    def n_cells(self, session: _core.Session) -> int:
        """Number of cells of the prompt, which is not read; the caller holds the session."""
        return self._by(session.n_cells_of)

    def _by(self, reading: Callable[..., Result], **more: Any) -> Result:
        """Call one of the session's functions that read a prompt."""
        return reading(
            self.text,
            self.found.images,
            self.compression,
            contexts=self.found.contexts,
            progress=self.progress,
            **more,
        )

    def answer(
        self,
        session: _core.Session,
        watch: Callable[[], None] | None = None,
        n_top: int | None = None,
    ) -> Answer:
        """Begin the answer to the prompt that was read; the last two as in ``Answer``."""
        session.start(self.prompt, **self.sampling)
        return Answer(session, self.stops, self.max_tokens, watch, n_top)
